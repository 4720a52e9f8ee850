"""One step in pieces, in half precision, compiled, batched over runs, and without a wait for the device."""

from dataclasses import replace

import pytest
import torch
import torch._dynamo
from torch.utils._python_dispatch import TorchDispatchMode

from hyperadapt.adapters.base import BuildContext
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.training import loss_terms, train
from hyperadapt.training.loop import Training
from hyperadapt.training.sampling import Batch
from hyperadapt.training.step import StepLosses, Stepper
from hyperadapt.training_config import TrainingConfig
from manifolds import scalars
from manifolds.regularizers import GeneratorDraws, RecordedDraws, RecordingDraws
from tests.training.runs import ON_FEATURES, TRAINED, method_scene, scene

WAITS = {"_local_scalar_dense", "nonzero", "nonzero_numpy", "_unique2", "unique_dim", "masked_select", "multinomial"}


def draws(seed=7, device="cpu"):
    return GeneratorDraws(torch.Generator(device).manual_seed(seed))


def batch(rows, device="cpu"):
    rows = torch.as_tensor(rows)
    return Batch(rows.to(device), rows.to(device), rows, rows)


def gradients(run, config, rows=range(12)):
    run.model.zero_grad(set_to_none=True)
    terms = Stepper(run.model, run.data, config).backward(batch(list(rows)), draws())
    return terms, {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pieces", [2, 3, 5, 12])
@pytest.mark.parametrize("name", ["linear", "clip-adapter"])
def test_pieces_give_the_gradient_of_the_whole_batch(name, pieces):
    run = scene() if name == "linear" else method_scene(name)
    run.model.train()
    whole, expected = gradients(run, TrainingConfig())
    terms, found = gradients(run, TrainingConfig(accumulate=pieces))
    torch.testing.assert_close(terms, whole)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-5)


