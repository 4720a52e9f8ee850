import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.utils._python_dispatch import TorchDispatchMode

from hyperadapt.training.replay import RecordError, recorded


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_record_of_a_batched_gradient_is_the_gradient_at_other_inputs_and_weights():
    stacked = numbers(3, 4, 2, seed=1).requires_grad_()

    def loss(weight, x):
        values, places = (x @ weight)[torch.tensor([3, 0, 0, 4])].tanh().max(1)
        return (values.softmax(0) * (places + x[:4, 0])).sum()

    def gradients(x):
        losses = vmap(loss)(stacked, x)
        return [losses.detach(), *torch.autograd.grad(losses.sum(), [stacked])]

    repeat, first = recorded(gradients, numbers(3, 5, 4, seed=2))
    with torch.no_grad():
        stacked += 1.0
    for seed in (2, 3):
        x = numbers(3, 5, 4, seed=seed)
        got, wanted = repeat(x), gradients(x)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(got, first, strict=True))
        assert not any(a.requires_grad for a in got)


def test_what_changes_in_place_changes_again_at_every_repetition():
    layer = nn.BatchNorm1d(2)
    other = nn.BatchNorm1d(2)
    x = numbers(6, 2)
    repeat, _ = recorded(lambda x: [layer(x).detach()], x)
    other(x)
    for seed in (1, 2):
        torch.testing.assert_close(repeat(numbers(6, 2, seed=seed))[0], other(numbers(6, 2, seed=seed)))
        assert torch.equal(layer.running_mean, other.running_mean)
        assert torch.equal(layer.running_var, other.running_var)


class Counted(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self):
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.products += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


def test_what_follows_from_constants_alone_is_computed_once_and_the_rest_is_as_ever():
    """Of three products one has no changing factor, and one only a weight that others change."""
    weight, kept = numbers(3, 3, seed=1), numbers(3, 3, seed=2)

    def function(x):
        return [(kept @ kept).sum() + x @ kept + kept @ weight]

    once, every = (recorded(function, numbers(3, 3), changing=c)[0] for c in ([weight], None))
    for seed in (3, 4):
        weight += 1.0
        x = numbers(3, 3, seed=seed)
        for repeat, products in ((once, 2), (every, 3)):
            with Counted() as counted:
                (found,) = repeat(x)
            assert torch.equal(found, function(x)[0])
            assert counted.products == products


def grows(layer):
    """A sum kept from call to call, begun by a constant and added to in place."""
    return lambda x: [layer.total.add_(layer.step * 2) * x]


def draws(_layer):
    return lambda x: [x + torch.rand(2)]


def fills(layer):
    """A tensor made new, then filled in place by what changes; a part of it is read through a view."""

    def function(x):
        made = torch.zeros(2, 2)
        part = made[0]
        made.add_(x)
        return [part * layer.step]

    return function


def normalises(layer):
    """Statistics move with an input that is a constant."""
    return lambda x: [layer.norm(layer.rows).sum() * x]


def hands_out(layer):
    """Results that are constants belong to the caller."""
    return lambda x: [layer.step * 2, x]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.total, self.step, self.rows = torch.zeros(2), torch.ones(2), numbers(6, 2, seed=5)
        self.norm = nn.BatchNorm1d(2, affine=False)


@pytest.mark.parametrize("make", [grows, draws, fills, normalises, hands_out])
def test_nothing_that_moves_is_taken_for_a_constant(make):
    layer, other = Layer(), Layer()
    function = make(other)
    repeat, _ = recorded(make(layer), numbers(2), changing=[])
    function(numbers(2))
    for seed in (1, 2):
        found = []
        for each in (repeat, function):
            torch.manual_seed(seed)
            found.append(each(numbers(2, seed=seed)))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)
            a.add_(7.0)
        torch.testing.assert_close(layer.norm.running_mean, other.norm.running_mean)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: [x * 2 if float(x.sum()) > 0 else x],
        lambda x: [x * 2 if x.sum() > 0 else x],
        lambda x: [x[x > 0]],
        lambda x: [x.unique()],
    ],
    ids=["number", "truth", "mask", "unique"],
)
def test_a_function_whose_course_depends_on_values_is_refused(function):
    with pytest.raises(RecordError, match="depends on values"):
        recorded(function, numbers(5))


def test_a_result_that_left_the_tensors_is_refused():
    with pytest.raises(RecordError, match="no operation made"):
        recorded(lambda x: [torch.from_numpy((x + 1).numpy()) * 2], numbers(5))
