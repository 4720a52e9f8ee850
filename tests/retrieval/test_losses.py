import math

import pytest
import torch

from hyperadapt.backbone import ImageFeatures
from hyperadapt.retrieval.contrastive import Contrastive
from hyperadapt.retrieval.losses import category_loss, info_nce

SIZE, FALSE = 5, 7


def scores(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    false = 3 * torch.randn(SIZE, FALSE, generator=generator, dtype=torch.float64)
    categories = torch.tensor([0, 1, 0, 2, 1])
    owners = torch.tensor([0, 0, 0, 2, 4, 4, 3])
    false_same = torch.tensor([True, False, True, True, False, True, False])
    return logits, categories[:, None] == categories, false, false_same, owners


def slow_info_nce(logits):
    rows = logits.tolist()
    to_text = [-math.log(math.exp(rows[i][i]) / sum(map(math.exp, rows[i]))) for i in range(SIZE)]
    to_image = [-math.log(math.exp(rows[i][i]) / sum(math.exp(rows[j][i]) for j in range(SIZE))) for i in range(SIZE)]
    return sum(to_text) / SIZE / 2, sum(to_image) / SIZE / 2


def slow_category(logits, same, false, false_same, owners, alpha):
    total = 0.0
    for i in range(SIZE):
        own = math.exp(float(logits[i, i]))
        below = own
        for j in range(SIZE):
            if j != i:
                below += (1 + alpha if same[i, j] else 1.0) * math.exp(float(logits[i, j]))
        for f in range(FALSE):
            if owners[f] == i:
                below += (1 + alpha if false_same[f] else 1.0) * math.exp(float(false[i, f]))
        total -= math.log(own / below)
    return total / SIZE


def test_info_nce_is_that_of_a_loop_in_both_directions():
    logits = scores()[0]
    assert [float(term) for term in info_nce(logits)] == pytest.approx(slow_info_nce(logits))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_the_category_loss_is_that_of_a_loop(alpha):
    parts = scores(1)
    assert float(category_loss(*parts, alpha)) == pytest.approx(slow_category(*parts, alpha))


def test_without_false_captions_and_weights_it_is_info_nce_from_images_to_captions():
    logits, same, false, false_same, owners = scores(2)
    found = category_loss(logits, same, false[:, :0], false_same[:0], owners[:0], 0.0)
    assert float(found) == pytest.approx(2 * float(info_nce(logits)[0]))


def test_gradients_are_finite_where_an_image_has_no_false_caption():
    logits, same, false, false_same, owners = scores(3)
    false.requires_grad_()
    category_loss(logits, same, false, false_same, owners, 1.0).backward()
    assert torch.isfinite(false.grad).all()
    assert (false.grad != 0).sum() == FALSE, "each false caption counts for its own image alone"


def test_the_head_pairs_image_i_with_caption_i():
    images = torch.nn.functional.normalize(torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    head, labels = Contrastive(20.0), torch.arange(SIZE)
    right = head.losses(ImageFeatures(images), images, labels)
    wrong = head.losses(ImageFeatures(images), images.roll(1, 0), labels)
    assert right.keys() == {"image_to_text", "text_to_image"}
    assert all(right[name] < wrong[name] for name in right)
