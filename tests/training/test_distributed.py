"""Two processes end with the weights of one, for every trained method."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hyperadapt.errors import InputError
from hyperadapt.heads.image_norm import ImageNorm
from hyperadapt.methods import load_method
from hyperadapt.training import ALONE, World, process_group, train
from hyperadapt.training.sampling import Batch
from hyperadapt.training.step import StepLosses, Stepper
from hyperadapt.training_config import TrainingConfig
from tests.scenes import write_features
from tests.training.runs import THROUGH_TOWERS, TRAINED, method_scene
from tests.training.two_processes import settings_of

GUIDED = [name for name in TRAINED if any(part.module.guides for part in load_method(name).components)]
SHARED = [name for name in TRAINED if name not in GUIDED]
VARIED = ["lathadapter:accumulate=2", "xrvlm:accumulate=2", "clip-adapter:average=ema"]
ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return str(held.getsockname()[1])


@pytest.fixture(scope="module", params=[SHARED, pytest.param(VARIED, marks=pytest.mark.slow)], ids=["plain", "varied"])
def in_two(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "tests.training.two_processes", str(folder), free_port(), *request.param]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, request.param


def test_two_processes_end_with_the_weights_of_one(in_two):
    folder, cases = in_two
    for case in cases:
        check_case(case, folder)


def check_case(case, folder):
    method, config = settings_of(case)
    run = method_scene(method, count=23)
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    expected = train(run.model, run.data, config, 4)
    found = safetensors.torch.load_file(folder / f"{case}.safetensors")
    assert found.keys() == start.keys()
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(
            found[name], value, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{case}: {name}{m}"
        )
    moved = 1e-4 if case in THROUGH_TOWERS else 3e-4  # four small steps, and twenty
    assert any((found[name] - start[name]).abs().max() > moved for name in start)
    lines = [json.loads(line) for line in (folder / case / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(config.steps)), "the first process alone writes"
    last = lines[-max(config.steps // 10, 1) :]
    for name, value in expected[-1].items():
        mean = sum(line[name] for line in last) / len(last)
        assert mean == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("name", GUIDED)
def test_losses_that_guide_say_that_they_need_one_process(name):
    run = method_scene(name)
    with pytest.raises(InputError, match=r"losses that guide .* start one process"):
        Stepper(run.model, run.data, load_method(name).training, World(0, 2))


@pytest.mark.parametrize(("count", "size"), [(9, 2), (4, 4), (10, 3), (1, 1)])
def test_the_shares_of_all_processes_are_the_batch(count, size):
    shares = [World(rank, size).share(count) for rank in range(size)]
    assert [i for share in shares for i in range(count)[share]] == list(range(count))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_more_processes_than_images_are_refused():
    with pytest.raises(InputError, match="4 processes need at least as many images a step, got 3"):
        World(0, 4).share(3)


def test_without_torchrun_a_process_is_alone():
    with process_group(torch.device("cpu")) as (world, device):
        assert (world, device.type) == (ALONE, "cpu")
    value = torch.ones(3, requires_grad=True)
    assert world.total(value) is value
    assert world.mean(value) is value
    assert world.gathered(value[None], 1).data_ptr() == value.data_ptr()
    assert world.ask_first(lambda: b"x") == b"x"


@pytest.mark.parametrize("shape", [(12, 5), (6, 5, 4)])
def test_shared_normalisation_is_that_of_the_whole_batch(shape):
    """Sums over processes played by a function: every process holds the same rows, so the statistics are the same."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 5
    plain, shared = ImageNorm(5), ImageNorm(5)
    shared.total = lambda own: 2 * own
    with torch.no_grad():
        for norm in (plain, shared):
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
    whole = torch.cat([x, x])
    torch.testing.assert_close(shared(x), plain(whole)[: len(x)], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shared.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-5)
    assert torch.equal(shared.eval()(x), plain.eval()(x)) or torch.allclose(shared(x), plain(x), atol=1e-5)


def test_norms_are_shared_for_the_length_of_a_run_alone():
    model = method_scene("xrvlm").model
    norms = [module for module in model.modules() if isinstance(module, ImageNorm)]
    with World(0, 2).shared_norms(model):
        assert all(norm.total is not None for norm in norms)
    assert norms
    assert all(norm.total is None for norm in norms)
    with ALONE.shared_norms(model):
        assert all(norm.total is None for norm in norms)


def test_a_process_alone_computes_the_whole_batch():
    run = method_scene("clip-adapter")
    losses = StepLosses(run.model, run.data)
    rows = torch.arange(6)
    (term,) = losses(Batch(rows, rows, rows, rows), None).values()
    scores = 20 * run.model.adapter.adapt_images(run.data.images[rows], run.data.classes).pooled
    expected = torch.nn.functional.cross_entropy(scores @ run.data.classes.weights.T, run.data.labels[rows])
    torch.testing.assert_close(term, expected)
    assert TrainingConfig().accumulate == 1


@pytest.mark.slow
def test_torchrun_fits_what_one_process_fits(tmp_path):
    features = write_features(tmp_path / "set")
    fit = ["-m", "hyperadapt", "fit", "--features", str(features), "--method", "xrvlm", "--shots", "8"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port"]

    def started(out, *launched):
        command = [sys.executable, *launched, *fit, "--out", str(tmp_path / out)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("adapter, history and result in") == 1
        return done.stdout

    started("one")
    started("two", *launcher, free_port())
    weights = [safetensors.torch.load_file(tmp_path / name / "adapter.safetensors") for name in ("one", "two")]
    torch.testing.assert_close(weights[1], weights[0], atol=1e-4, rtol=1e-4)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert [result["processes"] for result in results] == [1, 2]
    assert results[0]["counts"] == results[1]["counts"]
    assert "found finished" in started("two", *launcher, free_port())
