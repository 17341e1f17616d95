"""What users give to `LLM`, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from chunkwise.errors import ConfigError, RequestError
from chunkwise.llm.kernels.ops import Quantization, default_dtype
from chunkwise.llm.models.base import ModelConfig
from chunkwise.types import Prompt, SamplingParams, Segment

AnyPrompt = str | Prompt | Items[int]
"""Text as it is, a chat prompt for the model's template, or token ids."""


def checked_path(path: object) -> Path:
    """The folder of a model; whether it is there is not looked at.

    Raises:
        ConfigError: It is neither text nor a path.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(path, bytes) or not os.fspath(path):
        raise ConfigError(f"`path` must be the folder of a model, got {path!r}.")
    return Path(path)


def check_counts(**settings: tuple[object, int]) -> None:
    """Settings that are whole numbers: each with its value and the lowest that it may have.

    Raises:
        ConfigError: One is not.
    """
    for name, (value, lowest) in settings.items():
        if not _is_whole(value) or cast(int, value) < lowest:
            raise ConfigError(f"`{name}` must be a whole number from {lowest}, got {value!r}.")


def checked_quantize(name: object) -> Quantization:
    """How weights are stored.

    Raises:
        ConfigError: There is no such way.
    """
    if name not in (known := get_args(Quantization)):
        raise ConfigError(f"`quantize` must be one of {', '.join(known)}, got {name!r}.")
    return cast(Quantization, name)


def checked_dtype(name: object, device: torch.device) -> torch.dtype:
    """The type of activations; what `auto` is depends on the device.

    Raises:
        ConfigError: It is none that models run in.
    """
    known = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    if name == "auto":
        return default_dtype(device)
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"`dtype` must be one of auto, {', '.join(known)}, got {name!r}.")
    return known[name]


def check_specs(**settings: object) -> None:
    """Refuse what cannot name an algorithm.

    Raises:
        ConfigError: One is no name, and no mapping with one.
    """
    for name, spec in settings.items():
        if not isinstance(spec, str | Mapping):
            raise ConfigError(f"`{name}` must be the name of an algorithm, got {spec!r}.")


def checked_context(context: int, config: ModelConfig) -> int:
    """Longest prompt and completion together; 0: what the model was made for.

    Raises:
        ConfigError: The model has fewer positions.
    """
    if context > config.max_context:
        raise ConfigError(
            f"`context` may be at most {config.max_context} for this model, got {context!r}; "
            "0 is all of it."
        )
    return int(context) or config.max_context


def listed(prompts: AnyPrompt | Items[AnyPrompt]) -> list[AnyPrompt]:
    """One prompt or several as a list. Numbers are one prompt in tokens.

    Raises:
        RequestError: It is nothing of the kind.
    """
    if isinstance(prompts, str | Prompt):
        return [prompts]
    several = _items(prompts)
    if several and all(isinstance(one, Real) for one in several):
        return [cast(Items[int], several)]
    return cast(list[AnyPrompt], several)


def spread(sampling: SamplingParams | Items[SamplingParams], n: int) -> list[SamplingParams]:
    """Sampling settings, one for each of `n` prompts.

    Raises:
        RequestError: There are more or fewer.
    """
    if isinstance(sampling, SamplingParams):
        return [sampling] * n
    if not isinstance(sampling, Iterable) or isinstance(sampling, str | Mapping):
        raise _no_sampling(sampling)
    several = list(sampling)
    if len(several) != n:
        raise RequestError(f"{n} prompts came with {len(several)} sampling settings.")
    return several


def check_prompt(prompt: Prompt) -> None:
    """Refuse a `Prompt` that holds something else than segments of text.

    Raises:
        RequestError: The message shows what it holds.
    """
    pieces = prompt.segments
    if not isinstance(pieces, tuple | list):
        raise RequestError(f"`Prompt.segments` must be a tuple of `Segment`, got {pieces!r}.")
    for piece in pieces:
        right = isinstance(piece, Segment) and isinstance(piece.role, str)
        if not right or not isinstance(piece.text, str):
            raise RequestError(f"A prompt is made of `Segment(role, text)`, got {piece!r}.")


def checked_ids(prompt: object, vocab_size: int) -> tuple[int, ...]:
    """A prompt in tokens.

    Raises:
        RequestError: It is no prompt of any kind, or holds what is no token of the model.
    """
    ids = _items(prompt)
    for token in ids:
        if not _is_whole(token):
            raise RequestError(f"Token ids are whole numbers, got {token!r} in the prompt.")
        if not 0 <= token < vocab_size:
            raise RequestError(
                f"The prompt holds token {token}; the model has 0 .. {vocab_size - 1}."
            )
    return tuple(int(token) for token in ids)


def check_text(name: str, value: object) -> None:
    """Refuse what is no text.

    Raises:
        RequestError: The message names the argument.
    """
    if not isinstance(value, str):
        raise RequestError(f"`{name}` must be text, got {value!r}.")


def check_request(sampling: object, priority: object = 0, timeout_s: object = None) -> None:
    """Refuse settings of a request that have the wrong type; their ranges the sampler knows.

    Raises:
        RequestError: The message names the setting.
    """
    if not isinstance(sampling, SamplingParams):
        raise _no_sampling(sampling)
    for name, kinds, what in _CONTAINERS:
        if not isinstance(value := getattr(sampling, name), kinds):
            raise RequestError(f"`{name}` must be {what}, got {value!r}.")
    if not _is_whole(priority):
        raise RequestError(f"`priority` must be a whole number, got {priority!r}.")
    if timeout_s is not None and not (_is_real(timeout_s) and cast(float, timeout_s) >= 0):
        raise RequestError(f"`timeout_s` must be a number of seconds or None, got {timeout_s!r}.")


_CONTAINERS: tuple[tuple[str, Any, str], ...] = (
    ("stop", tuple | list, "a tuple of texts"),
    ("stop_token_ids", tuple | list, "a tuple of token ids"),
    ("logit_bias", Mapping, "a mapping from token ids to numbers"),
)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _items(prompt: object) -> list[Any]:
    if isinstance(prompt, np.ndarray | torch.Tensor):
        prompt = prompt.tolist()
    if isinstance(prompt, bytes | Mapping) or not isinstance(prompt, Iterable):
        raise RequestError(f"A prompt is text, a `Prompt` or a list of token ids, got {prompt!r}.")
    return list(prompt)


def _no_sampling(given: object) -> RequestError:
    return RequestError(f"`sampling` must be `SamplingParams` or one for each, got {given!r}.")
