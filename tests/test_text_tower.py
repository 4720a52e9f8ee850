import pytest
import torch
from torch.nn.functional import normalize

from hyperadapt.backbone import load_backbone
from hyperadapt.errors import InputError
from hyperadapt.text import class_text
from hyperadapt.text_tower import TextTower
from tests.conftest import TOWERS, build_clip, to_pixels
from tests.slow_passes import slow_texts

TEXTS = ["a bird", "a photo of a red winged striped finch.", "x", "two words"]
NAMES = ["bird.", "red winged striped finch.", "", "fish."]
TEXT_TOWERS = {
    "clip": {},
    "custom-text": TOWERS["custom-text"],
    "siglip-like": TOWERS["siglip-like"],
    "layer-scale": {"ls_init_value": 0.3},
    "tanh-gelu": {"custom_text": True, "act_kwargs": {"approximate": "tanh"}},
    "custom-blocks": {"custom_text": True, "qk_norm": True, "scale_attn": True},
    "causal-pooled-last": {"custom_text": True, "pool_type": "last"},
    "projection-with-bias": {"custom_text": True, "proj_bias": True},
}


@pytest.fixture
def tower(any_model, tokenizer):
    return load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels).text


def text_tower(name, tokenizer, dtype=torch.float32, **settings):
    model = build_clip(**TEXT_TOWERS[name]).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # the towers' own small initial values would hide a difference
    return TextTower(model.eval().requires_grad_(False), tokenizer, **settings)


def value_and_slope(function, contexts):
    """Features, and the gradient of a fixed random reading of them."""
    contexts = contexts.clone().requires_grad_()
    features = function(contexts)
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(5)).to(features.dtype)
    return features.detach(), torch.autograd.grad((features * weights).sum(), contexts)[0]


