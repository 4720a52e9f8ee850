"""A method is an adapter, a head and how they are trained, each with its settings: data, not a class."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hyperadapt.config import from_dict, read_yaml, to_dict
from hyperadapt.errors import InputError
from hyperadapt.registry import SAME_WEIGHTS, Component, Kind, component, components
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class ComponentSettings:
    """One component with its settings.

    Attributes:
        type: registered name.
        settings: an instance of the component's configuration class.
    """

    type: str
    settings: Any


@dataclass(frozen=True)
class Method:
    """What the protocols run.

    Attributes:
        name: as shown in tables.
        adapter, head: the components.
        training: None where nothing is trained.
        summary: one line for listings.
        cited: the paper, where it is not that of a component.
    """

    name: str
    adapter: ComponentSettings
    head: ComponentSettings
    training: TrainingConfig | None
    summary: str
    cited: str = ""

    @property
    def components(self) -> tuple[Component, Component]:
        """The registered adapter and head."""
        return component(self.adapter.type, "adapter"), component(self.head.type, "head")

    @property
    def knows_split(self) -> bool:
        """Whether inference must be told which half a list is; what finds known classes by their names need not."""
        adapter, head = self.components
        return adapter.must_know_split(self.adapter.settings) or head.must_know_split(self.head.settings)

    @property
    def pools_parts(self) -> bool:
        """Whether position-wise features are read where images have them."""
        return any(part.module.pools_parts for part in self.components)

    @property
    def reads_pixels(self) -> bool:
        """Whether images pass a tower that the method changes, so that frozen features do not do."""
        return any(part.module.reads_pixels for part in self.components)

    @property
    def needs_tower(self) -> bool:
        """Whether a text tower must be at hand, so that stored features do not do."""
        return any(part.needs_tower for part in self.components)

    @property
    def learns(self) -> bool:
        """Whether anything comes of training images, by training or by keeping them."""
        return self.training is not None or any(part.module.reads_shots for part in self.components)

    @property
    def selects(self) -> bool:
        """Whether validation images may be read, to choose settings after training."""
        return self.components[1].module.selects

    @property
    def takes_captions(self) -> bool:
        """Whether captions do in place of class names, as retrieval needs it: each is adapted alone, cosines score."""
        return self.components[0].module.adapts_alone(self.adapter.settings) and self.head.type == PLAIN_HEAD

    @property
    def starts_at_zero_shot(self) -> bool:
        """Whether scores before training are those of frozen CLIP."""
        adapter, head = self.components
        return adapter.leaves_zero_shot(self.adapter.settings) and head.leaves_zero_shot(self.head.settings)

    @property
    def sees_unlabelled_or_novel_data(self) -> bool:
        """Whether anything but labelled images of the training classes is read."""
        return any(part.sees_unlabelled_or_novel_data for part in self.components)

    @property
    def novel(self) -> str:
        """How classes without training images are scored."""
        adapter, head = self.components
        rule = head.novel_rule(self.head.settings)
        return adapter.novel_rule(self.adapter.settings) if rule == SAME_WEIGHTS else rule

    @property
    def source(self) -> str:
        """Papers behind the method."""
        if self.cited:
            return self.cited
        adapter, head = self.components
        return head.source if adapter.name == PLAIN_ADAPTER and head.name != PLAIN_HEAD else adapter.source

    def controls(self) -> list["Method"]:
        """The same method without one claim of it each: what must stand beside it in a table.

        Where adapter and head have a control of the same name, it is one control with both changed.
        """
        adapter, head = self.components
        changes: dict[str, dict[str, Any]] = {}
        for part, kind, own in ((adapter, "adapter", self.adapter), (head, "head", self.head)):
            for name, settings in part.module.controls(own.settings).items():
                changes.setdefault(name, {})[kind] = ComponentSettings(own.type, settings)
        return [replace(self, name=f"{self.name}-{name}", **change) for name, change in changes.items()]

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides a run, as plain data; `method_from_dict` reads it back."""
        return {
            "name": self.name,
            "summary": self.summary,
            **({"source": self.cited} if self.cited else {}),
            "adapter": {"type": self.adapter.type, **to_dict(self.adapter.settings)},
            "head": {"type": self.head.type, **to_dict(self.head.settings)},
            "training": None if self.training is None else to_dict(self.training),
        }


PLAIN_ADAPTER, PLAIN_HEAD = "zero-shot", "cosine"


def _part(kind: Kind, data: Mapping[str, Any] | None, default: str, where: str) -> ComponentSettings:
    settings = dict(data or {})
    known = component(settings.pop("type", default), kind)
    return ComponentSettings(known.name, from_dict(known.config, settings, f"{where}.{kind}"))


def method_from_dict(data: Mapping[str, Any], where: str = "recipe") -> Method:
    """A method from plain data (a recipe); anything left out takes the components' defaults.

    Args:
        data: keys name, summary, source (a paper that is not that of a component), adapter, head, training; the last
            three are mappings, adapter and head with `type`.
        where: file or key, for errors.

    Raises:
        InputError: for an unknown component or setting.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where} needs a mapping with name, adapter, head and training, got {data!r}")
    unknown = sorted(set(data) - {"name", "summary", "source", "adapter", "head", "training"})
    if unknown or "name" not in data:
        raise InputError(f"{where}: " + (f"unknown key {unknown[0]!r}" if unknown else "the key 'name' is missing"))
    adapter = _part("adapter", data.get("adapter"), PLAIN_ADAPTER, where)
    head = _part("head", data.get("head"), PLAIN_HEAD, where)
    default = component(head.type).training or component(adapter.type).training
    training = data.get("training")
    if training is not None:
        training = from_dict(TrainingConfig, {**(to_dict(default) if default else {}), **training}, f"{where}.training")
    elif "training" not in data:
        training = default
    return Method(str(data["name"]), adapter, head, training, str(data.get("summary", "")), str(data.get("source", "")))


def named_methods() -> dict[str, Method]:
    """All methods known by name: one for each component beyond the plain ones, and the shipped recipes."""
    methods = {}
    for known in components().values():
        if known.name == PLAIN_HEAD:
            continue
        methods[known.name] = method_from_dict(
            {"name": known.name, "summary": known.summary, known.kind: {"type": known.name}}
        )
    for file in sorted(resources.files("hyperadapt.recipes").iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            method = method_from_dict(yaml.safe_load(file.read_text(encoding="utf-8")), file.name)
            methods[method.name] = method
    return methods


def load_method(name: str) -> Method:
    """A method by name, or from a recipe file (a path that ends in .yaml or .yml).

    Raises:
        InputError: listing the known methods.
    """
    if name.endswith((".yaml", ".yml")):
        return method_from_dict(read_yaml(Path(name)), name)
    methods = named_methods()
    if name not in methods:
        raise InputError(f"unknown method {name!r}; known: {', '.join(methods)}; or a recipe file (.yaml)")
    return methods[name]
