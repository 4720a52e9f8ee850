"""How much each token of a caption has to do with its image: DCAR's dynamic weights."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hyperadapt.text_tower import TextTower
from hyperadapt.transfer import sent


@final
class TokenTable:
    """Features of single tokens through a frozen text tower, each encoded once.

    Args:
        tower: the text tower.
    """

    def __init__(self, tower: TextTower) -> None:
        self.tower = tower
        self._rows: dict[int, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "TokenTable":
        """Itself: what it holds is a function of the frozen tower."""
        return self

    @torch.no_grad()
    def features(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """L2-normalised features of tokens, made outside any autocast of the caller's, for they are kept.

        Args:
            tokens: on the CPU, each once.
        """
        listed = tokens.tolist()
        with torch.autocast(self.tower.device.type, enabled=False):
            for token in listed:
                if token not in self._rows:  # one by one: in a batch they round by who is beside them
                    self._rows[token] = self.tower.token_features(torch.tensor([token]))[0]
        return torch.stack([self._rows[token] for token in listed])


def token_weights(
    table: TokenTable, ids: Int[Tensor, "k l"], seen: Float[Tensor, "k d"], blank: Float[Tensor, " d"]
) -> Float[Tensor, "k l"]:
    """w_j = |S(tok_j, blank) - S(tok_j, image)|, S being the cosine; 0 for marks and padding.

    A token's feature is that of the token as a text of its own. A token that fits the image much better, or much worse,
    than it fits nothing at all weighs most; where the image is the blank one all weights are 0.

    Args:
        table: of the tower that the ids are for.
        ids: (K, L) tokenised captions.
        seen: (K, D) L2-normalised feature of each caption's image.
        blank: (D,) the same of an image without content.

    Source: Wang et al. 2025, arXiv 2508.04028.
    """
    unique, places = ids.cpu().unique(return_inverse=True)
    differences = (table.features(unique) @ (blank - seen).T).abs()
    places = sent(places, seen.device)
    weights = differences[places, torch.arange(len(ids), device=seen.device)[:, None]]
    return weights * table.tower.holds_words(ids).to(weights)