def random_contexts(tower, prompts, texts, m, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(prompts, texts, m, tower.width, generator=generator).to(dtype)


class Tokens:
    """Counts the tokens that pass a tower's first block."""

    def __init__(self, tower):
        self.seen = []
        tower.tower.transformer.resblocks[0].mlp.register_forward_pre_hook(self._count)

    def _count(self, _module, inputs):
        self.seen.append(inputs[0].shape[:-1].numel())


def test_a_text_is_taken_apart_once_whatever_lists_it_stands_in(tokenizer):
    seen = []

    def counting(texts, context_length):
        seen.extend(texts)
        return tokenizer(texts, context_length=context_length)

    tower, plain = text_tower("clip", counting), text_tower("clip", tokenizer)
    for texts, reserve in ((["a", "bee"], 0), (["bee", "an elk", "a"], 3), (["an elk"], 0)):
        assert torch.equal(tower.tokenize(texts, reserve), tokenizer(texts, context_length=plain.context_length))
    assert seen == ["a", "bee", "an elk"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_prompts_and_their_gradients_are_those_of_the_whole_pass(name, own, dtype, tokenizer):
    tower = text_tower(name, tokenizer, dtype)
    ids = tower.tokenize(NAMES, reserve=5)
    contexts = random_contexts(tower, 3, len(NAMES) if own else 1, 5, dtype)
    expected, slope = value_and_slope(lambda c: slow_texts(tower.model, c, ids), contexts)
    got, got_slope = value_and_slope(lambda c: tower.prompts(c, ids), contexts)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(got_slope, slope, atol=10 * tolerance * float(slope.abs().max()), rtol=10 * tolerance)


@pytest.mark.parametrize("budget", [2**31, 2**14], ids=["whole", "chunks"])
@pytest.mark.parametrize("own", [(), ("contexts",), ("deeper",)], ids=["shared", "own contexts", "own deeper"])
@pytest.mark.parametrize("name", ["clip", "siglip-like", "custom-blocks"])
def test_deep_prompts_and_their_gradients_are_those_of_a_loop_over_blocks(name, own, budget, tokenizer):
    tower = text_tower(name, tokenizer, torch.float64, activation_budget_bytes=budget)
    ids = tower.tokenize(NAMES, reserve=3)
    contexts = random_contexts(tower, 2, len(NAMES) if "contexts" in own else 1, 3, torch.float64)
    fresh = random_contexts(tower, 2, len(NAMES) if "deeper" in own else 1, 3, torch.float64).flip(-1)
    expected, slope = value_and_slope(lambda d: slow_texts(tower.model, contexts, ids, deeper={1: d}), fresh)
    got, got_slope = value_and_slope(lambda d: tower.prompts(contexts, ids, {1: d}), fresh)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got_slope, slope, atol=1e-11 * float(slope.abs().max()), rtol=1e-11)
    assert not torch.allclose(got, tower.prompts(contexts, ids), atol=1e-3)


def test_chunks_save_memory_where_only_the_deeper_prompts_learn(tokenizer):
    free, tight = (text_tower("clip", tokenizer, activation_budget_bytes=b) for b in (2**31, 2**16))
    ids = free.tokenize([f"bird {i}." for i in range(24)], reserve=3)
    contexts = random_contexts(free, 2, 1, 3)
    fresh = contexts.clone().requires_grad_()
    spent = [saved_bytes(tower.model, lambda t=tower: t.prompts(contexts, ids, {1: fresh})) for tower in (free, tight)]
    assert spent[1] < spent[0] / 2


@pytest.mark.parametrize("name", ["clip", "custom-text"])
def test_a_deep_prompt_that_texts_share_passes_the_tower_once(name, tokenizer):
    tower = text_tower(name, tokenizer)
    ids = tower.tokenize(NAMES, reserve=5)
    shared, own = random_contexts(tower, 3, 1, 5), random_contexts(tower, 3, len(NAMES), 5)
    tower.prompts(shared, ids, {1: shared})  # the probes come with the first call
    counts = []
    for deeper in (shared, own):
        tokens = Tokens(tower)
        tower.prompts(shared, ids, {1: deeper})
        counts.append(sum(tokens.seen))
    rest = int(ids.argmax(dim=1).max())
    assert counts == [3 * 6 + 3 * 4 * rest, 3 * 4 * (6 + rest)]


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_what_leaves_hidden_states_as_they_are_leaves_the_features(name, tokenizer):
    tower = text_tower(name, tokenizer)
    ids = tower.tokenize(NAMES)
    embedded, ends = tower.tower.token_embedding(ids), ids.argmax(dim=1)
    seen = []
    found = tower._pass.features(embedded, ends, {i: lambda x: (seen.append(x.shape), x)[1] for i in range(2)})
    torch.testing.assert_close(found, tower._pass.features(embedded, ends), atol=1e-6, rtol=1e-6)
    assert seen == [embedded.shape] * 2


def test_a_prompt_before_a_block_that_is_not_there_is_refused(tokenizer):
    tower = text_tower("clip", tokenizer)
    contexts = random_contexts(tower, 1, 1, 2)
    with pytest.raises(InputError, match="blocks 0 to 1, got a prompt before block 2"):
        tower.prompts(contexts, tower.tokenize(NAMES, reserve=2), {2: contexts})


@pytest.mark.parametrize(
    ("name", "cuts", "shares"),
    [
        ("clip", True, True),
        ("custom-text", True, True),
        ("siglip-like", False, False),
        ("layer-scale", True, True),
        ("custom-blocks", True, False),
        ("causal-pooled-last", False, True),
    ],
)
def test_a_tower_is_cut_and_shared_where_that_is_exact(name, cuts, shares, tokenizer):
    """Counted in tokens: 3 prompts of start mark and 5 contexts, 4 texts whose longest ends 6 tokens later."""
    tower = text_tower(name, tokenizer)
    ids = tower.tokenize(NAMES, reserve=5)
    rest = int(ids.argmax(dim=1).max()) if cuts else 18
    tower.prompts(random_contexts(tower, 3, 1, 5), ids)  # the probes come with the first call
    tokens = Tokens(tower)
    tower.prompts(random_contexts(tower, 3, 1, 5), ids)
    assert sum(tokens.seen) == (3 * 6 + 3 * 4 * rest if shares else 3 * 4 * (6 + rest))


@pytest.mark.parametrize("visible", ["later tokens", "nothing but itself"])
def test_a_tower_that_fails_the_probe_runs_at_full_length(visible, tokenizer):
    """A mask that is there, but is no causal one."""
    tower = text_tower("clip", tokenizer)
    mask = tower.tower.attn_mask
    if visible == "later tokens":
        mask[:, -1] = 0
    else:
        mask.fill_(float("-inf")).fill_diagonal_(0)
    ids = tower.tokenize(NAMES, reserve=5)
    contexts = random_contexts(tower, 2, 1, 5)
    torch.testing.assert_close(tower.prompts(contexts, ids), slow_texts(tower.model, contexts, ids), atol=1e-5, rtol=0)
    tokens = Tokens(tower)
    tower.prompts(contexts, ids)
    assert visible != "later tokens" or sum(tokens.seen) == 2 * 4 * 24


class NoStartMark:
    """Writes the end mark alone after the words, as SigLIP's tokenizer does."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, texts, context_length=24):
        ids = self.tokenizer(texts, context_length=context_length + 1)
        return ids[:, 1:]


@pytest.mark.parametrize("name", ["clip", "siglip-like"])
def test_contexts_come_first_where_texts_have_no_start_mark(name, tokenizer):
    tower = text_tower(name, NoStartMark(tokenizer))
    ids = tower.tokenize(NAMES, reserve=5)
    contexts = random_contexts(tower, 2, 1, 5)
    expected = slow_texts(tower.model, contexts, ids, marks=0)
    torch.testing.assert_close(tower.prompts(contexts, ids), expected, atol=1e-5, rtol=1e-5)


def saved_bytes(model, function):
    """Bytes that the way back of a function keeps, the model's weights apart."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _held = function()
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("name", ["clip", "custom-text", "siglip-like"])
def test_chunks_under_the_memory_budget_change_memory_alone(name, own, tokenizer):
    free, tight = (text_tower(name, tokenizer, torch.float64, activation_budget_bytes=b) for b in (2**31, 2**16))
    texts = [f"bird {i}." for i in range(24)]
    ids = free.tokenize(texts, reserve=3)
    contexts = random_contexts(free, 2, len(texts) if own else 1, 3, torch.float64)
    (expected, slope), (got, got_slope) = (
        value_and_slope(lambda c, tower=tower: tower.prompts(c, ids), contexts) for tower in (free, tight)
    )
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got_slope, slope, atol=1e-11 * float(slope.abs().max()), rtol=1e-11)
    contexts.requires_grad_()
    spent = [saved_bytes(tower.model, lambda tower=tower: tower.prompts(contexts, ids)) for tower in (free, tight)]
    assert spent[1] < spent[0] / 2


