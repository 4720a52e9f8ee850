"""What methods with prompts in several layers share: where prompts start, and the way through either tower."""

import torch
from jaxtyping import Float
from torch import Tensor

from hyperadapt.backbone import ImageFeatures
from hyperadapt.contexts import CONTEXT_STD, FIRST_WORDS
from hyperadapt.image_pass import ImagePass
from hyperadapt.text import ClassText
from hyperadapt.text_tower import TextTower


def text_prompts(tower: TextTower, depth: int, length: int) -> tuple[Float[Tensor, "l m w"], str]:
    """Where learned prompts of the text tower start, and the words that stay between them and a class name.

    The first prompt starts at the first words of "a photo of a", whose other words stay as they are; at random, with
    no words after it, where there are fewer words than tokens. Deeper prompts start at random.

    Args:
        tower: the frozen text tower.
        depth: blocks that get a prompt of their own; those that the tower has, where these are fewer.
        length: tokens of each prompt.
    """
    prompts = torch.randn(min(depth, tower.layers), length, tower.width) * CONTEXT_STD
    words, vectors = FIRST_WORDS.split(), tower.word_vectors(FIRST_WORDS)
    if length > len(words) or len(vectors) != len(words):
        return prompts, ""
    prompts[0] = vectors[:length]
    return prompts, "".join(f"{word} " for word in words[length:])


def image_prompts(tower: ImagePass, depth: int, length: int) -> Float[Tensor, "l m w"]:
    """Where learned prompts of the image tower start: at random, for as many of `depth` blocks as there are."""
    return torch.randn(min(depth, tower.layers), length, tower.width) * CONTEXT_STD


def image_pass(classes: ClassText) -> ImagePass:
    """The frozen image tower that belongs to the classes' text tower."""
    return ImagePass(classes.prompt_tower.model.visual)


def prompted_classes(classes: ClassText, prompts: Float[Tensor, "l m w"], words: str) -> ClassText:
    """Classes with the features of [start][prompt][words][name].[end]; all of them share the prompts."""
    tower = classes.prompt_tower
    ids = tower.tokenize([f"{words}{name}." for name in classes.names], reserve=prompts.shape[1])
    first, *deeper = prompts[:, None, None]
    return classes.with_weights(tower.prompts(first, ids, dict(enumerate(deeper, start=1)))[0])


def prompted_images(images: ImageFeatures, classes: ClassText, prompts: Float[Tensor, "l m w"]) -> ImageFeatures:
    """Images with the features of the prompted tower."""
    return ImageFeatures(image_pass(classes).features(images.tower_input, prompts), images.parts)
