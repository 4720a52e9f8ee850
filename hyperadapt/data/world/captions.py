"""Captions of pictures: kinds, a few attributes, the names of half of the classes; and captions that are false."""

import re
from functools import cache
from typing import Final

import numpy as np

from hyperadapt.data.world.images import SPLIT_CODES, WORLD_SEED
from hyperadapt.data.world.palette import SYNONYMS
from hyperadapt.data.world.taxonomy import FAMILIES, Family, FineClass

TEMPLATES: Final = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a small photo of a {}.",
    "a close photo of a {}.",
    "this is a {}.",
    "a {}.",
)
"""Sentences around the class name; a prompt ensemble uses all of them."""


def template(noun: str) -> str:
    """The data set's own template, such as "a photo of a {}, a type of bird."."""
    return f"a photo of a {{}}, a type of {noun}."


def _words(family: Family, fine: FineClass, attribute: str, adjective: bool, rng: np.random.Generator) -> str:
    value = fine.attributes[attribute]
    word = str(rng.choice(SYNONYMS[value])) if value in SYNONYMS else value
    return (family.adjectives if adjective else family.phrases)[attribute].format(word)


def _adjective_rank(word: str) -> int:
    """English order: "spotted", then "scarlet-winged", then "teal"."""
    if "-" in word:
        return 1
    return 0 if word in ("broad", "narrow", "banded", "checked", "lined", "spotted", "striped") else 2


def _compose(family: Family, fine: FineClass, rng: np.random.Generator) -> str:
    """Adjectives, a noun and a "with" part; which attributes they state is drawn."""
    named = fine.named and rng.random() < 0.3
    stated = [a for a, value in fine.attributes.items() if a != "kind" and value not in ("none", "plain")]
    order = [stated[i] for i in rng.permutation(len(stated))]
    before = 0 if named else int(rng.integers(0, 3))
    after = int(rng.integers(0, 3)) if named or before else int(rng.integers(1, 4))
    noun = fine.name if named else fine.coarse
    if not named and rng.random() < 0.15:
        noun = fine.superordinate
    adjectives = [_words(family, fine, a, True, rng) for a in order[:before]]
    adjectives.sort(key=_adjective_rank)
    phrases = [_words(family, fine, a, False, rng) for a in order[before : before + after]]
    text = " ".join([*adjectives, noun])
    return f"{text} with {' and '.join(phrases)}" if phrases else text


def caption(family: Family, label: int, rng: np.random.Generator) -> str:
    """One sentence on a picture of the class.

    Args:
        family: The data set.
        label: Position in `family.fine`.
        rng: Draws wording and what is left out.

    Returns:
        A sentence that states part of the attributes. It holds no name of a class that is not `named`, not even one
        that the adjectives happen to spell.

    Example:
        >>> from hyperadapt.data.world.taxonomy import FAMILIES
        >>> caption(FAMILIES["birds"], 0, np.random.default_rng(0)).endswith(".")
        True
    """
    secret = [other.name for other in family.fine if not other.named]
    while True:
        text = _compose(family, family.fine[label], rng)
        if not any(name in text for name in secret):
            break
    sentence = TEMPLATES[int(rng.integers(len(TEMPLATES)))] if rng.random() < 0.7 else template(family.noun)
    return sentence.format(text)


def captions_of(family: Family, split: str, label: int, index: int, count: int) -> tuple[str, ...]:
    """The captions of one picture, drawn from the picture's own seed; a longer list begins with a shorter one.

    Args:
        family: The data set.
        split: "train", "val", "test" or "pretrain".
        label: Position in `family.fine`.
        index: Number of the picture within its class and split.
        count: Captions.

    Example:
        >>> len(captions_of(FAMILIES["birds"], "test", 0, 0, 6))
        6
    """
    address = (WORLD_SEED, family.code, SPLIT_CODES[split], label, index, 1)
    rng = np.random.default_rng(np.random.SeedSequence(address))
    return tuple(caption(family, label, rng) for _ in range(count))


def falsified(family: Family, text: str, of_kind: bool, rng: np.random.Generator) -> tuple[str, bool]:
    """A caption with one word exchanged, so that it is false of its picture.

    Args:
        family: The data set.
        text: A caption of a picture of it.
        of_kind: Exchange the kind (a "finch" becomes an "owl"); else a stated attribute, and the kind where none is.
        rng: Draws the word and what takes its place.

    Returns:
        The false caption, and whether its kind or group is another one.

    Example:
        >>> falsified(FAMILIES["birds"], "a finch with a red bill.", True, np.random.default_rng(0))
        ('a owl with a red bill.', True)
    """
    kinds, values, pattern = _exchanges(family.name)
    found = [match for match in pattern.finditer(text) if match[0] in (kinds if of_kind else values)]
    found = found or [match for match in pattern.finditer(text) if match[0] in kinds]
    word = found[int(rng.integers(len(found)))]
    others = (kinds if word[0] in kinds else values)[word[0]]
    changed = text[: word.start()] + others[int(rng.integers(len(others)))] + text[word.end() :]
    return changed, word[0] in kinds


@cache
def _exchanges(name: str) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]], re.Pattern[str]]:
    """What says another thing in the place of a kind or group, and of a value of an attribute; and all these words."""
    family, kinds = FAMILIES[name], dict[str, tuple[str, ...]]()
    for words in (tuple(family.groups), tuple(kind for group in family.groups.values() for kind in group)):
        kinds |= {word: tuple(other for other in words if other != word) for word in words}
    values = {
        word: tuple(other for apart in SYNONYMS if apart != colour for other in SYNONYMS[apart])
        for colour in SYNONYMS
        for word in SYNONYMS[colour]
    }
    for attribute in family.adjectives:
        plain = {fine.attributes[attribute] for fine in family.fine} - {"none", "plain", *SYNONYMS}
        values |= {value: tuple(sorted(plain - {value})) for value in plain}
    longest_first = sorted({*kinds, *values}, key=len, reverse=True)
    return kinds, values, re.compile(rf"\b(?:{'|'.join(longest_first)})\b")
