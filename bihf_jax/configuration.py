"""From a config document (ml_collections) to the frozen dataclasses that the parts of the library take."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key, its value, what is allowed and the fix."""


def build(cls: type[T], values: Mapping[str, Any], path: str = "config") -> T:
    """Builds a (nested) config dataclass; what is left out keeps its default.

    Args:
      cls: a dataclass type; fields that are dataclasses themselves are built from nested mappings.
      values: field name -> value.
      path: where `values` stands in the config, for messages, e.g. "config.model".

    Returns:
      The instance. Its own checks have run.

    Raises:
      ConfigError: an unknown or missing key, a mapping where a value belongs or the reverse, or a value that the
        dataclass refuses.
    """
    types = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"{path} has no key {unknown[0]!r}; its keys are: {', '.join(fields)}")
    arguments = {}
    for name, value in values.items():
        inner = types[name]
        if dataclasses.is_dataclass(inner):
            if dataclasses.is_dataclass(value):
                arguments[name] = value
                continue
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}.{name} is a group of settings, got {value!r}")
            value = build(inner, value, f"{path}.{name}")
        else:
            value = _tuples(value)
        arguments[name] = value
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise ConfigError(f"{path} needs the key {missing[0]!r}")
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{path}: {error}") from error


def differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Where two nested mappings of plain values differ, as (path "a.b.c", value in `old`, value in `new`).

    Args:
      old: one side; a key that it lacks has the value None.
      new: the other.
      path: where the two stand, in front of every path.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            found
            for key in sorted({*old, *new})
            for found in differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [(path, old, new)]


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, to tuples, at every depth."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
