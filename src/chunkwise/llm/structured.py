"""Structured output: which tokens a JSON schema, a regular expression or a grammar allows next.

llguidance does the parsing and computes the masks; it is needed only when such a request comes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import MissingDependencyError, RequestError
from chunkwise.llm.sequence import Sequence
from chunkwise.types import SamplingParams

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

STRUCTURES = ("json_schema", "regex", "grammar")
"""Fields of `SamplingParams` that ask for structured output."""

_STATE = "structured"
_KEPT_GRAMMARS = 32
_SHOWN_CHARS = 200
_REASON_CHARS = 600
_WHITESPACE = r"[ \n]{0,32}"


def structure_of(sampling: SamplingParams) -> tuple[str, str]:
    """What a completion must follow: a field of `SamplingParams` and its text, or two blanks."""
    for kind in STRUCTURES:
        if source := getattr(sampling, kind):
            return kind, source
    return "", ""


class Grammar:
    """Masks of allowed tokens, for all sequences of one engine.

    What was parsed of a sequence is kept in `sequence.state`; it follows the sequence's own
    completion, so nothing needs to be told when a token is appended or a sequence preempted.
    Blanks between the parts of JSON are spaces and line feeds, at most 32 in a row, so that a
    weak model cannot go on with blanks for ever; a schema with `x-guidance` can say otherwise.

    Args:
        tokenizer: Text of the model's tokenizer.json.
        vocab_size: Tokens of the vocabulary; ids from there on are never allowed.
        eos_token_ids: Tokens that end a completion; one is allowed wherever the text may end.
    """

    def __init__(self, tokenizer: str, *, vocab_size: int, eos_token_ids: Tokens[int]) -> None:
        self.vocab_size, self.eos_token_ids = vocab_size, tuple(eos_token_ids)
        self._source = tokenizer
        self._prototype = functools.lru_cache(maxsize=_KEPT_GRAMMARS)(self._compile)

    def check(self, sampling: SamplingParams) -> None:
        """Compile what the request asks for, once; nothing if it asks for no structure.

        Raises:
            RequestError: The schema, expression or grammar cannot be used; with the reason.
            MissingDependencyError: llguidance is not installed.
        """
        kind, source = structure_of(sampling)
        if kind:
            self._prototype(kind, source)

    def mask(self, sequence: Sequence) -> NDArray[np.bool_]:
        """Which tokens may come next: `(vocab_size,)` bool.

        When the text is complete only the end tokens are allowed. A sequence without structure
        must not be asked about.

        Raises:
            RequestError: The completion does not follow the grammar, or a limit of llguidance
                was reached.
        """
        matcher = self._matcher(sequence)
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        _raise_error(matcher, sequence)
        return np.unpackbits(bits, count=self.vocab_size, bitorder="little").view(np.bool_)

    def is_complete(self, sequence: Sequence) -> bool:
        """Whether the text is finished and nothing but an end token can follow."""
        matcher = self._matcher(sequence)
        return bool(matcher.is_stopped() and not matcher.is_error())

    @functools.cached_property
    def _tokenizer(self) -> LLTokenizer:
        """Some 0.5 s for 50,000 tokens; built at the first request that needs it."""
        build = _llguidance().LLTokenizer
        ends = list(self.eos_token_ids) or None
        try:
            tokenizer: LLTokenizer = build(self._source, n_vocab=self.vocab_size, eos_token=ends)
        except Exception as error:  # llguidance raises nothing more exact
            raise RequestError(
                f"Structured output cannot be used with this tokenizer of {self.vocab_size} tokens "
                f"and the end tokens {list(self.eos_token_ids)}: llguidance says: {error}"
            ) from error
        return tokenizer

    def _compile(self, kind: str, source: str) -> LLMatcher:
        """The matcher at the start of a text; sequences take copies."""
        matchers = _llguidance().LLMatcher
        build: dict[str, Callable[[], str]] = {
            "json_schema": lambda: matchers.grammar_from_json_schema(
                "{}" if source.strip() == "true" else source,  # equal, and takes options
                defaults={"whitespace_pattern": _WHITESPACE},
            ),
            "regex": lambda: matchers.grammar_from_regex(source),
            "grammar": lambda: matchers.grammar_from_lark(source),
        }
        try:
            grammar = build[kind]()
        except ValueError as error:
            raise _refused(kind, source, str(error)) from error
        matcher: LLMatcher = matchers(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise _refused(kind, source, matcher.get_error())
        return matcher

    def _matcher(self, sequence: Sequence) -> LLMatcher:
        """The sequence's own matcher, brought up to the end of its completion."""
        state = sequence.state.get(_STATE)
        if state is None:
            kind, source = structure_of(sequence.request.sampling)
            state = sequence.state[_STATE] = [self._prototype(kind, source).deep_copy(), 0]
        matcher: LLMatcher = state[0]
        seen: int = state[1]
        fresh = sequence.completion[seen:].tolist()
        if fresh and not matcher.is_stopped():
            matcher.consume_tokens(fresh)
            _raise_error(matcher, sequence)
        state[1] += len(fresh)
        return matcher


def _llguidance() -> ModuleType:
    try:
        import llguidance
    except ImportError as error:
        raise MissingDependencyError(
            'Structured output needs the package `llguidance`: pip install "chunkwise[llm]"'
        ) from error
    return llguidance


def _refused(kind: str, source: str, reason: str) -> RequestError:
    shown = source if len(source) <= _SHOWN_CHARS else source[:_SHOWN_CHARS] + "..."
    return RequestError(
        f"`{kind}` cannot be used: {_first_part(reason)} It was given as {shown!r}."
    )


def _raise_error(matcher: LLMatcher, sequence: Sequence) -> None:
    """llguidance does not raise: it says by its state that something went wrong."""
    if matcher.is_error():
        kind, _ = structure_of(sequence.request.sampling)
        raise RequestError(
            f"`{kind}` cannot be followed further: {_first_part(matcher.get_error())}"
        )


def _first_part(reason: str) -> str:
    """What llguidance says, without its dump of the parser and at a readable length."""
    reason = reason.partition("<state>")[0].strip().rstrip(".") + "."
    return reason if len(reason) <= _REASON_CHARS else reason[:_REASON_CHARS] + "..."
