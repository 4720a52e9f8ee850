import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext, positions_among
from hyperadapt.adapters.taskres import TaskRes, TaskResConfig
from hyperadapt.backbone import ImageFeatures
from hyperadapt.methods import method_from_dict
from hyperadapt.model import build_model
from hyperadapt.text import ClassText
from hyperadapt.training import TrainingSet, train

NAMES = ("ant", "bee", "cat")


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def text(names=NAMES, seed=1):
    templates = unit(1, len(names), 8, seed=seed)
    return ClassText(tuple(names), templates, templates[0])


def adapter_with_residuals(classes):
    adapter = TaskRes(TaskResConfig(), BuildContext(classes, 8, None, 20.0))
    with torch.no_grad():
        adapter.residual.normal_(generator=torch.Generator().manual_seed(3))
    return adapter


def test_training_is_that_of_a_loop_written_out():
    classes, images, labels = text(), unit(12, 8, seed=2), torch.arange(12) % 3
    steps, rate, alpha = 15, 3e-2, 0.7
    method = method_from_dict(
        {
            "name": "t",
            "adapter": {"type": "taskres", "alpha": alpha},
            "training": {"steps": steps, "learning_rate": rate},
        }
    )
    model = build_model(method, BuildContext(classes, 8, None, 20.0), seed=1)
    train(model, TrainingSet(ImageFeatures(images), labels, classes), method.training, seed=1)

    residual = torch.zeros(3, 8, requires_grad=True)
    optimizer = torch.optim.Adam([residual], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        moved = [classes.weights[k] + alpha * residual[k] for k in range(3)]
        rows = [torch.stack([20.0 * image @ row / row.norm() for row in moved]) for image in images]
        optimizer.zero_grad()
        cross_entropy(torch.stack(rows), labels).backward()
        optimizer.step()
        schedule.step()
    assert residual.abs().max() > 0.05
    torch.testing.assert_close(model.adapter.residual, residual, atol=1e-5, rtol=1e-4)


def test_a_class_keeps_its_residual_in_any_list_and_new_ones_their_frozen_text():
    classes = text()
    adapter = adapter_with_residuals(classes)
    own = adapter.adapt_classes(classes).weights
    names = ("dog", "cat", "eel", "ant")
    rows = torch.stack([unit(8, seed=7), classes.weights[2], unit(8, seed=8), classes.weights[0]])
    found = adapter.adapt_classes(ClassText(names, rows[None], rows)).weights
    torch.testing.assert_close(found, torch.stack([rows[0], own[2], rows[2], own[0]]))
    assert not torch.allclose(own, classes.weights, atol=1e-2)


def test_namesakes_keep_their_own_residuals():
    classes = text(("crane", "crane", "dog"))
    adapter = adapter_with_residuals(classes)
    own = adapter.adapt_classes(classes).weights
    torch.testing.assert_close(adapter.adapt_classes(classes.select([2, 0, 1])).weights, own[[2, 0, 1]])


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (["c", "a"], ["a", "b", "c"], [2, 0]),
        (["x", "y"], ["a"], [-1, -1]),
        (["a", "a", "a"], ["a", "b", "a"], [0, 2, -1]),
        ([], ["a"], []),
    ],
)
def test_positions_are_those_of_the_names(names, known, expected):
    assert positions_among(names, known) == expected
