"""Embeddings from any server with OpenAI's `/v1/embeddings`: OpenAI, Ollama, vLLM, TEI, llama.cpp.

Texts leave this machine when `base_url` is elsewhere, so it is used only where asked for by name.
The key stays in the environment: options, fingerprint, logs and errors hold the variable's name.
"""

from __future__ import annotations

import email.utils
import json
import logging
import math
import os
import random
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, RemoteError

__all__ = ["OpenAIEmbedder"]

_log = logging.getLogger(__name__)

_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_LONGEST_WAIT_S = 60.0
_SHOWN_CHARS = 300  # of a server's error message


@dataclass(frozen=True)
class OpenAIEmbedder:
    """Unit vectors from an OpenAI-compatible server.

    Nothing is sent at construction. Texts longer than the model takes are the server's to cut or
    refuse. For a blank text `"."` is sent, since servers refuse empty input. Threads may share it.

    Attributes:
        model: Name of the model, as the server knows it.
        base_url: Address up to and with the version: `http://localhost:11434/v1`.
        api_key_env: Name of the environment variable that holds the key. Empty: no key is sent.
        dim: Length of a vector, if known; 0: learnt from the first answer.
        dimensions: Length to ask the server for; 0: its own. Sets `dim`.
        max_tokens: Longest text of the model in its own tokens, for those who cut texts.
        query_prefix: Put before each question.
        passage_prefix: Put before each passage.
        batch_size: Texts in one request.
        timeout_s: For connecting, and for each wait for data.
        max_retries: Further tries after a lost connection, 429 or a server's fault, with waits
            that double from `backoff_s`, or as long as the server says, 60 s at most.
        backoff_s: First wait.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    dim: int = 0
    dimensions: int = 0
    max_tokens: int = 8191
    query_prefix: str = ""
    passage_prefix: str = ""
    batch_size: int = 64
    timeout_s: float = 60.0
    max_retries: int = 4
    backoff_s: float = 0.5
    fingerprint: str = field(init=False)
    is_weak: ClassVar[bool] = False
    _client: httpx.Client = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_address(self.base_url)
        if not self.model:
            raise ConfigError("`model` must name the server's model, got ''.")
        for option, least in _LEAST.items():
            if not getattr(self, option) >= least:
                value = getattr(self, option)
                raise ConfigError(f"`{option}` must be at least {least}, got {value!r}.")
        if self.dimensions and self.dim not in (0, self.dimensions):
            raise ConfigError(
                f"`dim` must be 0 or equal `dimensions`={self.dimensions!r}, got {self.dim!r}."
            )
        self._set(dim=self.dimensions or self.dim, base_url=self.base_url.rstrip("/"))
        client = httpx.Client(timeout=self.timeout_s)
        weakref.finalize(self, client.close)
        self._set(fingerprint=self._identity(), _client=client)

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> NDArray[np.float32]:
        """Unit vectors `(len(texts), dim)`, float32, in the order of `texts`.

        Raises:
            ConfigError: The variable named by `api_key_env` is not set.
            RemoteError: The server failed, after retries, or its answer cannot be used.
        """
        prefix = self.query_prefix if kind == "query" else self.passage_prefix
        sent = [prefix + text if text.strip() else "." for text in texts]
        parts = [
            self._request(sent[start : start + self.batch_size])
            for start in range(0, len(sent), self.batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), dtype=np.float32)

    def _request(self, texts: list[str]) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "float"}
        if self.dimensions:
            body["dimensions"] = self.dimensions
        vectors = _vectors(self._post(body), len(texts), self._where())
        if self.dim and vectors.shape[1] != self.dim:
            raise RemoteError(
                f"{self._where()} answered vectors of length {vectors.shape[1]}, "
                f"not `dim`={self.dim}; has the model changed?"
            )
        self._set(dim=vectors.shape[1])
        return vectors

    def _post(self, body: dict[str, Any]) -> Any:
        """The server's answer, decoded; tried again where that can help."""
        key = self._key()
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        # A lone surrogate is legal in a Python string and in escaped JSON, not in UTF-8.
        content = json.dumps(body).encode("ascii")
        for attempt in range(self.max_retries + 1):
            wait = self.backoff_s * 2**attempt * random.uniform(0.75, 1.25)
            try:
                answer = self._client.post(
                    f"{self.base_url}/embeddings", content=content, headers=headers
                )
            except httpx.RequestError as exc:
                failure = f"{type(exc).__name__}: {exc}"
                cause: Exception | None = exc
            else:
                if answer.is_success:
                    return _decoded(answer, self._where())
                failure, cause = _failure(answer, key), None
                if answer.status_code not in _RETRIED:
                    raise RemoteError(f"{self._where()}: {failure}.{self._remedy(answer)}")
                wait = _retry_after(answer) or wait
            if attempt < self.max_retries:
                _log.debug("%s: %s; next try in %.1f s.", self._where(), failure, wait)
                time.sleep(min(wait, _LONGEST_WAIT_S))
        raise RemoteError(
            f"{self._where()}: {failure}. Gave up after {self.max_retries + 1} tries."
        ) from cause

    def _key(self) -> str:
        """The key, read at each request and kept nowhere; empty when none is sent."""
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            state = "holds characters that no key has" if key else "is not set"
            raise ConfigError(
                f"The environment variable {self.api_key_env} {state}; it must hold the key for "
                f"{self.base_url}. For a server without keys set `api_key_env` to ''."
            )
        return key

    def _remedy(self, answer: httpx.Response) -> str:
        if answer.status_code in (401, 403):
            named = f"Is the key in {self.api_key_env} right?" if self.api_key_env else ""
            return " " + (named or "Name the variable that holds the key in `api_key_env`.")
        if answer.status_code == 404:
            return (
                f" Does the server have the model {self.model!r}, and does `base_url` end with "
                "its version, such as '/v1'?"
            )
        return ""

    def _where(self) -> str:
        return f"{self.base_url}/embeddings ({self.model})"

    def _identity(self) -> str:
        # Not the address: the same model served elsewhere makes the same vectors.
        options = [self.model, self.dimensions, self.query_prefix, self.passage_prefix]
        return "openai-" + json.dumps(options, separators=(",", ":"))

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


