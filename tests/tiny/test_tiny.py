import hashlib
import json

import numpy as np
import pytest
import torch

from hyperadapt.data.world import FAMILIES, load_world, world_domains, world_names
from hyperadapt.data.world.captions import captions_of
from hyperadapt.tiny import FOLDER, WEIGHTS, card, load_tiny
from hyperadapt.tiny.measure import image_features, linear_probe, measure, text_features, zero_shot
from hyperadapt.tiny.pairs import CAPTIONS_EACH, build_pairs, tokenize
from hyperadapt.tiny.train import TrainingConfig, augment, build, encode_text, fit
from hyperadapt.tiny.weights import pack, unpack, unseen_rows

FROZEN = (0.37909853, 0.47270284)  # numpy.random.RandomState(64), entries [0, 0] and [299, 15] of a (300, 16) table
PROMPTS = ["a photo of a spotted teal hawk, a type of bird.", "a duck.", "zebra quagga okapi"]


@pytest.fixture(scope="module")
def tiny():
    return load_tiny()


@pytest.fixture(scope="module")
def pairs():
    return build_pairs(per_class=1, workers=1)


def test_towers_map_to_one_space_and_preprocessing_fits(tiny):
    model, train_transform, transform, tokenizer = tiny
    image = load_world("fish").image(0)
    assert transform(image).shape == train_transform(image).shape == (3, 64, 64)
    with torch.no_grad():
        assert model.encode_image(transform(image)[None]).shape == (1, 192)
        assert model.encode_text(tokenizer(PROMPTS)).shape == (3, 192)
    assert tokenizer(PROMPTS).shape == (3, 32)
    assert not model.training


