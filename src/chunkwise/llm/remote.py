"""A language model behind an OpenAI-compatible HTTP server: vLLM, llama.cpp, Ollama, hosted ones.

Needs no torch. Works offline with a server on this machine; nothing is sent anywhere but to
`base_url`. The API key is read from the environment at each request: it is in no field, no
fingerprint, no log line and no error.
"""

from __future__ import annotations

import email.utils
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from chunkwise.errors import ConfigError, RemoteError, RequestError
from chunkwise.types import Delta, Prompt, SamplingParams

__all__ = ["RemoteModel"]

logger = logging.getLogger(__name__)

_RETRIED = frozenset({408, 429, 500, 502, 503, 504, 529})
_FINAL_429 = ("insufficient_quota", "billing")


@dataclass(slots=True)
class RemoteModel:
    """A `LanguageModel` over `POST {base_url}/chat/completions`, streamed.

    A request is tried again only before its first piece of text, so no text comes twice. A
    refused connection is not tried again: nothing listens there. Safe to use from several
    threads; `close` it, or use it as a context manager.

    Attributes:
        base_url: Address of the server, with or without the final `/v1`.
        model: The server's name for the model (`models` lists them).
        api_key_env: Environment variable that holds the API key; None sends none.
        timeout_s: Longest silence of the server, in seconds.
        connect_timeout_s: Longest time to connect, in seconds.
        retries: How often a failed request is tried again.
        max_wait_s: Longest pause before a retry. A server that asks for more is an error.
        extra_body: Further fields of the request, for what a server has of its own.
        sleep: Called to pause, with seconds.
        fingerprint: Server and model.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout_s: float = 120.0
    connect_timeout_s: float = 10.0
    retries: int = 3
    max_wait_s: float = 30.0
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    fingerprint: str = field(init=False)
    _client: httpx.Client = field(init=False, repr=False)
    _refused: set[str] = field(init=False, repr=False, default_factory=set)

    def __post_init__(self) -> None:
        url = _checked_url(self.base_url)
        self.base_url = _shown(url)  # an address may hold a password: it is kept in the client
        for name in ("timeout_s", "connect_timeout_s", "max_wait_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"`{name}` must be above 0, got {getattr(self, name)!r}.")
        if self.retries < 0:
            raise ConfigError(f"`retries` must be 0 or more, got {self.retries!r}.")
        timeout = httpx.Timeout(self.timeout_s, connect=self.connect_timeout_s)
        self._client = httpx.Client(base_url=url, timeout=timeout)
        self.fingerprint = f"remote:{self.base_url}:{self.model}"

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[Delta]:
        """See `LanguageModel.stream`. The usage has `stopped_by_length` = 1 for a cut answer.

        Raises:
            RequestError: The server refused the request itself (a prompt too long, say).
            RemoteError: No connection, no permission, no such model, or a broken answer.
        """
        body = self._body(prompt, sampling)
        attempt = 0
        while True:
            try:
                with closing(self._attempt(body)) as deltas:
                    for delta in deltas:
                        attempt = self.retries  # no retry once text has been handed on
                        yield delta
                return
            except _Retry as failed:
                if attempt >= self.retries:
                    raise failed.error from failed.__cause__
                self._pause(failed, attempt)
                attempt += 1
            except _Refused as refused:
                self._refused.add(refused.field)
                body = self._body(prompt, sampling)

    def models(self) -> list[str]:
        """Names of the models that the server offers.

        Raises:
            RemoteError: The server did not answer, or not with a list of models.
        """
        try:
            with self._sent("GET", "models", None) as response:
                data = _parsed(response.read(), self.base_url)
        except _Retry as failed:
            raise failed.error from failed.__cause__
        entries = data.get("data")
        if not isinstance(entries, list):
            raise RemoteError(f"{self.base_url}/models gave no list of models.")
        return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]

    def close(self) -> None:
        """Close the connections. Streams that still run fail."""
        self._client.close()

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _body(self, prompt: Prompt, sampling: SamplingParams) -> dict[str, Any]:
        limit = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        body: dict[str, Any] = {
            "model": self.model,
            "messages": prompt.messages(),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit: sampling.max_tokens,
            "stream": True,
        }
        if "stream_options" not in self._refused:
            body["stream_options"] = {"include_usage": True}
        return body | _settings(sampling) | dict(self.extra_body)

    def _attempt(self, body: Mapping[str, Any]) -> Generator[Delta, None, None]:
        with self._sent("POST", "chat/completions", body) as response:
            if "text/event-stream" in response.headers.get("content-type", ""):
                yield from _streamed(_events(response.iter_bytes()), self)
                return
            whole = response.read()
            if whole.lstrip().startswith(b"data:"):
                yield from _streamed(_events(iter([whole])), self)
            else:
                yield from _at_once(_parsed(whole, self.base_url), self)

    @contextmanager
    def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[httpx.Response]:
        """The open response to a request that succeeded; foreign errors are mapped here."""
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with self._client.stream(method, path, json=body, headers=headers) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._failure(response, body or {}, key)
                yield response
        except httpx.ConnectError as exc:
            raise RemoteError(
                f"Cannot connect to {self.base_url}: {_reason(exc, key)}. "
                "Is the server running, and is `base_url` right?"
            ) from None
        except httpx.TimeoutException as exc:
            raise _Retry(
                RemoteError(f"{self.base_url} was silent for too long ({type(exc).__name__}).")
            ) from None
        except httpx.RequestError as exc:
            raise _Retry(
                RemoteError(f"The connection to {self.base_url} broke: {_reason(exc, key)}.")
            ) from None

    def _failure(
        self, response: httpx.Response, body: Mapping[str, Any], key: str | None
    ) -> Exception:
        """What to raise for a status other than 200."""
        status, said = response.status_code, _clean(_message(response.content), key)
        if status in (400, 422):
            for option, sign in (("stream_options", "stream"), ("max_tokens", "max_completion")):
                if option in body and option not in self._refused and sign in said.casefold():
                    return _Refused(option)
        if status in (400, 413, 422):
            return RequestError(f"{self.base_url} refused the request ({status}): {said}")
        if status in (401, 403):
            return RemoteError(f"{self.base_url} denied access ({status}). {self._key_advice()}")
        if status == 404:
            return RemoteError(
                f"{self.base_url} does not know the model {self.model!r} or the path (404). "
                "Check `model` against `models()`, and `base_url`."
            )
        error = RemoteError(f"{self.base_url} failed ({status}): {said}")
        if status in _RETRIED and not any(sign in said for sign in _FINAL_429):
            return _Retry(error, _retry_after(response.headers))
        return error

    def _pause(self, failed: _Retry, attempt: int) -> None:
        wait = failed.after_s if failed.after_s is not None else 0.5 * 2**attempt
        if wait > self.max_wait_s:
            raise RemoteError(
                f"{failed.error} It asks to wait {wait:.0f} s, more than "
                f"`max_wait_s`={self.max_wait_s:g}."
            )
        logger.info("%s Trying again in %.1f s.", failed.error, wait)
        self.sleep(wait)

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise RemoteError(
                f"The environment variable {self.api_key_env!r} holds no API key. Set it, or set "
                "`api_key_env` to None for a server that needs none."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise RemoteError(
                f"The environment variable {self.api_key_env!r} holds no usable API key: it has "
                "blanks, line breaks or letters outside ASCII."
            )
        return key

    def _key_advice(self) -> str:
        if self.api_key_env is None:
            return "Set `api_key_env` to the environment variable that holds the API key."
        return f"Check the API key in the environment variable {self.api_key_env!r}."


def _settings(sampling: SamplingParams) -> dict[str, Any]:
    """What differs from the defaults; names outside of OpenAI's API are those of vLLM.

    Raises:
        RequestError: The settings ask for what a stream of text cannot carry.
    """
    for name in ("logprobs", "prompt_logprobs", "ignore_eos", "regex", "grammar"):
        if getattr(sampling, name) not in (None, False, ""):
            raise RequestError(
                f"Servers agree on no field for {name!r}; leave it out, or give the server's own "
                "in `extra_body`."
            )
    if sampling.n != 1:
        raise RequestError(f"A stream has one completion, got n={sampling.n!r}.")
    plain = SamplingParams()
    body = {
        name: getattr(sampling, name)
        for name in _SENT
        if getattr(sampling, name) != getattr(plain, name)
    }
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.json_schema:
        try:
            schema = {"name": "answer", "schema": json.loads(sampling.json_schema)}
        except ValueError as exc:
            raise RequestError(f"`json_schema` is no JSON: {exc}.") from None
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


_SENT = (
    "stop",
    "seed",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop_token_ids",
)


class _Retry(Exception):
    """A failure that may pass. `after_s` is the pause the server asked for."""

    def __init__(self, error: RemoteError, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.after_s = error, after_s


class _Refused(Exception):
    """The server does not know one field of the request: it is sent again without."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def _streamed(events: Iterator[str], model: RemoteModel) -> Iterator[Delta]:
    """Deltas of a stream; an end without `[DONE]` or a finish reason is an error."""
    usage: dict[str, int] = {}
    is_complete = False
    for event in events:
        if event == "[DONE]":
            is_complete = True
            break
        data = _parsed(event, model.base_url)
        _raise_error(data, model)
        usage |= _usage(data)
        for choice in data.get("choices") or ():
            text = (choice.get("delta") or {}).get("content") or ""
            if text:
                yield Delta(text)
            is_complete |= choice.get("finish_reason") is not None
            usage |= _by_length(choice)
    if not is_complete:
        raise _Retry(
            RemoteError(f"{model.base_url} closed the stream before the answer was complete.")
        )
    yield Delta("", usage)


