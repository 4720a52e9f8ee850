"""Every reading of LatHAdapter as settings."""

from dataclasses import dataclass
from typing import Literal

from hyperadapt.errors import InputError


@dataclass(frozen=True)
class LatHAdapterConfig:
    """Which reading, and its numbers; the defaults are the faithful reading.

    Attributes:
        attributes: number M of attribute prompts.
        attribute_source: "prompts" are learnable token sequences through the frozen text tower, without a class name;
            "named" puts every class name after each of them, so that a class has attributes of its own; "features" are
            free vectors in the joint space; "auto" takes prompts where a text tower is at hand and features where only
            stored features are.
        attribute_init: "random", or "words" like colour and shape, which need a text tower.
        prompt_length: learnable tokens of one attribute prompt.
        categories: how attributes reach the categories: by "attention" over them with a residual; not at all, the
            categories passing a "bottleneck" (CLIP-Adapter's) or a "linear" map near identity of their own; by
            messages both ways over a "graph" of categories and attributes; or the categories stay ("none").
        images: what happens to images: "none", a "linear" map near identity, "attention" over the attributes with a
            residual, or both.
        attention_width: width of attention over attributes.
        residual: factor on what attention or messages add.
        bottleneck_ratio: share of the bottleneck's output in its mix, in [0, 1].
        map_penalty: weight of the squared entries of linear maps, over the number of training images.
        reach: how far images go from where they are frozen to where they are adapted where a list has names without
            training images: "full", or "chosen" among parts of the way on training classes that are held out in turn
            (`hyperadapt.reach`). Where all names of a list are known they go all the way.
        zero_shot_share: share, in [0, 1), of zero-shot CLIP in the cosine of adapted images and categories.
        consistency: weight of the mean of 1 - cos(adapted, frozen category).
        manifold: "poincare", or "euclidean" for the flat twin.
        curvature: c of the ball (sectional curvature -c).
        learn_curvature: train it.
        projection: "scale" puts features of unit length on radii; "head" sends all nodes through one layer
            normalisation and one linear map first, as HIER does.
        projection_dim: dimension of the ball behind "head".
        clip_radius: bound r on a node's tangent norm before the exponential map; images stand there.
        text_radius, attribute_radius: where categories and attributes start, as parts of r.
        learn_radii: train these two.
        riemannian: multiply gradients that come back to the nodes by (1 - c |x|^2)^2 / 4, as HIER's code does.
        hierarchy: what is arranged under what:
            h0: triplets of image, attribute and category with a margin, without ancestors;
            h1: images and their categories under attributes, attributes among themselves (HIER's proxies);
            h2: images under attributes, attributes under categories, categories among themselves;
            h3: images under categories, categories under attributes, attributes among themselves;
            h4: all nodes under all nodes;
            h5: images under attributes, categories under attributes apart from them, attributes among themselves.
        hier_weight: factor on the hierarchical term; 0 leaves it out.
        radial_weight: factor on a hinge that keeps every level nearer the origin than the next; 0 leaves it out.
        neighbours, triplets, temperature, margin: of the hierarchical term, see `manifolds.regularizers.hier_term`;
            triplets are drawn for every anchor, fewer where that would weigh up more than 2^16 candidates in a step.
    """

    attributes: int = 16
    attribute_source: Literal["auto", "prompts", "named", "features"] = "auto"
    attribute_init: Literal["random", "words"] = "random"
    prompt_length: int = 4
    categories: Literal["attention", "bottleneck", "graph", "linear", "none"] = "attention"
    images: Literal["none", "linear", "attention", "linear and attention"] = "none"
    attention_width: int = 64
    residual: float = 1.0
    bottleneck_ratio: float = 0.2
    map_penalty: float = 1.0
    reach: Literal["full", "chosen"] = "full"
    zero_shot_share: float = 0.0
    consistency: float = 0.0
    manifold: Literal["poincare", "euclidean"] = "poincare"
    curvature: float = 0.1
    learn_curvature: bool = False
    projection: Literal["scale", "head"] = "scale"
    projection_dim: int = 128
    clip_radius: float = 2.3
    text_radius: float = 0.7
    attribute_radius: float = 0.5
    learn_radii: bool = True
    riemannian: bool = False
    hierarchy: Literal["h0", "h1", "h2", "h3", "h4", "h5"] = "h1"
    hier_weight: float = 0.5
    radial_weight: float = 0.0
    neighbours: int = 20
    triplets: int = 50
    temperature: float = 0.1
    margin: float = 0.1

    def __post_init__(self) -> None:
        needs = {
            "attributes >= 2, prompt_length, attention_width and projection_dim >= 1": (
                self.attributes >= 2 and min(self.prompt_length, self.attention_width, self.projection_dim) >= 1
            ),
            "curvature and clip_radius > 0 (for flat space, manifold: euclidean)": (
                self.curvature > 0 and self.clip_radius > 0
            ),
            "text_radius and attribute_radius in (0, 1]": (
                0 < self.text_radius <= 1 and 0 < self.attribute_radius <= 1
            ),
            "hier_weight, radial_weight, consistency, map_penalty and margin >= 0": (
                min(self.hier_weight, self.radial_weight, self.consistency, self.map_penalty, self.margin) >= 0
            ),
            "bottleneck_ratio in [0, 1] and zero_shot_share in [0, 1)": (
                0 <= self.bottleneck_ratio <= 1 and 0 <= self.zero_shot_share < 1
            ),
            "neighbours and triplets >= 1 and temperature > 0": (
                self.neighbours >= 1 and self.triplets >= 1 and self.temperature > 0
            ),
        }
        for need, met in needs.items():
            if not met:
                given = {name: value for name, value in vars(self).items() if name in need}
                raise InputError(f"lathadapter needs {need}, got {', '.join(f'{k} {v}' for k, v in given.items())}")

    @property
    def arranges(self) -> bool:
        """Whether categories, attributes and images go to the ball at all."""
        return self.hier_weight > 0 or self.radial_weight > 0

    @property
    def has_attributes(self) -> bool:
        """Whether attributes act on anything: categories, images or the hierarchy."""
        return self.arranges or self.categories in ("attention", "graph") or "attention" in self.images
