"""Find an algorithm by its file name, import it on first use, build it from options."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from chunkwise.errors import ConfigError, UnknownNameError

T = TypeVar("T")

Spec = str | Mapping[str, Any]
"""An algorithm in the config: `"name"` or `{"name": ..., option: ...}`."""


def spec_name(spec: Spec) -> str:
    """The algorithm's name in a spec; empty if the spec names none."""
    return spec if isinstance(spec, str) else str(spec.get("name", ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing when no known name is close."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """The algorithms of one room: every module beside `base.py`, plus installed entry points.

    Args:
        room: Dotted name of the package, e.g. `chunkwise.rag.chunking`.
        shared: Modules of the room that are no algorithms.
    """

    def __init__(self, room: str, *, shared: tuple[str, ...] = ("base",)) -> None:
        self.room, self.shared = room, shared

    @functools.cached_property
    def own(self) -> list[str]:
        """Names of the algorithms kept in this folder, sorted. Imports none of them."""
        path = importlib.import_module(self.room).__path__
        found = (module.name for module in pkgutil.iter_modules(path))
        return sorted(n for n in found if n not in self.shared and not n.startswith("_"))

    @functools.cached_property
    def installed(self) -> dict[str, EntryPoint]:
        """Algorithms of other packages: entry points whose group is this room's dotted name."""
        return {entry.name: entry for entry in entry_points(group=self.room)}

    def load(self, name: str) -> type[T]:
        """Import the class called `name`, the only name in its module's `__all__`.

        Raises:
            UnknownNameError: There is none; the message lists and suggests.
            MissingDependencyError: The algorithm needs an extra that is not installed.
        """
        if name in self.own:
            module = importlib.import_module(f"{self.room}.{name}")
            (class_name,) = module.__all__
            return cast(type[T], getattr(module, class_name))
        if name in self.installed:
            return cast(type[T], self.installed[name].load())
        known = [*self.own, *self.installed]
        raise UnknownNameError(
            f"`{self.room}` has no {name!r}.{nearest(name, known)} It has: {', '.join(known)}."
        )

    def options(self, name: str) -> dict[str, dataclasses.Field[Any]]:
        """The options of an algorithm: the fields of its class."""
        fields = dataclasses.fields(cast(Any, self.load(name)))
        return {field.name: field for field in fields if field.init}

    def build(self, spec: Spec, **parts: Any) -> T:
        """Build from `"name"` or `{"name": ..., **options}`.

        Args:
            spec: The algorithm and its options.
            **parts: Objects and defaults offered to the algorithm (a token counter, an
                embedder, a size); it takes those that it has a field for.

        Raises:
            ConfigError: An option that the algorithm does not have; the message suggests.
        """
        given = {"name": spec} if isinstance(spec, str) else dict(spec)
        if "name" not in given:
            raise ConfigError(f"`{self.room}`: {dict(given)!r} has no `name`.")
        name = given.pop("name")
        fields = self.options(name)
        for option in given:
            if option not in fields:
                raise ConfigError(
                    f"{name!r} has no option {option!r}.{nearest(option, fields)} "
                    f"It has: {', '.join(fields) or 'none'}."
                )
        offered = {k: v for k, v in parts.items() if k in fields and k not in given}
        for option, field in fields.items():
            has_default = (field.default, field.default_factory) != (MISSING, MISSING)
            if not has_default and option not in given and option not in offered:
                raise ConfigError(
                    f"{name!r} needs the option {option!r}: give "
                    f'{{name = "{name}", {option} = ...}} (as JSON on the command line).'
                )
        return self.load(name)(**offered, **given)
