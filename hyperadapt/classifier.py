"""A few labelled images and class names in, a classifier for these and for new names out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import Backbone, load_backbone
from hyperadapt.checkpoint import check_made_on, load_checkpoint, save_checkpoint
from hyperadapt.errors import InputError
from hyperadapt.features import TowerFeatures
from hyperadapt.fit import fit_shots
from hyperadapt.given_images import GivenImages, ImageInput, tower_batches
from hyperadapt.hierarchy import ClassTree
from hyperadapt.inspection import Inspection, inspect
from hyperadapt.methods import Method, load_method, method_from_dict
from hyperadapt.model import FewShotModel, build_model
from hyperadapt.serving import save_deployed
from hyperadapt.text import ClassText, class_text

DEFAULT_TEMPLATE = "a photo of a {}."


class FewShotClassifier:
    """Adapts a frozen CLIP to classes with a few labelled images each; new class names can be scored at any time.

    Args:
        backbone: an open_clip model object (left exactly as it is), or a name as `load_backbone` takes it.
        tokenizer, preprocess: with a model object: its tokenizer and evaluation preprocessing.
        method: a method's name, a recipe file, or a `Method`.
        templates: prompt templates with one `{}`.
        views: augmented views of each training image, beside the plain one.
        seed: of initial values, batches and augmentations.
        device: with a backbone name: where it goes.
        prompt_memory_gib: what learned prompts may keep for their gradient, as `load_backbone` takes it.

    Example:
        >>> from hyperadapt.data.world import load_world
        >>> world = load_world("birds")
        >>> shots = world.draw(shots=2, seed=1).train
        >>> images = [world.image(row) for row in shots.rows]
        >>> classifier = FewShotClassifier("tiny", method="clip-adapter").fit(images, shots.labels, world.class_names)
        >>> classifier.logits(images[:3], ["red fish", "blue bird"]).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        tokenizer: Any = None,
        preprocess: Any = None,
        *,
        method: str | Method = "lathadapter",
        templates: Sequence[str] = (DEFAULT_TEMPLATE,),
        views: int = 3,
        seed: int = 1,
        device: str = "auto",
        prompt_memory_gib: float = 2.0,
    ) -> None:
        self.backbone: Backbone = load_backbone(
            backbone, tokenizer=tokenizer, preprocess=preprocess, device=device, prompt_memory_gib=prompt_memory_gib
        )
        self.method = load_method(method) if isinstance(method, str) else method
        self.templates = tuple(templates)
        self.views = views
        self.seed = seed
        self._model: FewShotModel | None = None
        self._classes: ClassText | None = None
        self._counts: tuple[int, ...] = ()

    def fit(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[int] | Sequence[str] | np.ndarray,
        class_names: Sequence[str],
    ) -> Self:
        """Train on labelled images.

        Args:
            images: PIL images or paths.
            labels: one a image, an index into `class_names` or one of the names.
            class_names: at least two.

        Raises:
            InputError: when counts disagree, a label is unknown, or a class has no image.
        """
        indices = _label_indices(images, labels, class_names)
        source = GivenImages(images, indices, class_names, self.templates)
        features, shots = TowerFeatures(source, self.backbone, self.views), source.zero_shot_part()
        fitted = fit_shots(self.method, features, shots, range(len(class_names)), self.seed)
        self._model, self._classes = fitted.model, features.classes
        self._counts = tuple(np.bincount(indices).tolist())
        return self

    def _fitted(self) -> tuple[FewShotModel, ClassText]:
        if self._model is None or self._classes is None:
            raise InputError("this classifier has not been fitted; call fit(images, labels, class_names) first")
        return self._model, self._classes

    def logits(self, images: Sequence[ImageInput], class_names: Sequence[str] | None = None) -> Float[Tensor, "n k"]:
        """Scores of images for the training classes, or for any other list of names.

        Args:
            images: PIL images or paths.
            class_names: the names to score; None for those of `fit`.

        Returns:
            (N, K) on the CPU.
        """
        model, classes = self._listed(class_names)
        if not len(images):
            return torch.zeros(0, len(classes))
        batches = tower_batches(self.backbone, images, model.pools_parts, model.reads_pixels)
        return torch.cat([scores.cpu() for scores in model.scores(batches, classes)])

    def predict(
        self,
        images: Sequence[ImageInput],
        class_names: Sequence[str] | None = None,
        tree: ClassTree | None = None,
    ) -> list[str]:
        """The best class name for each image.

        Args:
            images: PIL images or paths.
            class_names: the names to choose among; None for those of `fit`.
            tree: of these names; with it, the best is the one of least expected cost, else the likeliest.

        Raises:
            InputError: when the tree has another number of classes.
        """
        names = self._fitted()[1].names if class_names is None else tuple(class_names)
        logits = self.logits(images, class_names)
        if tree is None:
            return [names[i] for i in logits.argmax(dim=1).tolist()]
        if len(tree) != len(names):
            raise InputError(
                f"a class tree must have a leaf for each of {len(names)} names, got {len(tree)}; tree.select takes some"
            )
        chosen = tree.expected_cost_decisions(logits.double().softmax(dim=1).numpy())
        return [names[i] for i in chosen.tolist()]

    def inspect(self, images: Sequence[ImageInput], class_names: Sequence[str] | None = None) -> list[Inspection]:
        """Attention maps and relations behind each answer, for methods with the head `xrvlm`.

        Args:
            images: PIL images or paths.
            class_names: the names to score; None for those of `fit`.

        Raises:
            InputError: for a method with another head, or a tower whose positions cannot be read.
        """
        model, classes = self._listed(class_names)
        batches = tower_batches(self.backbone, images, with_parts=True, with_pixels=model.reads_pixels)
        return [found for batch in batches for found in inspect(model, batch, classes)]

    def _listed(self, class_names: Sequence[str] | None) -> tuple[FewShotModel, ClassText]:
        """The model and the classes that were asked for."""
        model, classes = self._fitted()
        if class_names is None:
            return model, classes
        return model, class_text(self.backbone.text, class_names, self.templates)

    def save_pretrained(self, folder: str | Path, *, deployed: bool = False) -> None:
        """Write the adapter (not the towers) to a folder: adapter.safetensors and adapter.json.

        Args:
            folder: made when it is not there.
            deployed: instead, write a head of `xrvlm` that knows the training classes alone as what it is in
                evaluation, an MLP without texts: deployed.safetensors and deployed.json, for
                `DeployedClassifier.from_pretrained`.

        Raises:
            InputError: with `deployed`, for a method that reads texts when it scores.
        """
        model, classes = self._fitted()
        made_on: dict[str, Any] = {
            "backbone": self.backbone.name,
            "backbone_fingerprint": self.backbone.fingerprint,
            "templates": list(self.templates),
        }
        if deployed:
            save_deployed(Path(folder), model, classes.names, made_on)
            return
        save_checkpoint(Path(folder), model, self.method, classes.names, self._counts, made_on)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        backbone: str | nn.Module,
        tokenizer: Any = None,
        preprocess: Any = None,
        *,
        device: str = "auto",
    ) -> Self:
        """Read an adapter back onto the backbone that it was trained on.

        Raises:
            InputError: when the folder is damaged, or the backbone's weights are others.
        """
        saved = load_checkpoint(Path(folder))
        config = saved.config
        method = method_from_dict(config["method"], str(folder))
        if config["backbone_fingerprint"] is None:
            raise InputError(
                f"the adapter in {folder} was trained on stored features of {config['backbone']}, without its towers; "
                "train it on images to use it on images"
            )
        classifier = cls(backbone, tokenizer, preprocess, method=method, templates=config["templates"], device=device)
        check_made_on(saved, Path(folder), classifier.backbone.name, classifier.backbone.fingerprint)
        classes = class_text(classifier.backbone.text, config["class_names"], config["templates"])
        tower, counts = classifier.backbone, tuple(config["images_per_class"])
        context = BuildContext(
            classes, classes.weights.shape[1], tower.part_width, tower.logit_scale, sum(counts), counts
        )
        model = build_model(method, context, seed=0)
        model.load_state_dict(saved.weights)
        classifier._model, classifier._classes, classifier._counts = model.eval(), classes, counts
        return classifier


def _label_indices(
    images: Sequence[ImageInput], labels: Sequence[int] | Sequence[str] | np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """Labels as int64 indices, checked."""
    if len(class_names) < 2:
        raise InputError(f"a classifier needs at least 2 class names, got {len(class_names)}")
    if len(images) != len(labels):
        raise InputError(f"got {len(images)} images and {len(labels)} labels; give one label for each image")
    position = {name: i for i, name in enumerate(class_names)}
    indices = np.array(
        [position.get(label, -1) if isinstance(label, str) else int(label) for label in labels], dtype=np.int64
    )
    wrong = [str(label) for label, i in zip(labels, indices, strict=True) if not 0 <= i < len(class_names)]
    if wrong:
        raise InputError(
            f"the label {wrong[0]!r} is none of the {len(class_names)} classes; give an index from 0 or a class name"
        )
    missing = sorted(set(range(len(class_names))) - set(indices.tolist()))
    if missing:
        raise InputError(
            f"{len(missing)} classes have no image, such as {class_names[missing[0]]!r}; leave them out of class_names "
            "and score them later"
        )
    return indices
