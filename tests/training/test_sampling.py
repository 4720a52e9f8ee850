import pytest
import torch

from hyperadapt.training.sampling import Sampler
from hyperadapt.training_config import TrainingConfig

CPU = torch.device("cpu")


def sampler(labels, views=1, size=5, seed=0, kind="shuffle"):
    config = TrainingConfig(batch_size=size, sampler=kind)
    return Sampler(torch.as_tensor(labels), views, config, torch.Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize(("count", "size", "views"), [(12, 5, 1), (12, 12, 3), (7, 100, 2), (9, 3, 4)])
def test_an_epoch_shows_each_image_once_in_one_of_its_views(count, size, views):
    batches = sampler([0] * count, views, size)
    assert batches.per_epoch == max(count // min(size, count), 1)
    seen_views = set()
    for _ in range(20):
        seen = []
        for _ in range(batches.per_epoch):
            batch = batches.next()
            assert len(batch) == len(batch.rows) == min(size, count)
            assert torch.equal(batch.rows % count, batch.images)
            assert torch.equal(batch.images, batch.host_images)
            seen_views |= set((batch.rows // count).tolist())
            seen += batch.images.tolist()
        assert len(set(seen)) == len(seen)
    assert seen_views == set(range(views))


@pytest.mark.parametrize("labels", [[0] * 9 + [1] * 2 + [2], [0, 1, 2] * 4, [3] * 5 + [1] * 8])
def test_a_balanced_epoch_takes_classes_and_the_images_of_a_class_equally_often(labels):
    labels = torch.tensor(labels)
    batches = sampler(labels, size=len(labels), kind="balanced")
    for _ in range(5):
        images = batches.next().images
        per_class = labels[images].bincount()
        per_class = per_class[labels.unique()]
        assert per_class.max() - per_class.min() <= 1
        per_image = images.bincount(minlength=len(labels))
        for label in labels.unique():
            mine = per_image[labels == label]
            assert mine.max() - mine.min() <= 1


def test_a_balanced_batch_mixes_the_classes():
    labels = torch.tensor([0] * 30 + [1] * 3 + [2] * 3)
    batches = sampler(labels, size=6, kind="balanced")
    for _ in range(30):
        assert labels[batches.next().images].bincount(minlength=3).min() >= 1


@pytest.mark.parametrize("kind", ["shuffle", "balanced"])
@pytest.mark.parametrize("taken", [0, 1, 3, 4, 11])
def test_a_sampler_goes_on_where_another_stopped(kind, taken):
    labels = [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]
    first, second = sampler(labels, 2, 3, kind=kind), sampler(labels, 2, 3, seed=9, kind=kind)
    for _ in range(taken):
        first.next()
    second.restore({name: value.clone() for name, value in first.state().items()})
    for _ in range(8):
        ahead, behind = first.next(), second.next()
        assert torch.equal(ahead.rows, behind.rows)
        assert torch.equal(ahead.images, behind.images)


def test_pieces_of_a_batch_are_the_batch():
    batch = sampler([0] * 11, 3, 11).next()
    for count in (1, 2, 4, 11):
        pieces = batch.pieces(count)
        assert len(pieces) == count
        assert torch.equal(torch.cat([piece.rows for piece in pieces]), batch.rows)
        assert torch.equal(torch.cat([piece.host_images for piece in pieces]), batch.host_images)
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
