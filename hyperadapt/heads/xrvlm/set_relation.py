"""Design B: relations of any list of classes, each seen relative to the others, with attention to the likeliest ones.

Ours, for classes without training images. Nothing in it knows a class, the number of classes or their order.
"""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import elu

from hyperadapt.heads.xrvlm.relation import AbstractRelationHead, LearnedCosines, Scene, Sizes, likeliest, standing
from hyperadapt.heads.xrvlm.shared_scores import last_layer

CACHED = 2**21
"""Values of class tokens that a CPU works on at a time: at 1,000 classes whole batches of them leave its cache, and a
step took up to twice as long."""


class ClassAttention(nn.Module):
    """Every class asks the likeliest classes; what comes back is added to it.

    Few are asked and many ask, so the maps of queries and of answers are applied to those asked: H * L keys in token
    space and as many answers, which is the same product in another order.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b k w"], places: Tensor, usable: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b k w"]:
        """Tokens with what they learnt of the classes at `places` (B, L)."""
        tokens = self.norm(tokens)
        asked = tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[-1]))
        key, value = (x.unflatten(-1, (self.heads, -1)) for x in self.key_value(asked).chunk(2, dim=-1))
        key = key / key.shape[-1] ** 0.5
        keys = torch.einsum("blhc,hcw->bwhl", key, self.query.weight.unflatten(0, (self.heads, -1)))
        offsets = torch.einsum("blhc,hc->bhl", key, self.query.bias.unflatten(0, (self.heads, -1)))
        offsets = offsets.masked_fill(~usable[:, None], -torch.inf)
        scores = torch.baddbmm(offsets.flatten(1)[:, None], tokens, keys.flatten(2))
        weights = scores.unflatten(-1, (self.heads, -1)).softmax(dim=-1).flatten(2)
        answers = torch.einsum("blhc,whc->bhlw", value, self.output.weight.unflatten(1, (self.heads, -1)))
        return tokens + (weights @ answers.flatten(1, 2) + self.output.bias)


@final
class SetRelation(AbstractRelationHead):
    """Zero-shot scores corrected by the parts, and a correction that classes make of each other.

    At first, with the last layer at zero, it is zero-shot CLIP exactly.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        config = sizes.config
        self.scale, self.candidates, self.standing = sizes.scale, config.candidates, config.standing
        self.relations = LearnedCosines(sizes)
        self.embed = nn.Linear(self.relations.count + 1, config.width)
        self.name = nn.Linear(sizes.width, config.width, bias=False)
        self.attention = nn.ModuleList(
            ClassAttention(config.width, config.attention_heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.hidden, self.output = nn.Linear(config.width, config.width), last_layer(config.width, bias=False)

    @property
    def compares(self) -> bool:
        """Unless classes neither stand beside nor ask one another."""
        return self.standing or len(self.attention) > 0

    def forward(self, scene: Scene) -> Float[Tensor, "b k"]:
        """Logits of any classes."""
        together = max(1, CACHED // (scene.cosines.shape[1] * self.name.out_features))
        if scene.cosines.is_cuda or len(scene.cosines) <= together:
            return self._scored(scene)
        return torch.cat([self._scored(few) for few in scene.split(together)])

    def _scored(self, scene: Scene) -> Float[Tensor, "b k"]:
        """Logits of images that are worked on at a time."""
        relations, scores = self.relations(scene)
        everything = torch.cat([relations, scene.cosines[:, :, None]], dim=-1)
        if self.standing:
            everything = standing(everything, scene.present)
        tokens = self.embed(everything) + self.name(scene.text.mean(0))
        places, usable = likeliest(scene.cosines, scene.present, self.candidates)
        for layer in self.attention:
            tokens = layer(tokens, places, usable)
        correction = self.output(elu(self.hidden(self.norm(tokens)))).squeeze(-1)
        return self.scale * scores + correction

    def penalty(self) -> Float[Tensor, ""] | None:
        """Of the map of visual parts."""
        return self.relations.penalty()