def _at_once(data: Mapping[str, Any], model: RemoteModel) -> Iterator[Delta]:
    """Deltas of an answer that came in one piece, from a server that does not stream."""
    _raise_error(data, model)
    choices = data.get("choices")
    if not choices:
        raise RemoteError(f"{model.base_url} answered without `choices`.")
    text = (choices[0].get("message") or {}).get("content") or choices[0].get("text") or ""
    if text:
        yield Delta(text)
    yield Delta("", _usage(data) | _by_length(choices[0]))


def _events(blocks: Iterator[bytes]) -> Iterator[str]:
    """Data of server-sent events. Lines end at LF only: JSON may hold other line separators."""
    lines: list[str] = []
    for line in _lines(blocks):
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _lines(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
    if rest:
        yield rest.removesuffix(b"\r").decode("utf-8", "replace")


def _parsed(data: bytes | str, address: str) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError:
        raise RemoteError(
            f"{address} sent what is no JSON; is it an OpenAI-style server?"
        ) from None
    if not isinstance(parsed, dict):
        raise RemoteError(f"{address} sent JSON that is no object.")
    return parsed


def _raise_error(data: Mapping[str, Any], model: RemoteModel) -> None:
    if data.get("error"):
        said = _clean(_message(json.dumps(data).encode()), model._key())
        raise RemoteError(f"{model.base_url} failed while answering: {said}")


def _usage(data: Mapping[str, Any]) -> dict[str, int]:
    given = data.get("usage") or {}
    counts = {name: given.get(name) for name in ("prompt_tokens", "completion_tokens")}
    counts["cached_tokens"] = (given.get("prompt_tokens_details") or {}).get("cached_tokens")
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _by_length(choice: Mapping[str, Any]) -> dict[str, int]:
    return {"stopped_by_length": 1} if choice.get("finish_reason") == "length" else {}


def _message(content: bytes) -> str:
    """What an error body says, whatever its shape."""
    try:
        data = json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, dict):
        parts = [error.get("message") or error.get("detail"), error.get("code")]
        return " ".join(str(part) for part in parts if part) or json.dumps(error)
    return str(error)


def _clean(text: str, key: str | None) -> str:
    """One line, short, without the key, which some servers repeat."""
    return " ".join((text.replace(key, "***") if key else text).split())[:300]


def _reason(exc: Exception, key: str | None) -> str:
    return _clean(str(exc), key) or type(exc).__name__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the `Retry-After` header: a number or a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _checked_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.strip())
    except httpx.InvalidURL as exc:
        raise ConfigError(f"`base_url` is no address: {exc}.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"`base_url` must be like 'http://localhost:8000/v1', got {_shown(url)!r}."
        )
    path = url.path.rstrip("/")
    return url.copy_with(path=path or "/v1")


def _shown(url: httpx.URL) -> str:
    """An address without user name and password."""
    return str(url.copy_with(username=None, password=None, query=None)).rstrip("/")