@pytest.mark.parametrize("name", ["siglip-like", "tanh-gelu"])
def test_the_estimate_of_activations_bounds_what_is_saved(name, tokenizer):
    tower = text_tower(name, tokenizer)
    ids = tower.tokenize([f"bird {i}." for i in range(24)], reserve=3)
    contexts = random_contexts(tower, 2, 24, 3).requires_grad_()
    length = 24 if name == "siglip-like" else int(ids.argmax(dim=1).max()) + 1 + 3
    spent = saved_bytes(tower.model, lambda: tower.prompts(contexts, ids))
    assert 0.6 < spent / tower._activation_bytes(2 * 24 * length) < 1.05


def test_under_autocast_contexts_and_features_stay_in_float32(tokenizer):
    for name in ("clip", "siglip-like"):
        tower = text_tower(name, tokenizer)
        ids = tower.tokenize(NAMES, reserve=5)
        contexts = random_contexts(tower, 2, 1, 5)
        expected, slope = value_and_slope(lambda c, t=tower, i=ids: t.prompts(c, i), contexts)
        with torch.autocast("cpu", torch.bfloat16):
            got, got_slope = value_and_slope(lambda c, t=tower, i=ids: t.prompts(c, i), contexts)
        assert got.dtype == got_slope.dtype == torch.float32
        assert 0 < float((got - expected).abs().max()) < 0.1
        assert float(torch.cosine_similarity(got_slope.flatten(), slope.flatten(), dim=0)) > 0.95


def test_a_text_seen_before_is_not_encoded_again(tower):
    first = class_text(tower, ["bird", "red_fish"], ["a photo of a {}.", "{}"])
    calls = []
    tower.tower.transformer.register_forward_hook(lambda *_: calls.append(1))
    again = class_text(tower, ["red_fish", "bird"], ["a photo of a {}.", "{}"])
    assert calls == []
    assert torch.equal(again.templates, first.templates[:, [1, 0]])
    assert torch.equal(tower.encode(["bird", "bird"]), first.templates[1, :1].expand(2, -1))
    tower.encode(["bird", "new"])
    assert len(calls) == 1


def test_no_more_texts_are_kept_than_the_bound_the_oldest_go_first(tower, monkeypatch):
    monkeypatch.setattr("hyperadapt.text_tower.KEPT_TEXTS", 3)
    assert len(tower.encode([f"bird {i}" for i in range(8)])) == 8
    tower.encode(["bird 5"])
    tower.encode(["new"])
    calls = []
    tower.tower.transformer.register_forward_hook(lambda *_: calls.append(1))
    tower.encode(["bird 5", "new", "bird 7"])
    assert calls == []
    tower.encode(["bird 6"])
    assert calls == [1]


def test_features_are_made_anew_when_the_weights_changed(any_model, tokenizer):
    tower = load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels).text
    before = tower.encode(TEXTS)
    with torch.no_grad():
        next(p for name, p in any_model.named_parameters() if "token_embedding" in name).mul_(-1)
    assert not torch.allclose(tower.encode(TEXTS), before, atol=1e-3)


def test_kept_features_are_plain_float32_whatever_mode_first_asked_for_them(tower):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        low = tower.encode(TEXTS)
    (tower.encode(TEXTS) * torch.ones(1, requires_grad=True)).sum().backward()
    with torch.no_grad():
        expected = normalize(tower.model.encode_text(tower.tokenize(TEXTS)), dim=-1)
    torch.testing.assert_close(low, expected, atol=1e-5, rtol=1e-5)