def test_preprocessing_only_normalises_world_images(tiny):
    pixels = load_world("fish").pixels(3)
    given = tiny[2](load_world("fish").image(3))
    norm = json.loads((FOLDER / "open_clip_config.json").read_text())["preprocess_cfg"]
    mean, std = (torch.tensor(norm[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(given, expected)


def test_loading_twice_gives_equal_features(tiny):
    model, again = tiny[0], load_tiny()[0]
    tokens = tiny[3](PROMPTS)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(tokens), again.encode_text(tokens), rtol=0, atol=0)
        features = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
    assert (features @ features.T)[0, 1] < 0.999


def test_sizes(tiny):
    counted = sum(p.numel() for name, p in tiny[0].named_parameters() if not name.startswith("token_embedding"))
    assert counted <= 6_000_000
    assert WEIGHTS.stat().st_size <= 15_000_000
    assert card()["parameters_without_vocabulary"] == counted


def test_the_card_speaks_of_these_weights_and_this_world():
    known = card()
    assert known["weights_sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert known["data_fingerprints"] == {name: load_world(name).fingerprint for name in world_names()}
    assert known["training"]["settings"] == TrainingConfig().__dict__, "the plain command rebuilds these weights"


def test_published_accuracies_lie_between_guessing_and_solved():
    for name in world_names():
        assert 0.35 <= card()["zero_shot"][name]["all"] <= 0.75
        assert card()["linear_probe_16_shot"][name] >= card()["zero_shot"][name]["all"] + 0.10


def test_shifted_domains_cost_accuracy_but_leave_some():
    plain = card()["zero_shot"]["birds"]["all"]
    assert set(card()["zero_shot_domains"]) == set(world_domains("birds"))
    for row in card()["zero_shot_domains"].values():
        assert 4 / 40 < row["all"] < plain - 0.05


def test_zero_shot_of_a_sample_agrees_with_the_card(tiny):
    model, _, preprocess, tokenizer = tiny
    source = load_world("vehicles")
    test = source.draw(1, 1).test
    images = image_features(model, preprocess, source, test.rows[::4])
    found = zero_shot(images, text_features(model, tokenizer, source), test.labels[::4])
    assert found["all"] == pytest.approx(card()["zero_shot"]["vehicles"]["all"], abs=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("name", world_names())
def test_published_accuracies_are_measured(tiny, name):
    model, _, preprocess, tokenizer = tiny
    found = measure(model, preprocess, tokenizer, load_world(name), probe_shots=16)
    for key, value in card()["zero_shot"][name].items():
        assert found[key] == pytest.approx(value, abs=0.01)
    assert found["probe_16_shot"] == pytest.approx(card()["linear_probe_16_shot"][name], abs=0.02)


def test_zero_shot_scores_each_half_among_its_own_names():
    texts = torch.eye(4)
    images = torch.tensor([[0.1, 0.2, 0.9, 0.0], [0.0, 0.9, 0.0, 0.0], [0, 0, 0.9, 0], [0.95, 0, 0.3, 0.9]])
    found = zero_shot(images, texts, np.arange(4))
    assert found == {"all": 0.5, "base": 0.5, "novel": 1.0}


def test_linear_probe_reads_training_labels_only():
    features = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    features[torch.arange(12), torch.arange(12) % 3] += 6
    source = load_world("fish").draw(1, 1)
    train = type(source.train)(np.arange(6), np.arange(6) % 3)
    val = type(source.train)(np.arange(6, 9), np.arange(6, 9) % 3)
    score = linear_probe(lambda rows: features[rows], train, val, features[9:], np.arange(9, 12) % 3)
    assert score == 1.0


def test_unknown_words_have_fixed_rows_of_their_own():
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    table = unseen_rows(rows, 300)
    torch.testing.assert_close(table, unseen_rows(rows.flip(0), 300), rtol=0, atol=0)
    assert len(torch.unique(table, dim=0)) == 300
    assert table.std().item() == pytest.approx(rows.std().item(), rel=0.05)
    spread = 3**0.5 * rows.std().item()
    frozen = [spread * (2 * u - 1) for u in FROZEN]
    assert table[[0, 299], [0, 15]].tolist() == pytest.approx(frozen, rel=1e-3)


def test_weights_survive_the_file_in_half_precision(tmp_path):
    ids = torch.tensor([0, 7, 30])
    state = {"token_embedding.weight": torch.randn(3, 8), "text_projection": torch.randn(4, 4)}
    pack(state, ids, tmp_path / "model.safetensors")
    found = unpack(tmp_path / "model.safetensors", 40)
    assert found["token_embedding.weight"].shape == (40, 8)
    assert torch.equal(found["token_embedding.weight"][ids], state["token_embedding.weight"].half().float())
    assert torch.equal(found["text_projection"], state["text_projection"].half().float())
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_cut_text_tower_is_exact(tiny):
    model, *_, tokenizer = tiny
    tokens = tokenizer(PROMPTS)
    with torch.no_grad():
        torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens), rtol=1e-4, atol=1e-5)


def test_pairs_repeat_whatever_the_number_of_workers(pairs):
    again = build_pairs(per_class=1, workers=2)
    assert torch.equal(pairs.images, again.images)
    assert torch.equal(pairs.tokens, again.tokens)
    assert pairs.texts == again.texts
    assert pairs.images.shape == (200, 3, 64, 64)
    assert pairs.tokens.shape == (200, CAPTIONS_EACH, 32)
    assert torch.equal(pairs.tokens[41, 2], tokenize([captions_of(FAMILIES["fish"], "pretrain", 1, 0, 6)[2]])[0])


def test_training_repeats_with_the_seed_and_learns(pairs):
    settings = TrainingConfig(steps=6, batch=24, warmup=2, learning_rate=1e-3, threads=1)
    ids = torch.unique(pairs.tokens)
    tokens = torch.searchsorted(ids, pairs.tokens)

    def losses(seed):
        chosen = TrainingConfig(**{**settings.__dict__, "seed": seed})
        return list(fit(build(chosen, len(ids)).train(), pairs, tokens, chosen))

    first = losses(1)
    assert first == losses(1)
    assert first != losses(2)
    assert np.mean(first[-2:]) < np.mean(first[:2])


def test_augmentation_moves_and_mirrors_but_invents_nothing(pairs):
    norm = json.loads((FOLDER / "open_clip_config.json").read_text())["preprocess_cfg"]
    mean, std = (255 * torch.tensor(norm[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    plain = pairs.images[:4]
    moved = augment(plain, torch.Generator().manual_seed(0)) * std + mean
    assert moved.shape == plain.shape
    for before, after in zip(plain.float(), moved, strict=True):
        assert not torch.allclose(before, after, atol=0.01)
        inner = after[:, 8:56, 8:56]
        matches = [
            torch.allclose(inner, view[:, 8 + dy : 56 + dy, 8 + dx : 56 + dx], atol=0.01)
            for view in (before, before.flip(-1))
            for dy in range(-4, 5)
            for dx in range(-4, 5)
        ]
        assert any(matches)
