"""Terms that only guide: against projections by hand, in pieces, stopped and resumed, and where they cannot run."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hyperadapt.errors import InputError
from hyperadapt.model import FewShotModel
from hyperadapt.training import RunFolder, train
from hyperadapt.training.distributed import World
from hyperadapt.training.guidance import Guidance
from hyperadapt.training.step import Stepper
from hyperadapt.training.together import why_apart
from hyperadapt.training_config import TrainingConfig
from tests.training.runs import Linear, scene
from tests.training.test_step import batch, draws


class Guided(Linear):
    """A linear head with a second loss that it does not follow: a weighted sum of its scores."""

    guides = ("weighted",)

    def losses(self, images, encoded, labels):
        logits = self.logits(images, encoded)
        weights = torch.tensor([1.0, -2.0, 1.0])
        return {"cross_entropy": cross_entropy(logits, labels), "weighted": (logits * weights).mean()}


def guided_scene():
    plain, head = scene(), Guided()
    nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(4))
    return replace(plain, model=FewShotModel(plain.model.adapter, head).train())


@pytest.mark.parametrize(
    ("followed", "guiding", "expected"),
    [
        ((3.0, 1.0), (0.0, 2.0), (3.0, 1.0)),  # an acute angle: as it is
        ((3.0, -1.0), (0.0, 2.0), (3.0, 0.0)),
        ((1.0, 0.0), (-1.0, 1.0), (0.5, 0.5)),
        ((-2.0, 4.0), (1.0, -2.0), (0.0, 0.0)),  # straight against it: nothing is left
        ((1.0, -1.0), (0.0, 0.0), (1.0, -1.0)),
    ],
)
def test_what_opposes_the_guide_is_taken_out(followed, guiding, expected):
    parameter = nn.Parameter(torch.zeros(2))
    guidance = Guidance([parameter], frozenset({"guide"}))
    guidance.backward({"loss": parameter @ torch.tensor(followed), "guide": parameter @ torch.tensor(guiding)})
    guidance.constrain()
    torch.testing.assert_close(parameter.grad, torch.tensor(expected))


def test_each_parameter_has_a_projection_of_its_own():
    first, second, untouched = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    guidance = Guidance([first, second, untouched], frozenset({"guide"}))
    loss = first.sum() + second.sum() + untouched.sum()
    guidance.backward({"loss": loss, "guide": -10 * first[0] + 3 * second[1]})
    guidance.constrain()
    assert first.grad.tolist() == [0.0, 1.0]
    assert second.grad.tolist() == [1.0, 1.0]
    assert untouched.grad.tolist() == [1.0, 1.0]


def by_hand(run, rows):
    """Both gradients of a batch on their own, and the first without what opposes the second."""
    head, images, labels = run.model.head, run.data.images[rows], run.data.labels[rows]
    terms = head.losses(images, None, labels)
    g, h = (torch.autograd.grad(terms[name], head.weight, retain_graph=True)[0] for name in terms)
    along = float((g * h).sum())
    return g - min(along, 0.0) / float((h * h).sum()) * h, along


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_step_follows_the_projection_of_the_whole_batch(pieces):
    run, rows, seen = guided_scene(), torch.arange(12), set()
    for seed in range(6):
        nn.init.normal_(run.model.head.weight, generator=torch.Generator().manual_seed(seed))
        expected, along = by_hand(run, rows)
        seen.add(along < 0)
        run.model.zero_grad()
        terms = Stepper(run.model, run.data, TrainingConfig(accumulate=pieces)).backward(batch(rows), draws())
        assert set(terms) == {"cross_entropy", "weighted"}
        torch.testing.assert_close(run.model.head.weight.grad, expected)
    assert seen == {True, False}, "both an acute and an obtuse angle are met"


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, _total):
        if done == 7:
            raise Stopped

    config = TrainingConfig(steps=15, batch_size=5, checkpoint_steps=3, learning_rate=0.05)
    whole, cut, again = guided_scene(), guided_scene(), guided_scene()
    train(whole.model, whole.data, config, 2)
    with pytest.raises(Stopped):
        train(cut.model, cut.data, config, 2, stop, run=RunFolder(tmp_path))
    train(again.model, again.data, config, 2, run=RunFolder(tmp_path))
    assert torch.equal(whole.model.head.weight, again.model.head.weight)


def test_where_gradients_cannot_be_taken_twice_it_is_said():
    run = guided_scene()
    with pytest.raises(InputError, match="weighted"):
        Stepper(run.model, run.data, TrainingConfig(), World(0, 2))
    with pytest.raises(InputError, match="one process"):
        Stepper(run.model, run.data, TrainingConfig(compile=True))
    assert "guide" in why_apart(run.model, run.data, TrainingConfig())
