"""Frozen dataclasses as configuration: strict in, plain data out."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hyperadapt.errors import InputError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """The fields of a (nested) dataclass as plain data, ready for JSON or YAML."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build a dataclass from plain data; unknown keys, missing keys and wrong types are errors that name the key.

    Args:
        cls: the dataclass.
        data: keys are field names.
        where: path of the enclosing keys, for the error.

    Raises:
        InputError: naming the key, what it takes and what was given.
    """
    place = where or cls.__name__
    if not isinstance(data, Mapping):
        raise InputError(f"{place} needs a mapping of settings, got {data!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise InputError(f"{place} has no setting {', '.join(map(repr, unknown))}; it takes {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    values = {name: _checked(hints[name], value, f"{place}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(f"{place}: {error}") from None


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type, or an error that names the place."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _checked(next(a for a in arguments if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise InputError(f"{where} takes one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} takes a list, got {value!r}")
        return tuple(_checked(arguments[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is not bool and isinstance(value, bool))):
        raise InputError(f"{where} takes {hint.__name__}, got {value!r}")
    return value


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
