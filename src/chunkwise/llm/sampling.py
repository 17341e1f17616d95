"""From logits to tokens: penalties, temperature, top-k, top-p, min-p, seeds, log-probabilities.

A row is worked on alone, so what a request draws never depends on what else is in the batch.
The order is vLLM's: grammar, logit bias, repetition, frequency and presence penalty,
temperature, min-p, top-k, top-p (of what min-p and top-k left), then one draw. Log-probabilities
are those of the model before all of these (vLLM's `raw_logprobs`).
"""

from __future__ import annotations

import hashlib
import math
import secrets
import struct
import sys
from collections.abc import Sequence as Rows
from numbers import Integral, Real
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.errors import RequestError
from chunkwise.llm.sequence import Sequence
from chunkwise.llm.structured import STRUCTURES, Grammar, structure_of
from chunkwise.types import SamplingParams

MIN_TEMPERATURE = 1e-5
"""Below this the likeliest token is taken, as in vLLM."""

MAX_LOGPROBS = 20
"""Most of the likeliest tokens that a request may ask for, as in OpenAI's API."""

MAX_COMPLETIONS = 128
"""Most completions of one prompt, as in OpenAI's API."""

NOT_FINITE = (
    "The model computed NaN or infinity for this request: its weights are damaged, or overflow in "
    "this type of numbers (try `dtype` float32)."
)
"""What a request ends with whose hidden states or logits are not finite."""

Row: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]

_STATE = "sampling"
_BLOCK = 64


