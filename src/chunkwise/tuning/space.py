"""The configurations that are tried: grids of settings from a file, or a small default."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Final

from chunkwise import config
from chunkwise.config import FIELDS, RECIPE, Settings
from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.embedding import embedders
from chunkwise.rag.enrichment import enrichers
from chunkwise.rag.reranking import rerankers
from chunkwise.rag.retrieval import retrievers
from chunkwise.rag.selection import selectors
from chunkwise.rag.sentences import segmenters
from chunkwise.rag.situating import situators
from chunkwise.registry import Registry, Spec, nearest, spec_name
from chunkwise.tuning.measures import ASKED, unseen

_ROOMS: Final[Mapping[str, Registry[Any]]] = {
    "chunker": chunkers,
    "segmenter": segmenters,
    "embedder": embedders,
    "enrich": enrichers,
    "situate": situators,
    "retriever": retrievers,
    "reranker": rerankers,
    "selector": selectors,
}
STORED: Final = tuple(name for name in RECIPE if name != "counter")
"""Settings that may be tuned and decide what is stored: each set of them is a corpus of its own."""

_LARGE: Final = 10**9
"""A size that is above any overlap."""

Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Configuration:
    """Settings that are tried together.

    Attributes:
        changes: Those that are not as at present, by name; empty: the present settings.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells it from others."""
        return json.dumps(dict(self.changes), sort_keys=True)

    @property
    def stored(self) -> dict[str, Any]:
        """The changes that need a corpus of their own."""
        return {name: value for name, value in self.changes.items() if name in STORED}

    @property
    def flags(self) -> list[str]:
        """The changes as `KEY=VALUE`, as `--set` takes them."""
        return [f"{name}={_text(value)}" for name, value in self.changes.items()]

    def __str__(self) -> str:
        shown = (f"{name}={_short(value)}" for name, value in self.changes.items())
        return " ".join(shown) or "present settings"


PRESENT: Final = Configuration()


def read_space(path: Path, present: Settings, metric: str) -> list[Configuration]:
    """The configurations of a file, the present settings first.

    The file is TOML or JSON: settings by name, each with a list of values, all combinations of
    which are tried; or several such tables in `grid`. Options of an algorithm stand in a table
    below its setting: `retriever.dense_weight = [0.5, 1.0]`.

    Raises:
        ConfigError: It cannot be read, names no setting, or a value cannot be used.
    """
    given = _read(path)
    grids = given.get("grid", given)
    tables = grids if isinstance(grids, list) else [grids]
    if not all(isinstance(table, Mapping) for table in tables):
        raise ConfigError(f"{path}: `grid` must be a table or a list of tables, got {grids!r}.")
    if extra := [key for key in given if key != "grid" and "grid" in given]:
        raise ConfigError(f"{path}: {extra[0]!r} stands beside `grid`; put it into one.")
    return configurations([_lists(table, str(path)) for table in tables], present, metric, path)


def default_space(present: Settings, metric: str) -> list[Configuration]:
    """A small space around the present settings, which come first.

    Two chunkers of whole sentences and paragraphs; half, all and double of the size; overlap for
    the recursive one. Where vectors are searched and texts have a prefix (`enrich`), with and
    without it, and where the retriever is `hybrid`, three weights of the vectors. Where the measure
    punishes too many passages, half as many too.
    """
    size = present.size
    sizes: dict[str, list[Any]] = {"size": [max(1, size // 2), size, 2 * size], "overlap": [0]}
    overlaps: dict[str, list[Any]] = {"size": [size, 2 * size], "overlap": [size // 4]}
    rest: dict[str, list[Any]] = {}
    retriever, blind = spec_name(present.retriever), unseen(metric)
    has_prefix = bool(config.specs_of(present.enrich, "enrich"))
    if retriever != "bm25" and has_prefix and "context_tokens" not in blind:
        sizes["context_tokens"] = [0, 32]
    if retriever == "hybrid" and "retriever" not in blind:
        rest["retriever.dense_weight"] = [0.5, 1.0, 2.0]
    if metric in _PUNISHING:
        rest["passages"] = sorted({present.passages, max(1, present.passages // 2)})
    both, one = {"chunker": ["recursive", "sentence"]}, {"chunker": ["recursive"]}
    grids = [{**both, **sizes, **rest}, {**one, **overlaps, **rest}]
    return configurations(grids, present, metric, "default")


_PUNISHING: Final = frozenset({"precision", "iou", "sent_precision", "sent_iou"})


def configurations(
    grids: Iterable[Grid], present: Settings, metric: str, source: object
) -> list[Configuration]:
    """All combinations of each grid, each once, the present settings first.

    Combinations whose overlap is not below their size are left out.

    Args:
        grids: Values by setting, or by `setting.option`.
        present: What is not named stays as it is there.
        metric: What is to be measured.
        source: What an error names.
    """
    found = {PRESENT.key: PRESENT}
    for grid in grids:
        _check_names(grid, metric, source)
        for combination in _combinations(grid):
            one = _configuration(combination, present, source)
            if one is not None:
                found.setdefault(one.key, one)
    return list(found.values())


def _check_names(grid: Grid, metric: str, source: object) -> None:
    for name in grid:
        setting, _, option = name.partition(".")
        known = config.known(setting, str(source))
        if known not in STORED + ASKED or (option and known not in _ROOMS):
            raise ConfigError(
                f"{source}: {name!r} cannot be tuned; what can be: {', '.join(STORED + ASKED)}."
            )
        if setting in unseen(metric) and len(grid[name]) > 1:
            raise ConfigError(
                f"{source}: {metric!r} does not change with `{setting}`; leave it out, or choose "
                "another measure: `sent_recall` changes with all settings."
            )


def _combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _configuration(
    combination: Mapping[str, Any], present: Settings, source: object
) -> Configuration | None:
    """Its changes, in the order of the settings; None: its overlap is not below its size."""
    values = {name: value for name, value in combination.items() if "." not in name}
    for name, value in combination.items():
        setting, _, option = name.partition(".")
        if option:
            spec = values.get(setting, getattr(present, setting))
            if setting == "enrich":
                spec = _only(config.specs_of(spec, setting), name, source)
            given = {"name": spec} if isinstance(spec, str) else dict(spec)
            values[setting] = {**given, option: value}
    for name in values.keys() & _ROOMS.keys():
        if values[name] != "none":
            values[name] = _listed(name, values[name], source)
    apart = {name: value for name, value in values.items() if name != "overlap"}
    least = {"overlap": values.get("overlap", present.overlap), "size": _LARGE}
    try:
        checked = config.load(arguments=apart, environ={}).settings
        overlap = config.load(arguments=least, environ={}).settings.overlap
    except ConfigError as exc:
        raise ConfigError(f"{source}: {exc}") from exc
    if overlap >= values.get("size", present.size):
        return None
    checked = dataclasses.replace(checked, size=values.get("size", present.size), overlap=overlap)
    changes = {
        name: getattr(checked, name)
        for name in FIELDS
        if name in values and getattr(checked, name) != _present(name, present)
    }
    return Configuration(changes)


def _present(name: str, present: Settings) -> Any:
    value = getattr(present, name)
    return _listed(name, value, "present") if name in _ROOMS and value != "none" else value


def _only(specs: Sequence[Spec], option: str, source: object) -> Spec:
    if len(specs) != 1:
        raise ConfigError(
            f"{source}: {option!r} is an option of one algorithm and there are {len(specs)}; give "
            "the options in the list of the setting."
        )
    return specs[0]


def _listed(setting: str, value: Any, source: object) -> Any:
    """See `_plain`; of all algorithms of a setting that takes several, alone where it is one."""
    if setting != "enrich":
        return _plain(setting, value, source)
    try:
        specs = config.specs_of(value, setting)
    except (TypeError, AttributeError) as exc:
        raise ConfigError(f"{source}: `{setting}` must be names or tables, got {value!r}.") from exc
    found = [_plain(setting, spec, source) for spec in specs]
    return found[0] if len(found) == 1 else found or "none"


def _plain(setting: str, spec: Spec, source: object) -> Spec:
    """The spec without options that have their default; the name alone where that is all.

    Raises:
        ConfigError: There is no such algorithm, or it has no such option.
    """
    if not isinstance(spec, str | Mapping) or not spec_name(spec):
        raise ConfigError(
            f"{source}: `{setting}` must be a name or a table with `name`, got {spec!r}."
        )
    if isinstance(spec, str):
        _ROOMS[setting].load(spec)
        return spec
    fields = _ROOMS[setting].options(spec_name(spec))
    for option in spec:
        if option not in fields and option != "name":
            raise ConfigError(
                f"{source}: {spec_name(spec)!r} has no option {option!r}."
                f"{nearest(option, fields)} It has: {', '.join(fields)}."
            )
    defaults = {name: f.default for name, f in fields.items() if f.default is not MISSING}
    kept = {k: v for k, v in spec.items() if k == "name" or (k, v) not in defaults.items()}
    return spec_name(spec) if len(kept) == 1 else kept


def _lists(table: Mapping[str, Any], source: str) -> dict[str, list[Any]]:
    """A grid as it was written: options in tables below their setting get dotted names."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping) and "name" not in value:
            flat.update({f"{name}.{option}": each for option, each in value.items()})
        else:
            flat[name] = value
    found = {name: value if isinstance(value, list) else [value] for name, value in flat.items()}
    if empty := [name for name, values in found.items() if not values]:
        raise ConfigError(f"{source}: `{empty[0]}` has no value to try.")
    return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ConfigError(f"{path}: cannot be read as TOML or JSON: {reason}") from exc
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{path}: must hold settings with lists of values, and holds none.")
    return given


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: Any) -> str:
    """`hybrid(dense_weight=0.5)` for an algorithm with options."""
    if not isinstance(value, Mapping):
        return _text(value)
    options = ", ".join(f"{k}={_short(v)}" for k, v in value.items() if k != "name")
    return f"{value.get('name', '')}({options})"
