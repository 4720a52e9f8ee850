import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext, TrainingBatch
from hyperadapt.adapters.prolip import ProLIP, ProLIPConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.methods import method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import ClassText
from hyperadapt.training import TrainingSet, train

NAMES = ("ant", "bee", "cat")
COUNTS = (5, 4, 3)


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def scene():
    templates = unit(1, 3, 8, seed=1)
    classes = ClassText(NAMES, templates, templates[0])
    labels = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
    return classes, unit(12, 8, seed=2), labels, BuildContext(classes, 8, None, 20.0, 12, COUNTS)


def test_training_is_that_of_a_loop_written_out():
    classes, images, labels, context = scene()
    steps, rate = 15, 3e-2
    method = method_from_dict(
        {"name": "p", "adapter": {"type": "prolip"}, "training": {"steps": steps, "learning_rate": rate}}
    )
    model = build_model(method, context, seed=1)
    train(model, TrainingSet(ImageFeatures(images), labels, classes), method.training, seed=1)

    change = torch.zeros(8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = []
        for image in images:
            moved = image @ (torch.eye(8) + change)
            rows.append(torch.stack([20.0 * moved @ text / moved.norm() for text in classes.weights]))
        loss = cross_entropy(torch.stack(rows), labels) + sum(value**2 for value in change.flatten()) / 5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert change.abs().max() > 0.05
    torch.testing.assert_close(model.adapter.change, change, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "weight"),
    [({}, 1 / 5), ({"penalty": "images"}, 1 / 12), ({"penalty": "weight", "weight": 0.3}, 0.3)],
)
def test_the_penalty_is_a_term_of_its_own(settings, weight):
    classes, images, labels, context = scene()
    adapter = ProLIP(ProLIPConfig(**settings), context)
    with torch.no_grad():
        adapter.change.copy_(torch.arange(64.0).view(8, 8) / 64)
    pooled = ImageFeatures(images)
    terms = adapter.losses(TrainingBatch(pooled, classes, labels, None, pooled, classes))
    expected = weight * sum((i / 64) ** 2 for i in range(64))
    assert {name: float(term.detach()) for name, term in terms.items()} == {
        "distance_to_identity": pytest.approx(expected, rel=1e-5)
    }


@pytest.mark.parametrize("settings", [{"weight": 0.1}, {"penalty": "weight", "weight": -1.0}])
def test_a_weight_without_effect_or_below_zero_is_refused(settings):
    with pytest.raises(InputError, match="weight"):
        ProLIPConfig(**settings)