class Sampled(NamedTuple):
    """One token.

    Attributes:
        token_id: Which; -1 where `error` is set.
        logprob: Its log-probability under the model alone, if asked for.
        top: The likeliest tokens and their log-probabilities, falling; equals by token id.
        error: Why there is none, in a sentence; the request ends, others go on.
        beside: Log-probabilities of other tokens that were asked for.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    error: str = ""
    beside: tuple[float, ...] = ()


class Sampler:
    """Chooses the next token of every sequence of a step.

    Ties go to the lower token id. What it must remember of a sequence (its entropy, how often
    each token came) is in `sequence.state` and follows `sequence.completion` by itself.

    Args:
        vocab_size: Tokens of the vocabulary. Logits beyond, which pad the embedding of some
            models, are ignored: they are never chosen and have no share of probabilities.
        grammar: Masks for requests with structured output; may be set later, before the first
            such request is sampled.
    """

    def __init__(self, vocab_size: int, *, grammar: Grammar | None = None) -> None:
        self.vocab_size, self.grammar = vocab_size, grammar
        self._scratch: Row = np.empty(vocab_size, np.float32)

    def check(self, sampling: SamplingParams) -> None:
        """Refuse, before any work, what cannot be sampled so: ranges, and schemas or grammars.

        Raises:
            RequestError: A setting out of its range, or structure that cannot be followed.
            MissingDependencyError: Structured output without llguidance.
        """
        check_sampling(sampling, self.vocab_size)
        kind, _ = structure_of(sampling)
        if kind and self.grammar is None:
            raise RequestError(f"`{kind}` needs a tokenizer, and this engine was made without.")
        if self.grammar is not None:
            self.grammar.check(sampling)

    def sample(self, logits: Tensor, sequences: Rows[Sequence]) -> list[Sampled]:
        """One token for each sequence; nothing is appended to them.

        Args:
            logits: `(len(sequences), at least vocab_size)` float32; not changed.
            sequences: Whose next token each row is.
        """
        logits = logits.detach()[:, : self.vocab_size].float()
        best, highest = _argmax(logits)
        sampled: list[Sampled] = []
        for i, sequence in enumerate(sequences):
            state = sequence.state.get(_STATE) or self._begin(sequence)
            if not math.isfinite(highest[i]):
                sampled.append(Sampled(-1, error=NOT_FINITE))
            elif state.is_plain:
                sampled.append(Sampled(best[i]))
            else:
                sampled.append(self._sample_row(_row(logits, i), sequence, state))
        return sampled

    def score(
        self, logits: Tensor, targets: Rows[int], top: int = 0, beside: Rows[int] = ()
    ) -> list[Sampled]:
        """Log-probabilities of given tokens, for those of a prompt.

        Args:
            logits: `(len(targets), at least vocab_size)` float32; row `i` was computed at the
                token before `targets[i]`. It is copied: give a long prompt in slices.
            targets: The tokens that came.
            top: How many of the likeliest tokens to name too.
            beside: Tokens to score in place of each target, too.
        """
        part = logits.detach()[:, : self.vocab_size].float().log_softmax(-1).cpu()
        rows: Row = part.numpy()
        return [
            _scored_target(row, target, top, beside)
            for row, target in zip(rows, targets, strict=True)
        ]

    def _begin(self, sequence: Sequence) -> _State:
        state = sequence.state[_STATE] = _State(sequence, self.vocab_size)
        return state

    def _sample_row(self, raw: Row, sequence: Sequence, state: _State) -> Sampled:
        """One token from a row whose highest logit is finite."""
        sampling = sequence.request.sampling
        np.copyto(self._scratch, raw)
        with np.errstate(over="ignore"):  # towards minus infinity, whose probability is 0
            try:
                token = self._choose(self._scratch, sequence, state)
            except RequestError as error:  # the grammar's
                return Sampled(-1, error=str(error))
            if token < 0:
                return Sampled(-1, error=_nothing_allowed(sequence))
            if sampling.logprobs is None:
                return Sampled(token)
            highest = raw.max()
            total = float(_block_sums(_weights(raw, highest, 1.0, out=self._scratch)).sum())
            return _scored(raw, highest, math.log(total), token, sampling.logprobs)

    def _choose(self, row: Row, sequence: Sequence, state: _State) -> int:
        """The token drawn, or -1 where none is allowed. Changes `row`."""
        sampling = sequence.request.sampling
        if state.is_structured:
            assert self.grammar is not None, "structured output needs `Sampler.grammar`"
            np.copyto(row, -np.inf, where=~self.grammar.mask(sequence))
        if sampling.logit_bias:
            row[list(sampling.logit_bias)] += np.fromiter(sampling.logit_bias.values(), np.float32)
        if state.counts is not None:
            state.counts.update(sequence)
            state.counts.penalize(row, sampling)
        best = int(row.argmax())
        if not math.isfinite(row[best]):
            return -1
        if _is_greedy(sampling):
            return best
        return _pick(row, row[best], sampling, state.uniform(sequence))


def check_sampling(sampling: SamplingParams, vocab_size: int) -> None:
    """Refuse settings that mean nothing; a schema or grammar itself is checked by `Grammar`.

    Several completions at temperature 0 are allowed; they are equal.

    Raises:
        RequestError: A setting out of its range; says the setting, its value and the range.
    """
    for name, (kind, lowest, highest) in _RANGES.items():
        _check_number(name, getattr(sampling, name), kind, lowest, highest)
    if sampling.top_p == 0:
        raise RequestError("`top_p` must be above 0 and at most 1, got 0; temperature 0 is greedy.")
    for token, bias in sampling.logit_bias.items():
        _check_number("logit_bias", token, Integral, 0, vocab_size - 1, what="token ids")
        _check_number("logit_bias", bias, Real, -100, 100)
    for token in sampling.stop_token_ids:
        _check_number("stop_token_ids", token, Integral, 0, vocab_size - 1, what="token ids")
    if isinstance(sampling.stop, str) or not all(isinstance(s, str) and s for s in sampling.stop):
        raise RequestError(f"`stop` must be a tuple of texts, none empty, got {sampling.stop!r}.")
    _check_structure(sampling)


class _State:
    """What the sampler keeps of a sequence."""

    __slots__ = ("counts", "is_plain", "is_structured", "seed")

    def __init__(self, sequence: Sequence, vocab_size: int) -> None:
        sampling = sequence.request.sampling
        penalized = sampling.repetition_penalty != 1 or bool(
            sampling.presence_penalty or sampling.frequency_penalty
        )
        self.is_structured = bool(structure_of(sampling)[0])
        self.counts = _Counts(sequence, vocab_size) if penalized else None
        self.seed = secrets.randbits(64) if sampling.seed is None else int(sampling.seed)
        altered = penalized or self.is_structured or bool(sampling.logit_bias)
        self.is_plain = _is_greedy(sampling) and not altered and sampling.logprobs is None

    def uniform(self, sequence: Sequence) -> float:
        """A number in [0, 1) that depends on the seed, the completion's index and how many
        tokens it has, and on nothing else: 53 bits of their hash."""
        position = len(sequence.completion)
        key = struct.pack("<QQQ", self.seed % 2**64, sequence.index, position)
        digest = hashlib.blake2b(key, digest_size=8, person=b"chunkwise sample").digest()
        return float((int.from_bytes(digest, "little") >> 11) * 2.0**-53)


class _Counts:
    """How often each token came in a completion; tokens of the prompt count 0.

    The tokens stand in `ids[:size]` in order of appearance, so that a step costs what it adds.
    """

    __slots__ = ("counts", "ids", "seen", "size", "slots")

    def __init__(self, sequence: Sequence, vocab_size: int) -> None:
        prompt = np.empty(0, np.int32)
        if sequence.request.sampling.repetition_penalty != 1:
            prompt = np.unique(sequence.tokens[: sequence.num_prompt_tokens])
            prompt = prompt[prompt < vocab_size]
        self.size = len(prompt)
        self.ids: Ids = np.zeros(self.size + 64, np.int64)
        self.ids[: self.size] = prompt
        self.counts: Row = np.zeros(len(self.ids), np.float32)
        self.slots = {token: slot for slot, token in enumerate(prompt.tolist())}
        self.seen = 0

    def update(self, sequence: Sequence) -> None:
        """Count the tokens that came since the last time."""
        for token in sequence.completion[self.seen :].tolist():
            slot = self.slots.setdefault(token, self.size)
            if slot == self.size:
                self._add(token)
            self.counts[slot] += 1
            self.seen += 1

    def _add(self, token: int) -> None:
        if self.size == len(self.ids):
            self.ids, self.counts = (
                np.resize(self.ids, 2 * self.size),
                np.resize(self.counts, 2 * self.size),
            )
            self.counts[self.size :] = 0
        self.ids[self.size] = token
        self.size += 1

    def penalize(self, row: Row, sampling: SamplingParams) -> None:
        """Lower the logits of the tokens counted, in place."""
        ids, counts = self.ids[: self.size], self.counts[: self.size]
        logits, factor = row[ids], sampling.repetition_penalty
        if factor != 1:
            logits = np.where(logits > 0, logits / factor, logits * factor)
        logits = logits - sampling.frequency_penalty * counts
        row[ids] = logits - sampling.presence_penalty * (counts > 0)


def _is_greedy(sampling: SamplingParams) -> bool:
    """Whether the likeliest token is taken whatever is drawn."""
    return sampling.temperature < MIN_TEMPERATURE or sampling.top_k == 1 or sampling.min_p == 1


def _pick(row: Row, highest: np.float32, sampling: SamplingParams, uniform: float) -> int:
    """Temperature, min-p, top-k, top-p and the draw. Changes `row`.

    min-p and top-k commute: both keep a number of the likeliest.
    """
    ids: Ids | None = None  # rising, so that equals are drawn from by token id; None: all
    if 0 < sampling.top_k < len(row):
        ids = _best(row, sampling.top_k, _nth_largest(row, sampling.top_k))
        row = row[ids]
    weights = _weights(row, highest, sampling.temperature, out=row)
    if sampling.min_p > 0:
        likely = np.flatnonzero(weights >= sampling.min_p)
        ids, weights = likely if ids is None else ids[likely], weights[likely]
    if sampling.top_p < 1:
        likely = _nucleus(weights, sampling.top_p)
        ids, weights = likely if ids is None else ids[likely], weights[likely]
    at = _draw(weights, uniform)
    return at if ids is None else int(ids[at])


def _weights(row: Row, highest: np.float32, temperature: float, *, out: Row) -> Row:
    """Probabilities up to a factor: the likeliest has 1."""
    np.subtract(row, highest, out=out)
    if temperature != 1:
        np.divide(out, np.float32(temperature), out=out)
    torch.from_numpy(out).exp_()  # twice as fast as NumPy's
    return out


def _nucleus(weights: Row, top_p: float) -> Ids:
    """Where the fewest of the largest weights stand that together have the share `top_p`."""
    total = float(_block_sums(weights).sum())
    # Weights below this have less than (1 - top_p) of the total even together: none is needed.
    large = weights[weights >= (1 - top_p) * total / len(weights)]
    falling = np.sort(large)[::-1]
    count = int(np.searchsorted(falling.cumsum(dtype=np.float64), top_p * total)) + 1
    count = min(count, len(falling))
    return _best(weights, count, falling[count - 1])


def _nth_largest(values: Row, n: int) -> np.float32:
    """The `n`-th largest value. If there are `n` blocks whose largest is at least `x`, then no
    value below `x` is needed to find it."""
    blocks = torch.from_numpy(values[: len(values) // _BLOCK * _BLOCK]).view(-1, _BLOCK)
    if n <= len(blocks):
        largest: Row = blocks.amax(1).numpy()
        values = values[values >= np.partition(largest, -n)[-n]]
    found: np.float32 = np.partition(values, -n)[-n]
    return found


def _best(values: Row, count: int, lowest: np.float32) -> Ids:
    """Where the `count` largest values stand, rising; of those equal to `lowest`, the first."""
    at = np.flatnonzero(values >= lowest)
    if len(at) > count:
        equal = np.flatnonzero(values[at] == lowest)
        at = np.delete(at, equal[len(equal) - (len(at) - count) :])
    return at


def _draw(weights: Row, uniform: float) -> int:
    """Inverse of the cumulative distribution, in float64: first by blocks, then inside one."""
    blocks = _block_sums(weights)
    block, rest = _find(blocks, uniform * float(blocks.sum()))
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].astype(np.float64)
    return block * _BLOCK + _find(inside, rest)[0]


def _block_sums(weights: Row) -> NDArray[np.float64]:
    """Sums of every `_BLOCK` weights; the last block may be shorter."""
    end = len(weights) // _BLOCK * _BLOCK
    blocks = torch.from_numpy(weights[:end]).view(-1, _BLOCK).sum(1)
    rest = weights[end:].sum(dtype=np.float64)
    return np.append(blocks.numpy().astype(np.float64), rest)


def _find(weights: NDArray[np.float64], target: float) -> tuple[int, float]:
    """The first place where the running sum passes `target`, and what is left of it there.
    Rounding never leads beyond the last weight that is not 0."""
    sums = weights.cumsum()
    last = int(np.searchsorted(sums, sums[-1]))
    at = min(int(np.searchsorted(sums, target, side="right")), last)
    return at, target - float(sums[at - 1]) if at else target


def _argmax(logits: Tensor) -> tuple[list[int], list[float]]:
    """The highest logit of each row, where it stands first; NaN where a row has any."""
    if logits.device.type == "cpu":  # NumPy's is ten times as fast as torch's
        rows: Row = logits.numpy()
        best = rows.argmax(-1)
        return best.tolist(), rows[np.arange(len(rows)), best].tolist()
    at = logits.argmax(-1)
    return at.tolist(), logits.gather(1, at[:, None])[:, 0].tolist()


def _row(logits: Tensor, i: int) -> Row:
    row: Row = logits[i].cpu().numpy()
    return row


def _scored_target(logprobs: Row, target: int, top: int, beside: Rows[int]) -> Sampled:
    highest = logprobs.max()
    if not math.isfinite(highest):
        return Sampled(-1, error=NOT_FINITE)
    scored = _scored(logprobs, np.float32(0), 0.0, target, top)
    return scored._replace(beside=tuple(logprobs[list(beside)].tolist())) if beside else scored


def _scored(row: Row, highest: np.float32, log_total: float, token: int, top: int) -> Sampled:
    """A token and the `top` likeliest; log-probabilities are `row - highest - log_total`."""
    best: tuple[tuple[int, float], ...] = ()
    if top:
        top = min(top, len(row))
        ids = _best(row, top, _nth_largest(row, top))
        ids = ids[np.argsort(-row[ids], kind="stable")]
        values = (row[ids] - highest).astype(np.float64) - log_total
        best = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Sampled(token, float(row[token] - highest) - log_total, best)


def _nothing_allowed(sequence: Sequence) -> str:
    kind = structure_of(sequence.request.sampling)[0] or "logit_bias"
    return (
        f"No token can follow token {len(sequence.completion)} of the completion under `{kind}`: "
        "all others are forbidden or have a logit of minus infinity."
    )


def _check_number(
    name: str, value: object, kind: type, lowest: float, highest: float, *, what: str = ""
) -> None:
    if value is None and name in _OPTIONAL:
        return
    right = isinstance(value, kind) and not isinstance(value, bool)
    if right and lowest <= value <= highest:  # type: ignore[operator]
        return
    number = "a whole number" if kind is Integral else "a number"
    span = f"at least {lowest}" if highest == _NO_LIMIT else f"from {lowest} to {highest}"
    label = f"`{name}`" + (f": {what}" if what else "")
    raise RequestError(f"{label} must be {number} {span}, got {value!r}.")


def _check_structure(sampling: SamplingParams) -> None:
    given = {kind: getattr(sampling, kind) for kind in STRUCTURES if getattr(sampling, kind)}
    if len(given) > 1:
        raise RequestError(f"At most one of {', '.join(STRUCTURES)} can be set, got {given!r}.")
    for kind, source in given.items():
        if not isinstance(source, str):
            raise RequestError(f"`{kind}` must be text, got {source!r}.")


_NO_LIMIT = sys.float_info.max
_OPTIONAL = frozenset({"seed", "logprobs", "prompt_logprobs"})
_RANGES: dict[str, tuple[type, float, float]] = {
    "temperature": (Real, 0, _NO_LIMIT),
    "top_p": (Real, 0, 1),
    "max_tokens": (Integral, 1, _NO_LIMIT),
    "seed": (Integral, -(2**63), 2**64 - 1),
    "top_k": (Integral, 0, _NO_LIMIT),
    "min_p": (Real, 0, 1),
    "repetition_penalty": (Real, 0.01, 100),
    "presence_penalty": (Real, -2, 2),
    "frequency_penalty": (Real, -2, 2),
    "logprobs": (Integral, 0, MAX_LOGPROBS),
    "prompt_logprobs": (Integral, 0, MAX_LOGPROBS),
    "n": (Integral, 1, MAX_COMPLETIONS),
}
