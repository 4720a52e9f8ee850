"""Captions of the pretraining stream: kinds, a few attributes, and the names of half of the classes."""

from typing import Final

import numpy as np

from hyperadapt.data.world.palette import SYNONYMS
from hyperadapt.data.world.taxonomy import Family, FineClass

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
