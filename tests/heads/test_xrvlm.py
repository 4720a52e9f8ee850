"""XR-VLM by its equations: sizes, attention, the published head, what is learnt, what serves."""

from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch.nn.functional import elu, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures, load_backbone
from hyperadapt.errors import InputError
from hyperadapt.heads.xrvlm import XRVLM, XRVLMConfig
from hyperadapt.heads.xrvlm.relation import Scene
from hyperadapt.heads.xrvlm.unified_attention import UnifiedAttention
from hyperadapt.methods import load_method
from hyperadapt.model import build_model
from hyperadapt.parts import PartFeatures
from hyperadapt.text import ClassText, class_text
from hyperadapt.text_tower import TextTower
from manifolds.regularizers import GeneratorDraws

NAMES = ("ant", "bee", "cat")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
TOWERS = {"ViT-B-16": (768, 512), "RN50": (2048, 1024)}
THOUSANDS = {
    ("ViT-B-16", 200): (6554, 5, 266, 3491),
    ("ViT-B-16", 196): (6423, 5, 266, 3421),
    ("ViT-B-16", 120): (3932, 5, 266, 2096),
    ("ViT-B-16", 100): (3277, 5, 266, 1747),
    ("ViT-B-16", 555): (18186, 5, 266, 9682),
    ("RN50", 200): (6554, 14, 1056, 3491),
    ("RN50", 555): (18186, 14, 1056, 9682),
}
"""Parameters of prompts, unified attention, projections and head by tower and number of classes."""


