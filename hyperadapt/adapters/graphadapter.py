"""GraphAdapter: class texts gather from the texts and the mean images of all training classes over two graphs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch, rows_by_name
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.shots import Shots
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class GraphAdapterConfig:
    """Settings of GraphAdapter.

    Attributes:
        chunks: how many graphs the training classes are dealt out to, as the release deals them, in turn.
        text_share: share of the text graph beside the visual graph in what is gathered, in [0, 1].
        keep: share of the frozen text beside what is gathered, in [0, 1].
    """

    chunks: int = 4
    text_share: float = 0.7
    keep: float = 0.7

    def __post_init__(self) -> None:
        if not (0 <= self.text_share <= 1 and 0 <= self.keep <= 1) or self.chunks < 1:
            raise InputError(
                f"graphadapter needs chunks >= 1, text_share and keep in [0, 1], got {self.chunks}, {self.text_share} "
                f"and {self.keep}"
            )


@register(
    "graphadapter",
    "adapter",
    GraphAdapterConfig,
    summary="class texts gather from texts and mean images of all training classes over two graphs (GraphAdapter)",
    source="Li et al. 2023, arXiv 2309.13625",
    training=TrainingConfig(optimizer="adam", learning_rate=1e-3, weight_decay=0.0, epochs=100, batch_size=256),
)
class GraphAdapter(AbstractAdapter):
    """t' = normalise(k t + (1 - k) g), g the mean over chunks of s g_text + (1 - s) g_visual.

    Each class is node 0 of a graph with the nodes of a chunk: texts of its training classes, or means of their shots.
    Edges are cosines, not below 0, plus I, normalised by the roots of the degrees; g = tanh((A X)_0 W + b) with one W
    for each kind of graph and one b for each kind and training class (0 at first and for new classes), which together
    are the parameters that the paper counts. Choices of ours: classes that four does not divide make chunks of unequal
    sizes, `keep` is 0.7 on all data sets, where the paper sets it for each, means of shots have unit length, and the
    first epoch is a warm-up.
    """

    reads_shots = True
    text_nodes: Tensor
    visual_nodes: Tensor

    def __init__(self, config: GraphAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.counts, self.training_names = config, context.counts, context.classes.names
        self.register_buffer("text_nodes", context.classes.weights.clone(), persistent=False)
        self.register_buffer("visual_nodes", torch.zeros_like(context.classes.weights))
        self.text_graph = GraphConvolution(len(self.training_names), context.embed_dim)
        self.visual_graph = GraphConvolution(len(self.training_names), context.embed_dim)

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Normalised means of the shots of each class."""
        means = Shots.of(images, labels, self.counts).class_means(len(self.counts))
        self.visual_nodes.copy_(normalize(means, dim=-1))

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Frozen texts and what they gather."""
        text, share, keep = classes.weights, self.config.text_share, self.config.keep
        gathered = share * self._gathered(self.text_graph, self.text_nodes, classes)
        gathered = gathered + (1 - share) * self._gathered(self.visual_graph, self.visual_nodes, classes)
        return classes.with_weights(normalize(keep * text + (1 - keep) * gathered, dim=-1))

    def _gathered(self, graph: "GraphConvolution", nodes: Float[Tensor, "c d"], classes: ClassText) -> Tensor:
        chunks = min(self.config.chunks, len(nodes))
        bias = rows_by_name(graph.bias, self.training_names, classes.names)
        found = [graph(classes.weights, nodes[first::chunks], bias) for first in range(chunks)]
        return torch.stack(found).mean(dim=0)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}


class GraphConvolution(nn.Module):
    """One graph convolution, of which node 0 is kept.

    Args:
        count: training classes, each with a bias.
        width: D.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.zeros(count, width))

    def forward(
        self, first: Float[Tensor, "k d"], nodes: Float[Tensor, "m d"], bias: Float[Tensor, "k d"]
    ) -> Float[Tensor, "k d"]:
        """What node 0 gathers in K graphs that differ in it alone."""
        own, among = (first @ nodes.T).clamp(min=0), (nodes @ nodes.T).clamp(min=0)
        first_degree = 2 + own.sum(dim=1, keepdim=True)  # itself: cosine 1, and I
        degrees = 1 + among.sum(dim=1) + own
        gathered = 2 / first_degree * first + (own * (first_degree * degrees).rsqrt()) @ nodes
        return torch.tanh(gathered @ self.weight + bias)