def test_cut_sequences_give_the_full_towers_features(tower, tokenizer, any_model):
    with torch.no_grad():
        expected = normalize(any_model.eval().encode_text(tokenizer(TEXTS)), dim=-1)
    torch.testing.assert_close(tower.encode(TEXTS), expected, atol=1e-5, rtol=1e-5)


def test_contexts_made_of_word_embeddings_give_the_plain_texts_features(tower):
    words = tower.tokenize(["a photo of a"])[0, 1:5]
    contexts = tower.tower.token_embedding(words)[None, None]
    names = ["bird.", "striped finch."]
    prompted = tower.prompts(contexts, tower.tokenize(names, reserve=4))[0]
    torch.testing.assert_close(prompted, tower.encode([f"a photo of a {name}" for name in names]), atol=1e-5, rtol=1e-5)


def test_prompts_of_several_parts_and_classes_are_each_encoded_alone(tower):
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(3, 2, 2, tower.width, generator=generator)
    ids = tower.tokenize(["bird", "red fish"], reserve=2)
    together = tower.prompts(contexts, ids)
    assert together.shape[:2] == (3, 2)
    for part in range(3):
        for name in range(2):
            alone = tower.prompts(contexts[part : part + 1, name : name + 1], ids[name : name + 1])[0, 0]
            torch.testing.assert_close(together[part, name], alone, atol=1e-5, rtol=1e-5)


def test_a_name_too_long_for_the_context_is_named(tower):
    long = "a " + "very " * 30 + "long bird"
    with pytest.raises(InputError) as caught:
        tower.tokenize(["bird", long])
    assert long in str(caught.value)
    assert "24" in str(caught.value)
    fits = "red " * 19
    tower.tokenize([fits])
    with pytest.raises(InputError, match="room for 20"):
        tower.tokenize([fits], reserve=4)


def test_a_foreign_text_tower_says_that_it_takes_no_contexts(any_model, tokenizer):
    tower = load_backbone(any_model, tokenizer=tokenizer, preprocess=to_pixels).text
    tower.tower = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="Linear"):
        tower.prompts(torch.zeros(1, 1, 2, 32), tokenizer(["a"]))


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_factors_multiply_the_embeddings_of_their_tokens(name, tokenizer):
    """A factor of 2 on one token equals the same tower with that row of its table doubled."""
    tower = text_tower(name, tokenizer)
    ids, contexts = tower.tokenize(NAMES[1:2], reserve=3), random_contexts(tower, 2, 1, 3)
    places = tower.holds_words(ids)[0].nonzero()[:, 0].tolist()
    chosen = next(place for place in places if int((ids == ids[0, place]).sum()) == 1)
    factors = torch.ones(1, *ids.shape)
    plain = tower.prompts(contexts, ids)
    torch.testing.assert_close(tower.prompts(contexts, ids, factors=factors), plain, atol=1e-5, rtol=1e-5)
    factors[0, 0, chosen] = 2.0
    weighed = tower.prompts(contexts, ids, factors=factors)
    with torch.no_grad():
        tower.tower.token_embedding.weight[ids[0, chosen]] *= 2
    torch.testing.assert_close(weighed, tower.prompts(contexts, ids), atol=1e-5, rtol=1e-5)
    assert (weighed - plain).abs().max() > 1e-4


def test_words_lie_between_the_marks(tokenizer):
    tower = text_tower("clip", tokenizer)
    ids = tower.tokenize(["red finch", ""])
    assert tower.holds_words(ids).sum(dim=1).tolist() == [len(tokenizer.encode("red finch")), 0]
    assert not tower.holds_words(ids)[:, 0].any()


def test_a_token_alone_is_a_text_of_one_token(tokenizer):
    tower = text_tower("clip", tokenizer)
    token = tokenizer.encode("red")[0]
    torch.testing.assert_close(tower.token_features(torch.tensor([token])), tower.encode(["red"]), atol=1e-5, rtol=1e-5)


def test_a_text_that_is_too_long_is_cut_at_its_end_where_that_is_asked(tokenizer):
    tower = text_tower("clip", tokenizer)
    long, short = " ".join(["red"] * 40), "a red finch."
    with pytest.raises(InputError, match="room for 20"):
        tower.tokenize([long], reserve=4)
    ids = tower.tokenize([long, short], reserve=4, cut=True)
    fits = tower.tokenize([" ".join(["red"] * 18), short], reserve=4)
    assert torch.equal(ids, fits)
    assert torch.equal(tower.encode([long], cut=True), tower.encode([" ".join(["red"] * 22)]))
    assert tower.too_long([long, short, " ".join(["red"] * 22), " ".join(["red"] * 23)]) == 2
    with pytest.raises(InputError, match="room for 24"):  # what was kept of the cut text is not the text
        tower.encode([long])