def test_a_run_in_pieces_ends_with_the_weights_of_a_run_in_one():
    whole, pieces = method_scene("clip-adapter"), method_scene("clip-adapter")
    config = TrainingConfig(learning_rate=1e-2, steps=20, batch_size=10)
    train(whole.model, whole.data, config, 1)
    train(pieces.model, pieces.data, replace(config, accumulate=3), 1)
    torch.testing.assert_close(pieces.model.state_dict(), whole.model.state_dict(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_half_precision_changes_losses_by_its_rounding_and_keeps_weights_and_their_gradients_wide(name):
    run = method_scene(name)
    run.model.train()
    exact, wide = gradients(run, TrainingConfig())
    run = method_scene(name)
    run.model.train()
    rough, narrow = gradients(run, TrainingConfig(precision="bf16"))
    assert all(term.dtype == torch.float32 for term in rough.values())
    geometry_alone = name == "hyperbolic"  # which stays in float32
    assert geometry_alone or any(not torch.equal(rough[term], exact[term]) for term in exact)
    for term in exact:
        torch.testing.assert_close(rough[term], exact[term], atol=0.05, rtol=0.05)
    for key in wide:
        assert narrow[key].dtype == torch.float32
        angle = torch.cosine_similarity(narrow[key].flatten(), wide[key].flatten(), dim=0)
        assert angle > 0.9 or wide[key].abs().max() < 1e-6, (key, float(angle))
    assert all(p.dtype in (torch.float32, torch.float64) for p in run.model.parameters())


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_run_in_half_precision_learns(name):
    run = method_scene(name)
    history = train(run.model, run.data, TrainingConfig(precision="bf16", steps=60, batch_size=20), 1)
    assert sum(history[-1].values()) < sum(history[0].values())


def test_geometry_stays_float32_in_half_precision():
    """The hierarchy of given points is the same to the bit, with and without autocast."""
    run = method_scene("lathadapter-faithful")
    points = run.data.images.pooled[:20]
    hierarchy = run.model.adapter.hierarchy
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            mapped = hierarchy.image_to_ball(points)
            distances = hierarchy.manifold.pairwise_dist(mapped, hierarchy.text_to_ball(points[:7]))
            found.append((mapped, distances))
    for plain, half in zip(*found, strict=True):
        assert half.dtype == torch.float32
        assert torch.equal(plain, half)


def stacked(tensors):
    return {key: torch.stack([t[key] for t in tensors]) for key in tensors[0]}


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_losses_of_many_runs_at_once_are_those_of_each(name):
    """Different initial values, batches and random numbers; gradients and running statistics too."""
    run, runs = method_scene(name), 3
    context = BuildContext(run.data.classes, 16, None, 20.0)
    models = [build_model(load_method(name), context, seed).train() for seed in range(runs)]
    with torch.no_grad():
        for model in models:
            for p in model.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    rows = [torch.randperm(20, generator=torch.Generator().manual_seed(i))[:8] for i in range(runs)]
    recordings = [RecordingDraws(draws(i)) for i in range(runs)]
    base, expected = models[0], []
    before = [{k: v.clone() for k, v in m.named_buffers()} for m in models]
    for i, model in enumerate(models):
        images, labels = run.data.images[rows[i]], run.data.labels[rows[i]]
        terms = loss_terms(model, run.data.classes, images, labels, recordings[i])
        loss = sum(terms.values())
        leaves = dict(model.named_parameters())
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        kept = {k: torch.zeros_like(leaves[k]) if g is None else g for k, g in zip(leaves, grads, strict=True)}
        expected.append((loss.detach(), kept, dict(model.named_buffers())))

    def loss(parameters, buffers, rows, numbers):
        images, labels = run.data.images[rows], run.data.labels[rows]
        held = (run.data.classes, images, labels, RecordedDraws(numbers))
        return sum(torch.func.functional_call(_Losses(base), (parameters, buffers), held).values())

    prefixed = lambda tensors: {f"model.{k}": v for k, v in stacked(tensors).items()}  # noqa: E731
    parameters = prefixed([{k: p.detach() for k, p in m.named_parameters()} for m in models])
    buffers = prefixed(before)
    numbers = [torch.stack(n) for n in zip(*(r.numbers for r in recordings), strict=True)]
    batched = torch.func.vmap(torch.func.grad_and_value(loss))
    grads, values = batched(parameters, buffers, torch.stack(rows), numbers)
    for i, (value, gradient, after) in enumerate(expected):
        torch.testing.assert_close(values[i], value, atol=1e-5, rtol=1e-5)
        for key in gradient:
            torch.testing.assert_close(grads[f"model.{key}"][i], gradient[key], atol=1e-5, rtol=1e-3)
        for key in after:
            torch.testing.assert_close(buffers[f"model.{key}"][i], after[key], atol=1e-6, rtol=1e-5)


class _Losses(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, classes, images, labels, numbers):
        return loss_terms(self.model, classes, images, labels, numbers)


class NoWaits(TorchDispatchMode):
    """Refuses every operation whose result or size must be read from the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in WAITS:
            raise AssertionError(f"{name} waits for the device")
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
            raise AssertionError(f"{name} by a mask waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in TRAINED if not load_method(name).reads_pixels])
def test_no_operation_of_losses_or_gradients_reads_a_value(name, monkeypatch):
    """A manifold's own operators are opaque here; the GPU test looks into them. Pixels are chosen on the CPU."""
    monkeypatch.setattr(scalars, "_check_positive", lambda c, name: None)  # reads a value on the CPU alone
    run = method_scene(name)
    run.model.train()
    losses, rows = StepLosses(run.model, run.data), batch(range(12))
    losses(rows, draws())  # a tower is probed and names are placed with the first step
    with NoWaits():
        terms = losses(rows, draws())
        torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    with pytest.raises(AssertionError, match="waits"), NoWaits():
        torch.arange(3).nonzero()


def test_compilation_is_refused_where_it_cannot_run(small_backbone):
    run = method_scene("clip-adapter")
    classes = replace(run.data.classes, tower=small_backbone.text)
    with pytest.raises(InputError, match=r"training.compile .* stored features, got a text tower"):
        Stepper(run.model, replace(run.data, classes=classes), TrainingConfig(compile=True))


@pytest.mark.parametrize("name", ["clip-adapter", "xrvlm"])
def test_compiled_losses_are_the_plain_ones(name, monkeypatch):
    """Traced and differentiated ahead of time; the slow test below compiles to machine code."""
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_with(f, backend="aot_eager", **options))
    check_compiled(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip-adapter", "lathadapter-faithful", "xrvlm"])
def test_losses_compiled_to_machine_code_are_the_plain_ones(name):
    check_compiled(name)


def check_compiled(name):
    plain, compiled = method_scene(name), method_scene(name)
    config = TrainingConfig(steps=6, batch_size=10, learning_rate=1e-3)
    expected = train(plain.model, plain.data, config, 1)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    found = train(compiled.model, compiled.data, replace(config, compile=True), 1)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAINED)
def test_cpu_and_gpu_agree(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # it would round the patches of images
    on_cpu, on_gpu = method_scene(name), method_scene(name, device="cuda")
    recording = RecordingDraws(draws())
    rows = torch.arange(12)
    results = []
    for run, numbers in ((on_cpu, recording), (on_gpu, None)):
        device = run.data.labels.device
        numbers = numbers or RecordedDraws([n.to(device) for n in recording.numbers])
        run.model.train()
        terms = StepLosses(run.model, run.data)(batch(rows, device), numbers)
        torch.stack(list(terms.values())).sum().backward()
        results.append({name: p.grad.cpu() for name, p in run.model.named_parameters() if p.grad is not None})
        results[-1].update({f"loss {name}": term.detach().cpu() for name, term in terms.items()})
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAINED)
def test_a_step_does_not_wait_for_the_gpu(name):
    run = method_scene(name, device="cuda")
    training = Training(run.model, run.data, TrainingConfig(steps=8, batch_size=20, clip_norm=1.0), 1)
    run.model.train()
    training.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            training.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert training.done == 4
