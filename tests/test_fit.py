"""`hyperadapt fit` and the runs of `bench`: what is written, what is not repeated, what goes on where it stopped."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hyperadapt import FewShotClassifier
from hyperadapt.__main__ import main
from hyperadapt.errors import InputError
from hyperadapt.training import loop
from tests.scenes import write_features, write_images

RECIPE = "name: short\nadapter: {{type: {adapter}}}\ntraining: {{steps: {steps}, checkpoint_steps: 4, batch_size: 8}}\n"


def recipe(folder, adapter="clip-adapter", steps=12):
    path = folder / "short.yaml"
    path.write_text(RECIPE.format(adapter=adapter, steps=steps))
    return path


def fit(*arguments, out):
    return main(["fit", *map(str, arguments), "--out", str(out), "--device", "cpu"])


def bench(*arguments, out):
    return main(["bench", "base-to-novel", *map(str, arguments), "--out", str(out), "--device", "cpu"])


def stopping(monkeypatch, step):
    """Ctrl-C once the loop has done some steps."""
    advance = loop.Training.advance

    def until(training, *given):
        advance(training, *given)
        if training.done == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Training, "advance", until)


def counting(monkeypatch):
    """A list that grows with every training step."""
    advance, seen = loop.Training.advance, []
    monkeypatch.setattr(loop.Training, "advance", lambda training, *given: (seen.append(1), advance(training, *given)))
    return seen


def weights(folder):
    return safetensors.torch.load_file(folder / "adapter.safetensors")


def test_a_fit_writes_adapter_history_and_result_and_nothing_else(tmp_path, capsys):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    assert fit("--features", features, "--method", recipe(tmp_path), "--shots", 4, "--seed", 2, out=out) == 0
    names = {"adapter.json", "adapter.safetensors", "history.jsonl", "result.json"}
    assert {path.name for path in out.iterdir()} == names
    result = json.loads((out / "result.json").read_text())
    assert (result["protocol"], result["shots"], result["seed"]) == ("fit", 4, 2)
    assert result["training_images"] == result["counts"]["train"]["total"] == 4 * 7
    assert len(result["class_names"]) == 7
    assert len(result["data_fingerprint"]) == 64
    assert len((out / "history.jsonl").read_text().splitlines()) == 12
    assert f"{result['counts']['train']['correct']} of 28 training images right" in capsys.readouterr().out


def test_a_finished_fit_is_not_repeated_and_another_one_is_refused(tmp_path, capsys, monkeypatch):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    arguments = ["--features", features, "--method", recipe(tmp_path), "--shots", 4]
    fit(*arguments, out=out)
    seen = counting(monkeypatch)
    before = (out / "adapter.safetensors").stat().st_mtime_ns
    assert fit(*arguments, out=out) == 0
    assert "found finished" in capsys.readouterr().out
    assert fit(*arguments, "--seed", 3, out=out) == 2
    assert "holds another fit, with another seed" in capsys.readouterr().err
    assert fit(*arguments, "--precision", "bf16", out=out) == 2
    assert "another method" in capsys.readouterr().err
    assert not seen
    assert (out / "adapter.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("stop", [3, 6, 12])
def test_an_interrupted_fit_goes_on_and_writes_the_same_adapter(stop, tmp_path, monkeypatch, capsys):
    features = write_features(tmp_path / "set")
    arguments = ["--features", features, "--method", recipe(tmp_path, "lathadapter"), "--shots", 4]
    fit(*arguments, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping(patch, stop)
        assert fit(*arguments, out=tmp_path / "cut") == 130
    assert "go on from their last checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "result.json").exists()
    seen = counting(monkeypatch)
    assert fit(*arguments, out=tmp_path / "cut") == 0
    assert len(seen) == 12 - stop // 4 * 4
    left, right = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(left[name], right[name]) for name in left)
    histories = [(tmp_path / name / "history.jsonl").read_bytes() for name in ("whole", "cut")]
    assert histories[0] == histories[1]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "cut")]
    assert results[0]["history"] == results[1]["history"]


def test_an_adapter_fitted_on_images_is_loaded_by_the_classifier(tmp_path):
    images = write_images(tmp_path / "photos")
    out = tmp_path / "out"
    arguments = ["--data", images, "--shots", 2, "--views", 1, "--template", "a {}."]
    assert fit(*arguments, "--method", recipe(tmp_path), out=out) == 0
    classifier = FewShotClassifier.from_pretrained(out, "tiny", device="cpu")
    paths = sorted((images / "bee").glob("*.png"))[:3]
    assert classifier.logits(paths).shape == (3, 4)
    assert classifier.templates == ("a {}.",)
    assert classifier.logits(paths, ["red", "blue"]).shape == (3, 2)


def test_an_adapter_fitted_on_stored_features_is_refused_by_the_classifier(tmp_path):
    fit(
        "--features", write_features(tmp_path / "set"), "--method", recipe(tmp_path), "--shots", 4, out=tmp_path / "out"
    )
    with pytest.raises(InputError, match="stored features"):
        FewShotClassifier.from_pretrained(tmp_path / "out", "tiny", device="cpu")


def test_images_that_diverge_are_named(tmp_path, capsys):
    path = tmp_path / "wild.yaml"
    path.write_text(
        "name: wild\nadapter: {type: clip-adapter}\ntraining: {optimizer: sgd, learning_rate: 1.0e+38, steps: 40}\n"
    )
    images = write_images(tmp_path / "photos")
    assert fit("--data", images, "--shots", 2, "--method", path, out=tmp_path / "out") == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "not finite" in said
    assert ".png" in said
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--method", "zero-shot"], ["zero-shot trains nothing"]),
        (["--method", "latadapter"], ["latadapter", "lathadapter"]),
        (["--shots", "0"], ["0"]),
        (["--template", "a {}"], ["--template"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_input_is_one_line_and_status_2(arguments, fragments, tmp_path, capsys):
    features = write_features(tmp_path / "set")
    assert fit("--features", features, *arguments, out=tmp_path / "out") == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hyperadapt: error: ")]
    assert all(fragment in said for fragment in fragments), said
    assert not (tmp_path / "out").exists()


def test_a_stopped_bench_goes_on_inside_a_run_and_leaves_nothing_behind(tmp_path, monkeypatch):
    features, out = write_features(tmp_path / "set"), tmp_path / "out"
    arguments = ["--features", features, "--methods", recipe(tmp_path), "--shots", 4, "--seeds", 1, 2]
    bench(*arguments, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping(patch, 9)
        assert bench(*arguments, out=out) == 130
    (running,) = (out / ".running").iterdir()
    assert (running / "step-000000008.json").is_file()
    seen = counting(monkeypatch)
    assert bench(*arguments, out=out) == 0
    assert len(seen) == 4 + 12
    assert not (out / ".running").exists()
    for path in (tmp_path / "whole").glob("*.json"):
        left, right = (json.loads((folder / path.name).read_text()) for folder in (tmp_path / "whole", out))
        assert left["counts"] == right["counts"]
        assert left["history"] == right["history"]


@pytest.mark.slow
def test_a_fit_killed_at_any_moment_goes_on(tmp_path):
    """The command itself, images and towers included."""
    command = [sys.executable, "-m", "hyperadapt", "fit", "--world", "birds", "--shots", "2", "--device", "cpu"]
    command += ["--method", str(recipe(tmp_path, "lathadapter", steps=60)), "--out"]
    root = Path(__file__).resolve().parents[1]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, cwd=root, capture_output=True)
    kills = 0
    for patience in (3, 5, 6, 7, 8):
        process = subprocess.Popen([*command, str(tmp_path / "cut")], cwd=root, stderr=subprocess.DEVNULL)
        history, start = tmp_path / "cut" / "history.jsonl", time.monotonic()
        while process.poll() is None and time.monotonic() - start < 120:
            time.sleep(0.05)
            if history.is_file() and history.read_bytes().count(b"\n") > 2 * patience:
                break
        kills += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run([*command, str(tmp_path / "cut")], check=True, cwd=root, capture_output=True)
    assert kills >= 1
    left, right = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(left[name], right[name]) for name in left)