_LEAST = {
    "dim": 0,
    "dimensions": 0,
    "max_tokens": 1,
    "batch_size": 1,
    "timeout_s": 0.001,
    "max_retries": 0,
    "backoff_s": 0.0,
}


def _check_address(base_url: str) -> None:
    try:
        address = httpx.URL(base_url)
    except httpx.InvalidURL as exc:
        raise ConfigError(f"`base_url` {base_url!r} is no address: {exc}.") from exc
    if address.userinfo:
        raise ConfigError("`base_url` must hold no password; name a variable in `api_key_env`.")
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigError(
            f"`base_url` must look like 'http://localhost:11434/v1', got {base_url!r}."
        )


def _decoded(answer: httpx.Response, where: str) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError as exc:
        raise RemoteError(f"{where} answered no JSON: {_shown(answer.text)!r}.") from exc


def _vectors(answer: Any, wanted: int, where: str) -> NDArray[np.float32]:
    """Unit vectors of an answer in the order of the texts sent."""
    try:
        items = [(int(item["index"]), item["embedding"]) for item in answer["data"]]
        indices = [index for index, _ in items]
        if sorted(indices) != list(range(wanted)):
            raise RemoteError(
                f"{where} answered {len(items)} vectors for {wanted} texts (indices {indices[:8]})."
            )
        items.sort(key=lambda item: item[0])
        vectors = np.array([vector for _, vector in items], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as exc:
        raise RemoteError(f"{where} answered in another form than OpenAI's: {exc!r}.") from exc
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise RemoteError(f"{where} answered vectors of shape {vectors.shape}.")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise RemoteError(f"{where} answered a vector that is zero or not finite.")
    unit: NDArray[np.float32] = (vectors / norms).astype(np.float32)
    return unit


def _failure(answer: httpx.Response, key: str) -> str:
    """Status and the server's own words, without the key in case it repeats it."""
    try:
        error = json.loads(answer.content)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        message = answer.text
    words = str(message).replace(key, "***") if key else str(message)
    return f"HTTP {answer.status_code} {_shown(words)!r}"


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _retry_after(answer: httpx.Response) -> float:
    """Seconds the server asks to wait: a number or a date; 0 if it does not say."""
    value = answer.headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = date.timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
