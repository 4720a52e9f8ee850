import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.retrieval.recall import BLOCK, Hits, Recall, recall, recall_in_galleries


def sorted_loop(images, captions, image_of, ranks):
    """Every query sorts all candidates, the wrong ones first among equals."""
    scores = normalize(images.double(), dim=-1) @ normalize(captions.double(), dim=-1).T
    both = {"image": dict.fromkeys(ranks, 0), "text": dict.fromkeys(ranks, 0)}
    queries = [i for i in range(len(images)) if i in image_of]
    for i in queries:
        order = sorted(range(len(captions)), key=lambda j: (-round(float(scores[i, j]), 6), image_of[j] == i))
        wrong_before = next(p for p, j in enumerate(order) if image_of[j] == i)
        for k in ranks:
            both["image"][k] += wrong_before < k
    for j in range(len(captions)):
        order = sorted(range(len(images)), key=lambda i: (-round(float(scores[i, j]), 6), image_of[j] == i))
        for k in ranks:
            both["text"][k] += order.index(image_of[j]) < k
    return Recall(Hits(both["image"], len(queries)), Hits(both["text"], len(captions)))


def scene(seed, images=23, captions=57, width=4, repeats=True):
    """Images with none to several captions; some rows repeat, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    x, t = (torch.randn(n, width, generator=generator) for n in (images, captions))
    image_of = torch.randint(images - 2, (captions,), generator=generator)
    t = t + 0.7 * x[image_of]
    if repeats:
        x[3], t[10], t[11:14] = 5 * x[4], 2 * t[9], t[8]
    return x, t, image_of


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [BLOCK, (5, 7), (1, 1)])
def test_recall_in_blocks_is_that_of_a_sorted_loop(seed, block):
    x, t, image_of = scene(seed)
    ranks = (1, 2, 5, 10)
    found = recall(x, t, image_of, ranks, block)
    assert found == sorted_loop(x, t, image_of.tolist(), ranks)
    assert found.image_to_text.total < len(x), "images without captions are no queries"


def test_a_tied_score_never_counts_in_favour():
    same = torch.ones(30, 8)
    found = recall(same, same, torch.arange(30))
    assert found == Recall(Hits({1: 0, 5: 0, 10: 0}, 30), Hits({1: 0, 5: 0, 10: 0}, 30))
    x = normalize(torch.randn(600, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    doubled, own = torch.cat([x, x]), torch.arange(1200)
    found = recall(doubled, doubled, own, block=(299, 451))
    assert found.image_to_text.hits[1] == found.text_to_image.hits[1] == 0
    assert found.image_to_text.hits[5] == found.text_to_image.hits[5] == 1200


def test_several_captions_of_an_image_are_no_rivals_of_each_other():
    x = torch.eye(4)
    t, image_of = x.repeat_interleave(12, dim=0), torch.arange(4).repeat_interleave(12)
    found = recall(x, t, image_of, ranks=(1,))
    assert (found.image_to_text.hits[1], found.text_to_image.hits[1]) == (4, 48)


def test_the_directions_are_not_exchanged():
    x, t = torch.eye(2), torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    found = recall(x, t, torch.arange(2), ranks=(1,))
    assert found.image_to_text.hits[1] == 2
    assert found.text_to_image.hits[1] == 1


def test_lengths_of_embeddings_do_not_matter():
    x, t, image_of = scene(5, repeats=False)
    stretched = recall(x * torch.rand(len(x), 1).add(0.1), t * torch.rand(len(t), 1).add(0.1), image_of)
    assert stretched == recall(x, t, image_of)


def test_galleries_are_scored_apart_and_summed():
    x, t, image_of = scene(6)
    galleries = torch.arange(len(x)) % 3
    total = None
    for gallery in range(3):
        rows = [i for i in range(len(x)) if i % 3 == gallery]
        texts = [j for j, i in enumerate(image_of.tolist()) if i in rows]
        places = torch.tensor([rows.index(int(image_of[j])) for j in texts])
        part = recall(x[rows], t[texts], places)
        total = part if total is None else total + part
    assert recall_in_galleries(x, t, image_of, galleries) == total
    assert recall_in_galleries(x, t, image_of, torch.zeros_like(galleries)) == recall(x, t, image_of)


def test_no_matrix_of_all_pairs_is_held(monkeypatch):
    largest = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: (largest.append(len(a) * b.shape[1]), product(a, b))[1]
    )
    x = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0))
    recall(x, x, torch.arange(3000), block=(100, 200))
    assert max(largest) == 100 * 200


def test_embeddings_that_are_not_finite_are_refused():
    x = torch.eye(3)
    with pytest.raises(FloatingPointError, match="not finite"):
        recall(x, torch.full((3, 3), np.nan), torch.arange(3))


@pytest.mark.shared_data
def test_zero_shot_recall_of_real_pairs(shared_data):
    arrays = np.load(shared_data / "features" / "coco500-pairs-ViT-B-16" / "features.npz", allow_pickle=False)
    x, t = (torch.from_numpy(arrays[name]) for name in ("images", "captions"))
    assert recall(x, t, torch.arange(500), block=(70, 90)) == sorted_loop(x, t, list(range(500)), (1, 5, 10))
