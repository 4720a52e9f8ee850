import pytest
import torch
from torch import nn
from torch.func import vmap

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