def random_parts(b=6, s=9, w=20, d=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PartFeatures(torch.randn(b, s, w, generator=generator), torch.randn(b, s, d, generator=generator))


def made(classes, **settings):
    torch.manual_seed(0)
    return XRVLM(XRVLMConfig(hidden=24, context_length=2, **settings), BuildContext(classes, 32, 20, 100.0))


@pytest.fixture
def classes(small_backbone):
    return class_text(small_backbone.text, NAMES, ["a photo of a {}.", "a drawing of a {}."])


@pytest.fixture
def images():
    pooled = normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    return ImageFeatures(pooled, random_parts(d=32))


def taken_a_few_steps(head, classes, images, rate=0.05):
    """Weights and running statistics away from their first values."""
    optimizer, generator = torch.optim.SGD(head.parameters(), rate), torch.Generator().manual_seed(4)
    draws = type("Draws", (), {"rand": lambda _self, *shape: torch.rand(*shape, generator=generator)})()
    head.train()
    for _ in range(3):
        optimizer.zero_grad()
        sum(head.losses(images, head.encode_classes(classes, draws), LABELS).values()).backward()
        optimizer.step()
    return head.eval()


@pytest.mark.parametrize(("name", "count"), THOUSANDS)
def test_parameters_are_those_of_the_released_sizes(name, count):
    """Class-specific prompts of 16 tokens, unified attention, projections and head; towers of shapes alone."""
    width, dim = TOWERS[name]
    with torch.device("meta"):
        tower = TextTower(CLIP(**open_clip.get_model_config(name)), open_clip.get_tokenizer(name))
        features = torch.zeros(1, count, dim)
        classes = ClassText(tuple(f"class {i}" for i in range(count)), features, features[0], tower)
        head = XRVLM(load_method("xrvlm-paper").head.settings, BuildContext(classes, dim, width, 100.0))
    parts = (head.prompts, head.attention, head.relation.trunk.projections, head.relation)
    prompts, attention, projections, relation = (sum(p.numel() for p in part.parameters()) for part in parts)
    found = (prompts, attention, projections, relation - projections)
    assert tuple(round(n / 1e3) for n in found) == THOUSANDS[name, count]
    assert sum(p.numel() for p in head.parameters()) == sum(found)


def test_the_class_wise_ablation_has_192_values_beside_its_projections(classes):
    head = made(classes, head="cp", text_parts=4)
    assert sum(p.numel() for name, p in head.relation.named_parameters() if "projections" not in name) == 192


@pytest.mark.slow
@pytest.mark.parametrize(("name", "positions"), [("ViT-B-16", 197), ("RN50", 49)])
def test_a_full_sized_tower_gives_the_shapes_of_the_paper(name, positions):
    """224 pixels in, four parts out, through hooks on a tower without trained weights."""
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    backbone = load_backbone(model, tokenizer=open_clip.get_tokenizer(name), preprocess=preprocess)
    width, dim = TOWERS[name]
    assert backbone.part_width == width
    images = backbone.encode_images(torch.randn(2, 3, 224, 224), with_parts=True)
    assert images.parts.maps.shape == (2, positions, width)
    assert images.parts.content.shape == (2, positions, dim)
    classes = class_text(backbone.text, NAMES, ["a photo of a {}."])
    head = build_model(load_method("xrvlm-paper"), BuildContext(classes, dim, width, 100.0), 1).head.eval()
    assert head.attention.attention(images.parts.maps).shape == (2, 5, positions)
    assert head.visual_parts(images).shape == (2, 4, dim)
    encoded = head.encode_classes(classes)
    assert encoded.text.shape == (4, 3, dim)
    assert head.relation.trunk.relation(head.visual_parts(images), encoded.text).shape == (2, 4 * 4 * 3)
    assert head.logits(images, encoded).shape == (2, 3)


def test_attention_is_a_gated_softmax_over_positions():
    torch.manual_seed(0)
    attention, parts = UnifiedAttention(20, 3), random_parts()
    maps = attention.attention(parts.maps)
    assert maps.shape == (6, 4, 9)
    assert (maps >= 0).all()
    x = parts.maps.transpose(1, 2)
    x = (x - x.mean((0, 2), keepdim=True)) / (x.var((0, 2), keepdim=True, unbiased=False) + 1e-5).sqrt()
    soft = torch.softmax(torch.einsum("ow,bws->bos", attention.maps.weight[..., 0], x), dim=-1)
    torch.testing.assert_close(soft.sum(-1), torch.ones(6, 4))
    gate = (soft - soft.mean((0, 2), keepdim=True)) / (soft.var((0, 2), keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(maps, gate.clamp(min=0), atol=1e-4, rtol=1e-4)


def test_parts_are_rooted_pools_without_the_background():
    torch.manual_seed(0)
    attention, parts = UnifiedAttention(20, 3), random_parts()
    pooled = torch.stack(
        [sum(attention.attention(parts.maps)[:, n, s, None] * parts.content[:, s] for s in range(9)) for n in range(4)],
        1,
    )
    rooted = pooled.sign() * (pooled.abs() + 1e-6).sqrt()
    expected = (rooted / rooted.flatten(1).norm(dim=1)[:, None, None])[:, :3]
    torch.testing.assert_close(attention(parts), expected, atol=1e-5, rtol=1e-4)


def batch_normed(x, axes=(0,)):
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + 1e-5).sqrt()


@pytest.mark.parametrize("kind", ["full", "cc"])
def test_the_published_head_is_equations_10_to_13(classes, images, kind):
    """Written out in loops over text part, visual part and class, in training, with norms at their first values."""
    head = made(classes, head=kind, unseen="zero-shot", visual_parts=3, text_parts=3).double().train()
    parts = PartFeatures(images.parts.maps.double(), images.parts.content.double())
    visual, text = head.visual_parts(ImageFeatures(images.pooled, parts)), head.encode_classes(classes).text.double()
    relation = head.relation
    sides = []
    for rows, projection in ((visual, relation.trunk.projections.visual), (text, relation.trunk.projections.textual)):
        flat = batch_normed(64 * rows.reshape(-1, rows.shape[-1]))
        layer = projection.linear
        sides.append(elu(batch_normed(flat @ layer.weight.T + layer.bias)).view(*rows.shape[:2], -1))
    p, q = sides
    columns = [
        (p[:, n] * q[m, k]).sum(-1) * (kind == "full" or m == n)
        for m in range(3)
        for n in range(3)
        for k in range(len(NAMES))
    ]
    hidden = elu(batch_normed(torch.stack(columns, 1)) @ relation.trunk.hidden.weight.T + relation.trunk.hidden.bias)
    expected = batch_normed(hidden) @ relation.output.weight.T
    found = relation(Scene(visual, text, torch.zeros(6, 3)))
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-7)


def test_scaling_the_pooled_content_of_an_image_changes_nothing(classes, images):
    head = made(classes).eval()
    scaled = ImageFeatures(images.pooled, PartFeatures(images.parts.maps, 1000 * images.parts.content))
    encoded = head.encode_classes(classes)
    torch.testing.assert_close(head.logits(scaled, encoded), head.logits(images, encoded), atol=2e-2, rtol=1e-3)


def test_gradients_reach_prompts_attention_and_both_heads(classes, images):
    head = made(classes).train()
    sum(head.losses(images, head.encode_classes(classes), LABELS).values()).backward()
    silent = {name for name, p in head.named_parameters() if p.grad is None or p.grad.abs().sum() == 0}
    behind_a_layer_at_zero = {name for name, _ in head.unseen.named_parameters(prefix="unseen")}
    assert silent <= behind_a_layer_at_zero - {"unseen.output.weight", "unseen.relations.change"}
    assert all(p.grad is None for p in classes.tower.model.parameters())


def test_contexts_of_a_class_alone_are_shared_tokens_then_its_own(classes):
    head = made(classes, contexts="class", unseen="zero-shot", fixed_tokens=1)
    assert head.prompts.shared.shape == (4, 1, 1, 32)
    assert head.prompts.residual.shape == (4, 3, 1, 32)
    tower = classes.tower
    contexts = torch.cat([head.prompts.shared.expand(-1, 3, -1, -1), head.prompts.residual], dim=2)
    expected = tower.prompts(contexts, tower.tokenize(["ant.", "bee.", "cat."], reserve=2))
    torch.testing.assert_close(head.encode_classes(classes).text, expected)


def test_new_classes_use_the_shared_contexts_alone(classes):
    head = made(classes).eval()
    fresh = class_text(classes.tower, ["dog", "ant"], ["a photo of a {}.", "a drawing of a {}."])
    known = head.encode_classes(classes).text[:, 0]
    mixed = head.encode_classes(fresh).text
    torch.testing.assert_close(mixed[:, 1], known)  # a known class keeps what was learnt for it in any list
    with torch.no_grad():
        head.prompts.residual.zero_()
    torch.testing.assert_close(head.encode_classes(fresh).text[:, 0], mixed[:, 0])
    assert not torch.allclose(head.encode_classes(classes).text[:, 0], known, atol=1e-4)


def test_the_full_head_scores_only_the_training_classes(classes, images):
    head = made(classes).eval()
    with torch.no_grad():
        head.relation.output.weight.zero_()
    assert head.logits(images, head.encode_classes(classes)).abs().max() == 0
    assert head.logits(images, head.encode_classes(classes.select([0, 1]))).abs().max() > 0


def test_namesakes_among_the_classes_keep_their_own_columns():
    features = normalize(torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    classes = ClassText(("crane", "crane", "dog"), features, features[0])
    head = XRVLM(XRVLMConfig(hidden=8), BuildContext(classes, 16, None, 100.0)).eval()
    assert head.encode_classes(classes).columns.tolist() == [0, 1, 2]
    assert head.encode_classes(classes.select([2, 0, 1])).columns.tolist() == [2, 0, 1]
    assert head.encode_classes(ClassText(("crane",) * 3, features, features[0])).columns is None


@pytest.mark.parametrize("kind", ["full", "cc", "mlp"])
@pytest.mark.parametrize("parts", [True, False])
def test_a_deployed_head_is_the_head_without_its_texts(classes, images, kind, parts):
    settings = {} if parts else {"text": "templates"}
    head = made(classes, head=kind, unseen="zero-shot", **settings)
    if not parts:
        context = BuildContext(replace(classes, tower=None), 32, None, 100.0)
        head = XRVLM(XRVLMConfig(hidden=24, head=kind, unseen="zero-shot"), context)
        images = ImageFeatures(images.pooled)
    taken_a_few_steps(head, classes, images)
    served = head.deploy()
    torch.testing.assert_close(served(images), head.logits(images, head.encode_classes(classes)), atol=1e-4, rtol=1e-4)
    assert sum(t.numel() for t in served.state_dict().values()) < sum(t.numel() for t in head.state_dict().values())
    kept = served(images).clone()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(1.5)
    assert torch.equal(served(images), kept)


def test_a_head_that_reads_texts_is_not_deployed(classes):
    with pytest.raises(InputError, match="head set reads the texts"):
        made(classes, head="set").deploy()
    with pytest.raises(InputError, match="training classes alone"):
        made(classes).deploy(classes.select([0, 1]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"contexts": "class"}, "unseen zero-shot where contexts is class"),
        ({"fixed_tokens": 1}, "fixed_tokens from 0"),
        ({"width": 30}, "multiple of attention_heads"),
        ({"candidates": 0}, "candidates"),
        ({"class_dropout": 1.0}, "class_dropout"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        XRVLMConfig(**settings)


@pytest.mark.parametrize("kind", ["full", "cc", "mlp"])
def test_training_classes_in_another_order_keep_scores_relations_and_deployment(classes, images, kind):
    head = taken_a_few_steps(made(classes, head=kind), classes, images)
    turned = classes.select([1, 2, 0])
    plain, moved = head.encode_classes(classes), head.encode_classes(turned)
    torch.testing.assert_close(head.logits(images, moved), head.logits(images, plain)[:, [1, 2, 0]])
    torch.testing.assert_close(head.deploy(turned)(images), head.deploy(classes)(images))
    first, second = head.relations(images, plain, 2), head.relations(images, moved, 1)
    assert (first is None) == (kind == "mlp")
    if first is not None:
        torch.testing.assert_close(second, first[..., [1, 2, 0]])


def test_classes_that_a_step_takes_for_unseen_go_without_their_residuals(classes):
    head = made(classes, distill=1.0, class_dropout=0.0)
    met = set()
    for seed in range(8):
        encoded = head.encode_classes(classes, GeneratorDraws(torch.Generator().manual_seed(seed)))
        with torch.no_grad():
            residual = head.prompts.residual.clone()
            head.prompts.residual.zero_()
            without = head.encode_classes(classes).text
            head.prompts.residual.copy_(residual)
        for k in range(len(classes)):
            alone = torch.allclose(encoded.text[:, k], without[:, k], atol=1e-6)
            assert alone == bool(encoded.strange[k])
            met.add(alone)
    assert met == {True, False}
