"""What training on pairs minimises: InfoNCE in both directions, and the weighted negatives of a category."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy


def info_nce(logits: Float[Tensor, "b b"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Half the cross entropy from images to captions, and half that from captions to images; the sum is CLIP's loss.

    Args:
        logits: (B, B) scaled cosines of images (rows) and captions; pairs are on the diagonal.

    Example:
        >>> [round(float(term), 4) for term in info_nce(torch.zeros(2, 2))]
        [0.3466, 0.3466]

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3.
    """
    own = torch.arange(len(logits), device=logits.device)
    return cross_entropy(logits, own) / 2, cross_entropy(logits.T, own) / 2


def category_loss(
    logits: Float[Tensor, "b b"],
    same: Bool[Tensor, "b b"],
    false_logits: Float[Tensor, "b f"],
    false_same: Bool[Tensor, " f"],
    owners: Int[Tensor, " f"],
    alpha: float,
) -> Float[Tensor, ""]:
    """-log of e^s / (e^s + sum of w e^s' over the negatives), averaged; w is 1 + alpha within the category, else 1.

    The negatives of an image are the other captions of the batch and those that were made false of it. With alpha = 0
    and none of the latter this is cross entropy from images to captions.

    Args:
        logits: (B, B) scaled cosines of images and captions; pairs are on the diagonal.
        same: (B, B) whether the caption's image is of the image's category.
        false_logits: (B, F) of images and false captions.
        false_same: (F,) whether the false caption is of the category of the image that it is false of.
        owners: (F,) that image.
        alpha: at least 0.

    Source: Wang et al. 2025, arXiv 2508.04028.
    """
    size, more = len(logits), math.log1p(alpha)
    others = ~torch.eye(size, dtype=torch.bool, device=logits.device)
    weighted = logits + more * (same & others)
    strangers = owners != torch.arange(size, device=logits.device)[:, None]
    false = (false_logits + more * false_same).masked_fill(strangers, -torch.inf)
    return (torch.cat([weighted, false], dim=1).logsumexp(dim=1) - logits.diagonal()).mean()
