"""Laws of the heads that score any list of classes, and each against a slow loop."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, elu, layer_norm, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.xrvlm import XRVLM, XRVLMConfig, set_relation
from hyperadapt.heads.xrvlm.config import CLOSED
from hyperadapt.heads.xrvlm.head import RELATION_HEADS
from hyperadapt.heads.xrvlm.relation import Scene, Sizes, likeliest, standing
from hyperadapt.text import ClassText
from manifolds.regularizers import GeneratorDraws

D, N, M, KNOWN = 16, 2, 3, 5
OPEN = [name for name in RELATION_HEADS if name not in CLOSED]
SETTINGS = [(name, "identity") for name in OPEN] + [("set", "half"), ("comparison", "half")]
RESIDUAL = ("pairwise", "set", "comparison", "generated")


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def built(name, projection="identity", **changed):
    """A head in evaluation, every parameter away from its first value."""
    config = XRVLMConfig(head=name, projection=projection, hidden=12, width=8, candidates=3, layers=2, **changed)
    torch.manual_seed(0)
    head = RELATION_HEADS[name](Sizes(D, N, M, KNOWN, 20.0, config)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return head.eval()


def a_scene(k, seed=3, batch=4):
    weights = unit(k, D, seed=seed + 2)
    cosines = unit(batch, D, seed=seed) @ weights.T
    return Scene(unit(batch, N, D, seed=seed), unit(M, k, D, seed=seed + 1), cosines, None, unit(M, KNOWN, D, seed=9))


@pytest.mark.parametrize(("name", "projection"), SETTINGS)
@settings(max_examples=15, deadline=None)
@given(k=st.integers(1, 40), seed=st.integers(0, 10**6), data=st.data())
def test_permuting_any_number_of_classes_permutes_the_logits(name, projection, k, seed, data):
    head, scene = built(name, projection), a_scene(k, seed)
    order = torch.tensor(data.draw(st.permutations(range(k))))
    moved = replace(scene, text=scene.text[:, order], cosines=scene.cosines[:, order])
    found = head(scene)
    assert found.shape == (4, k)
    torch.testing.assert_close(head(moved), found[:, order], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("name", "projection"), SETTINGS)
def test_an_absent_class_takes_no_part_in_the_scores_of_the_others(name, projection):
    """What `present` leaves out might as well not be listed."""
    head, scene = built(name, projection), a_scene(7)
    present = torch.tensor([True, True, False, True, False, True, True])
    kept = replace(scene, text=scene.text[:, present], cosines=scene.cosines[:, present])
    torch.testing.assert_close(head(replace(scene, present=present))[:, present], head(kept), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("name", "projection"), SETTINGS)
def test_heads_say_truly_whether_they_compare_classes(name, projection):
    head, scene = built(name, projection), a_scene(6)
    fewer = replace(scene, text=scene.text[:, :4], cosines=scene.cosines[:, :4])
    change = (head(scene)[:, :4] - head(fewer)).abs().max()
    assert (change > 1e-6) == head.compares


@pytest.mark.parametrize(("attention", "stands", "compares"), [(0, False, False), (1, False, True), (0, True, True)])
def test_a_set_head_without_standing_and_attention_compares_nothing(attention, stands, compares):
    config = XRVLMConfig(head="set", width=8, layers=attention, standing=stands)
    head = RELATION_HEADS["set"](Sizes(D, N, M, KNOWN, 20.0, config))
    assert head.compares == compares


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("projection", ["identity", "half"])
def test_at_first_a_head_beside_zero_shot_scores_gives_these(name, projection):
    config = XRVLMConfig(head=name, projection=projection, hidden=12)
    head, scene = RELATION_HEADS[name](Sizes(D, N, M, KNOWN, 20.0, config)).double().eval(), a_scene(7)
    torch.testing.assert_close(head(scene), 20.0 * scene.cosines)


def test_standing_is_relative_to_mean_and_spread_of_the_classes_present():
    x, present = torch.randn(3, 6, 4, dtype=torch.float64), torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    found = standing(x, present)[:, present]
    torch.testing.assert_close(found.mean(1), torch.zeros(3, 4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(3, 4, dtype=torch.float64), atol=1e-6, rtol=0)
    expected = (x - x[:, present].mean(1, keepdim=True)) / x[:, present].std(1, correction=0, keepdim=True)
    torch.testing.assert_close(standing(x, present), expected, atol=1e-6, rtol=1e-6)
    assert torch.isfinite(standing(x[:, :1], None)).all()


def test_the_likeliest_are_the_highest_cosines_among_the_classes_present():
    cosines = torch.tensor([[0.1, 0.5, 0.9, 0.3]])
    places, usable = likeliest(cosines, torch.tensor([True, True, False, True]), 2)
    assert places.tolist() == [[1, 3]]
    assert usable.all()
    places, usable = likeliest(cosines, torch.tensor([False, True, False, False]), 2)
    assert places[0][usable[0]].tolist() == [1]
    assert likeliest(cosines, None, 9)[0].tolist() == [[2, 1, 3, 0]]


def test_the_pairwise_head_is_one_small_mlp_for_each_image_and_class():
    head, scene = built("pairwise"), a_scene(4)
    expected = torch.empty(4, 4, dtype=torch.float64)
    for b in range(4):
        for k in range(4):
            relation = torch.stack([scene.visual[b, n] @ scene.text[m, k] for m in range(M) for n in range(N)])
            expected[b, k] = 20.0 * (scene.cosines[b, k] + head.output(elu(head.hidden(10.0 * relation)))[0])
    torch.testing.assert_close(head(scene), expected)


def test_class_wise_relations_read_each_class_alone_and_like_parts_alone():
    for name in ("cp", "b"):
        head, scene = built(name), a_scene(4)
        visual, text = head.projections.visual(scene.visual), head.projections.textual(scene.text)
        for k in range(4):
            rows = torch.stack(
                [(visual[:, n] * text[m, k]).sum(-1) * (name == "cp" or m == n) for m in range(M) for n in range(N)],
                dim=1,
            )
            expected = head.output(head.hidden_norm(elu(head.hidden(head.input_norm(rows)))))[:, 0]
            torch.testing.assert_close(head(scene)[:, k], expected)


@pytest.mark.parametrize("projection", ["identity", "half"])
def test_the_set_head_is_its_equations_image_by_image(projection):
    """Relations, standing, name, attention of one head to the likeliest, correction: written out for one layer."""
    config = XRVLMConfig(head="set", projection=projection, width=8, candidates=2, layers=1, attention_heads=1)
    torch.manual_seed(0)
    head, scene = RELATION_HEADS["set"](Sizes(D, N, M, KNOWN, 20.0, config)).double(), a_scene(5, batch=3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    layer, learnt = head.attention[0], head.relations
    for b in range(3):
        rows, gains = [], []
        for k in range(5):
            plain = torch.stack([scene.visual[b, n] @ scene.text[m, k] for m in range(M) for n in range(N)])
            if projection == "half":
                pairs = [
                    (scene.visual[b, n] @ learnt.visual.weight.T, scene.text[m, k] @ learnt.textual.weight.T)
                    for m in range(M)
                    for n in range(N)
                ]
                gains.append(plain.mean())
            else:
                mapped = normalize(scene.visual[b] + scene.visual[b] @ learnt.change.T, dim=-1)
                pairs = [(mapped[n], scene.text[m, k]) for m in range(M) for n in range(N)]
                gains.append(torch.stack([p @ q for p, q in pairs]).mean() - plain.mean())
            other = torch.stack([p @ q for p, q in pairs])
            rows.append(torch.cat([plain, other, scene.cosines[b, k][None]]))
        rows = torch.stack(rows)
        rows = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-8).sqrt()
        tokens = head.embed(rows) + head.name(scene.text.mean(0))
        tokens = layer_norm(tokens, (8,), layer.norm.weight, layer.norm.bias)
        asked = tokens[scene.cosines[b].topk(2).indices]
        key, value = layer.key_value(asked).chunk(2, dim=-1)
        weights = (layer.query(tokens) @ key.T / 8**0.5).softmax(-1)
        tokens = layer_norm(tokens + layer.output(weights @ value), (8,), head.norm.weight, head.norm.bias)
        correction = head.output(elu(head.hidden(tokens)))[:, 0]
        expected = 20.0 * (scene.cosines[b] + learnt.part_share * torch.stack(gains)) + correction
        torch.testing.assert_close(head(scene)[b], expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("images", [1, 3, 4])
def test_images_that_are_worked_on_at_a_time_have_the_scores_and_gradients_of_all_at_once(monkeypatch, images):
    """By single images, by three with one left over, and by all of them."""
    head, scene = built("set"), a_scene(7)

    def found():
        head.zero_grad()
        logits = head(scene)
        logits.square().sum().backward()
        return [logits.detach(), *(parameter.grad.clone() for parameter in head.parameters())]

    whole = found()
    monkeypatch.setattr(set_relation, "CACHED", images * 7 * 8 + 1)
    passes, scored = [], head._scored
    monkeypatch.setattr(head, "_scored", lambda few: passes.append(len(few.cosines)) or scored(few))
    for value, expected in zip(found(), whole, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-10, rtol=1e-10)
    assert passes == {1: [1, 1, 1, 1], 3: [3, 1], 4: [4]}[images]


def test_a_comparison_turns_its_sign_when_the_classes_are_swapped():
    head = built("comparison")
    first, second = torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(head.outcomes(first, second), -head.outcomes(second, first))
    assert head.outcomes(first, second).abs().max() > 1e-3


def test_comparisons_are_the_mean_over_the_likeliest_other_classes():
    head, scene = built("comparison"), a_scene(6)
    relations, scores = head.relations(scene)
    sides = head.embed(10.0 * relations) + head.name(scene.text.mean(0))
    for b in range(4):
        rivals = scene.cosines[b].topk(3).indices.tolist()
        for k in range(6):
            met = torch.stack([head.outcomes(sides[b, k], sides[b, j]) for j in rivals if j != k])
            torch.testing.assert_close(head(scene)[b, k], 20.0 * scores[b, k] + met.mean())


def test_generated_weights_read_the_relation_to_the_training_classes():
    head, scene = built("generated"), a_scene(4)
    described = head.trunk(scene.visual, scene.known_text)
    described = (described - described.mean(1, keepdim=True)) / (
        described.var(1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    for k in range(4):
        weights = head.generate(head.reduce(scene.text[:, k].flatten()))
        expected = 20.0 * scene.cosines[:, k] + described @ weights / described.shape[1] ** 0.5
        torch.testing.assert_close(head(scene)[:, k], expected, atol=1e-6, rtol=1e-6)


def stored(count=6):
    templates = unit(4, count, D, seed=5).float()
    names = tuple(f"class {i}" for i in range(count))
    return ClassText(names, templates, normalize(templates.mean(0), dim=-1))


def test_a_step_is_scored_among_the_classes_of_its_images_and_those_drawn():
    """Cross entropy over the subset, by a loop; the classes of the images are always in it."""
    classes = stored()
    head = XRVLM(XRVLMConfig(head="pairwise"), BuildContext(classes, D, None, 20.0))
    images, labels = ImageFeatures(unit(4, D, seed=6).float()), torch.tensor([0, 3, 3, 5])
    sizes = set()
    for seed in range(20):
        encoded = head.encode_classes(classes, GeneratorDraws(torch.Generator().manual_seed(seed)))
        present = [k for k in range(6) if encoded.drawn[k] or k in (0, 3, 5)]
        logits = head.logits(images, encoded)[:, present]
        wanted = cross_entropy(logits, torch.tensor([present.index(int(label)) for label in labels]))
        torch.testing.assert_close(head.losses(images, encoded, labels)["pairwise"], wanted)
        sizes.add(len(present))
    assert len(sizes) > 2


def test_distillation_is_the_divergence_from_zero_shot_over_the_strange_classes():
    classes = stored()
    head = XRVLM(XRVLMConfig(head="set", distill=0.5), BuildContext(classes, D, None, 20.0))
    with torch.no_grad():
        for parameter in head.relation.parameters():
            parameter.add_(0.1)
    images, labels = ImageFeatures(unit(4, D, seed=6).float()), torch.tensor([0, 3, 3, 5])
    drawn, strange = torch.tensor([1, 1, 1, 0, 1, 0]).bool(), torch.tensor([1, 0, 1, 1, 0, 0]).bool()
    encoded = replace(head.encode_classes(classes), drawn=drawn, strange=strange)
    present = torch.tensor([1, 1, 1, 1, 1, 1]).bool()
    scene = replace(head.scene(images, encoded), present=present)
    own, teacher = (
        head.relation(scene)[:, [0, 2, 3]].log_softmax(-1),
        (20.0 * scene.cosines)[:, [0, 2, 3]].log_softmax(-1),
    )
    expected = 0.5 * (teacher.exp() * (teacher - own)).sum(-1).mean()
    torch.testing.assert_close(head.losses(images, encoded, labels)["distill"], expected)
    nobody = replace(encoded, strange=torch.zeros(6, dtype=torch.bool))
    assert head.losses(images, nobody, labels)["distill"] == 0


def test_random_texts_depend_on_the_name_alone():
    classes = stored()
    head = XRVLM(XRVLMConfig(text="random", text_parts=2, unseen="zero-shot"), BuildContext(classes, D, None, 20.0))
    whole, some = head.encode_classes(classes).text, head.encode_classes(classes.select([4, 1, 0, 2, 3, 5])).text
    assert torch.equal(some[:, 0], whole[:, 4])
    other = replace(classes, templates=classes.templates.flip(0), weights=classes.weights.flip(0))
    assert torch.equal(head.encode_classes(other).text, whole)
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(2, 6))


def test_attributes_of_an_adapter_serve_as_text_parts():
    classes = stored()
    context = BuildContext(classes, D, None, 20.0)
    head = XRVLM(XRVLMConfig(head="pwcs", text="attributes", text_parts=3, category_part=True), context)
    attributes = unit(3, D, seed=8).float()
    with_some = replace(classes, attributes=attributes)
    expected = torch.cat([normalize(classes.weights + attributes[:, None], dim=-1), classes.weights[None]])
    torch.testing.assert_close(head.encode_classes(with_some).text, expected)
    own = unit(3, 6, D, seed=9).float()
    torch.testing.assert_close(head.encode_classes(replace(with_some, own_attributes=own)).text[:3], own)
    with pytest.raises(InputError, match="needs an adapter that attaches attributes"):
        head.encode_classes(classes)
    with pytest.raises(InputError, match="built for 4 text parts and got 3"):
        head.encode_classes(replace(classes, attributes=attributes[:2]))
