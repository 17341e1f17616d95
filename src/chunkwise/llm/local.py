"""`LLM`: a Hugging Face folder as a language model on this machine."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Items
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, RequestError
from chunkwise.llm.engine import Engine
from chunkwise.llm.kernels.ops import (
    Quantization,
    choose,
    default_device,
    default_dtype,
)
from chunkwise.llm.kv.segments import KVShape, SegmentPool
from chunkwise.llm.memory import available_bytes
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.chat import ChatTemplate, prompt_segments
from chunkwise.llm.models.checkpoint import Checkpoint, fingerprint
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.models.rotary import rotary_table
from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.llm.outputs import Completion, Output, Update
from chunkwise.llm.runner import Runner
from chunkwise.llm.sampling import Sampler
from chunkwise.llm.scheduling.base import StepBudget, policies
from chunkwise.llm.sequence import Request, TokenSegment
from chunkwise.llm.structured import Grammar
from chunkwise.llm.turns import TurnLock
from chunkwise.registry import Spec
from chunkwise.types import Delta, Prompt, SamplingParams

__all__ = ["LLM", "AnyPrompt"]

logger = logging.getLogger(__name__)

AnyPrompt = str | Prompt | Items[int]
"""Text as it is, a chat prompt for the model's template, or token ids."""

_KV_SHARE = 0.4
_MAX_KV_BYTES = 8 * 2**30


class LLM:
    """A language model of a Hugging Face folder; a `ScoringModel`.

    Safe to use from several threads: whoever waits for tokens runs the next step, and all
    requests share the steps. Nothing is downloaded.

    Args:
        path: Folder with config.json, safetensors and tokenizer.json.
        dtype: Type of activations and KV: bfloat16, float32, or auto: bfloat16 where the hardware
            has it.
        quantize: Weights as whole numbers: none, int8 or int4. Faster decoding, less memory, some
            loss.
        kernels: auto, reference, cpu or cuda.
        device: auto, cpu, cuda, cuda:1 ...
        kv_budget_mb: Memory for KV in MiB; 0: 0.4 of what is free after loading, at most 8 GiB.
        token_budget: Most rows of a step; shorter steps mean steadier tokens, longer ones more
            throughput.
        max_sequences: Most sequences that run at a time.
        policy: Scheduling policy by name.
        context: Longest prompt and completion together; 0: what the model was made for.

    Raises:
        ModelFormatError: The folder cannot be used; the message names the field or tensor.
        ConfigError: A setting cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: str = "auto",
        quantize: str = "none",
        kernels: str = "auto",
        device: str = "auto",
        kv_budget_mb: int = 0,
        token_budget: int = 512,
        max_sequences: int = 64,
        policy: Spec = "stall_free",
        context: int = 0,
    ) -> None:
        _check(quantize, kv_budget_mb=kv_budget_mb, context=context, token_budget=token_budget)
        self.path = Path(path)
        self.config = ModelConfig.from_folder(self.path)
        self.tokenizer = Tokenizer.from_folder(self.path)
        self.tokenizer.check(self.config)
        self.template = ChatTemplate.from_folder(self.path, special=self.tokenizer.special)
        self.device = _device(device)
        self.dtype = _dtype(dtype, self.device)
        self.kernels = choose(kernels, self.device, self.dtype)
        self.fingerprint = f"local:{fingerprint(self.path)}:{_name(self.dtype)}:{quantize}"
        self.quantize = cast(Quantization, quantize)
        model = self._load()
        self.engine = self._engine(
            model,
            kv_budget_mb * 2**20,
            StepBudget(token_budget, max_sequences),
            policy,
            min(
                context or self.config.max_position_embeddings, self.config.max_position_embeddings
            ),
        )
        self._ids = itertools.count()
        self._lock = TurnLock()
        self._boxes: dict[str, deque[Update]] = {}

    def generate(
        self,
        prompts: AnyPrompt | Items[AnyPrompt],
        sampling: SamplingParams | Items[SamplingParams] | None = None,
    ) -> list[Output]:
        """Complete prompts together; outputs in the order of the prompts.

        Args:
            prompts: One prompt or several. A list of numbers is one prompt in tokens.
            sampling: For all of them, or one each.

        Raises:
            RequestError: The only prompt cannot be answered as asked. Of several, a bad one
                gives an output with `finish_reason` "error" and the rest goes on.
        """
        asked = _listed(prompts)
        params = _spread(sampling or SamplingParams(), len(asked))
        ids: list[str | Output] = []
        for prompt, sampled in zip(asked, params, strict=True):
            try:
                ids.append(self.add(prompt, sampled))
            except RequestError as exc:
                if len(asked) == 1:
                    raise
                ids.append(_refused(str(exc)))
        try:
            return [one if isinstance(one, Output) else self._finished(one) for one in ids]
        finally:
            self._forget([one for one in ids if isinstance(one, str)])

    def stream(self, prompt: AnyPrompt, sampling: SamplingParams | None = None) -> Iterator[Delta]:
        """See `LanguageModel.stream`. The last delta has the usage: `prompt_tokens`,
        `cached_tokens`, `completion_tokens`, and `stopped_by_length` = 1 for a cut answer.

        Raises:
            RequestError: The prompt cannot be answered as asked, or `n` is above 1.
        """
        params = sampling or SamplingParams()
        if params.n != 1:
            raise RequestError(f"A stream has one completion, got n={params.n!r}; use `generate`.")
        request_id = self.add(prompt, params)
        reason = None
        try:
            for update in self.updates(request_id):
                if update.error:
                    raise RequestError(update.error)
                reason = update.finish_reason
                if update.text:
                    yield Delta(update.text)
        finally:
            usage = dict(self.close_request(request_id).usage)
        yield Delta("", usage | ({"stopped_by_length": 1} if reason == "length" else {}))

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        """See `ScoringModel.nll`. Behind an empty prefix stands the model's first token, or its
        end token where it has none, as in training."""
        before = self._prefix(prefix)
        scored = tuple(self.tokenizer.encode(text, continues=True))
        if not scored:
            raise RequestError("The text to be scored has no tokens.")
        start = sum(len(segment.token_ids) for segment in before)
        request = self._request(
            (*before, TokenSegment(scored)), SamplingParams(max_tokens=1, prompt_logprobs=0)
        )
        request.score_from = start
        output = self._run(request)
        return np.array([-score.logprob for score in output.prompt_logprobs], dtype=np.float32)

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        """See `ScoringModel.next_logits`."""
        request = self._request(self.segments(prompt), SamplingParams(max_tokens=1))
        request.wants_logits = True
        self._run(request)
        assert request.logits is not None, "the step that sampled kept its logits"
        found: NDArray[np.float32] = request.logits.cpu().numpy()
        return found

    def add(
        self,
        prompt: AnyPrompt,
        sampling: SamplingParams,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
    ) -> str:
        """Take a request; `updates` gives what it yields. Nothing is computed yet.

        Args:
            prompt: What to complete.
            sampling: How.
            priority: Lower goes first.
            timeout_s: Ends the request after this time, finished or not.

        Returns:
            The request's id. `close_request` must be called with it in the end.

        Raises:
            RequestError: It cannot be answered as asked.
        """
        request = self._request(self.segments(prompt), sampling)
        request.priority = priority
        if timeout_s is not None:
            request.deadline = self.engine.clock() + timeout_s
        return self._add(request)

    def updates(self, request_id: str) -> Iterator[Update]:
        """Updates of a request as they come, until all its completions have ended."""
        while True:
            with self._lock:
                box = self._boxes[request_id]
                while not box and not self.engine.is_finished(request_id):
                    self._step()
                ready = self._taken(request_id)
                is_finished = self.engine.is_finished(request_id)
            yield from ready
            if is_finished:
                return

    def ready(self, request_id: str) -> list[Update]:
        """Updates of a request that are there already; for whoever calls `step` himself."""
        with self._lock:
            return self._taken(request_id)

    def close_request(self, request_id: str) -> Output:
        """End a request, if it still runs, and forget it. What it computed may serve others."""
        with self._lock:
            self.engine.cancel(request_id)
            del self._boxes[request_id]
            return self.engine.output(request_id)

    def step(self) -> bool:
        """Run one step for all requests; False if there was nothing to do."""
        with self._lock:
            if not self.engine.has_work():
                return False
            self._step()
            return True

    def segments(self, prompt: AnyPrompt) -> tuple[TokenSegment, ...]:
        """A prompt in tokens; the segments of a `Prompt` keep their content ids."""
        if isinstance(prompt, Prompt):
            return prompt_segments(prompt, self.tokenizer, self.template)
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt, special=True, add_bos=True)
            return (TokenSegment(tuple(ids)),)
        return (TokenSegment(tuple(int(token) for token in prompt)),)

    def _prefix(self, prefix: str | Prompt) -> tuple[TokenSegment, ...]:
        """What stands before a scored text: at least one token, and no text read as control."""
        if isinstance(prefix, Prompt):
            return self.segments(prefix)
        if ids := self.tokenizer.encode(prefix, add_bos=True):
            return (TokenSegment(tuple(ids)),)
        start = self.tokenizer.bos_token_id
        start = self.tokenizer.eos_token_id if start is None else start
        if start is None:
            raise RequestError("An empty prefix needs a model with a first or an end token.")
        return (TokenSegment((start,)),)

    def _load(self) -> Decoder:
        with Checkpoint(self.path) as checkpoint:
            return Decoder(
                self.config,
                checkpoint,
                self.kernels,
                dtype=self.dtype,
                device=self.device,
                quantization=self.quantize,
            )

    def _engine(
        self, model: Decoder, kv_bytes: int, budget: StepBudget, policy: Spec, context: int
    ) -> Engine:
        shape = KVShape(
            self.config.num_layers,
            self.config.num_kv_heads,
            self.config.head_dim,
            self.dtype,
            self.device,
        )
        if not kv_bytes:
            kv_bytes = min(int(_KV_SHARE * available_bytes(self.device)), _MAX_KV_BYTES)
        pool = SegmentPool(shape, kv_bytes)
        rotary = rotary_table(self.config.rope, self.config.head_dim, context, self.device)
        logger.info(
            "%s: %s weights %.0f MiB, KV budget %.0f MiB = %d tokens, context %d",
            self.path.name,
            _name(self.dtype) if self.quantize == "none" else self.quantize,
            model.nbytes / 2**20,
            kv_bytes / 2**20,
            pool.max_tokens,
            context,
        )
        return Engine(
            Runner(model, rotary),
            pool,
            Sampler(self.tokenizer.vocab_size, grammar=self._grammar()),
            self.tokenizer,
            policy=policies.build(policy),
            budget=budget,
            context=context,
            end_ids=self.config.eos_token_ids,
        )

    def _grammar(self) -> Grammar:
        text = (self.path / "tokenizer.json").read_text(encoding="utf-8")
        ends = self.config.eos_token_ids
        return Grammar(text, vocab_size=self.tokenizer.vocab_size, eos_token_ids=ends)

    def _request(self, segments: tuple[TokenSegment, ...], sampling: SamplingParams) -> Request:
        score_from = None if sampling.prompt_logprobs is None else 1
        return Request(str(next(self._ids)), segments, sampling, score_from=score_from)

    def _add(self, request: Request) -> str:
        with self._lock:
            self.engine.add(request)
            self._boxes[request.id] = deque()
        return request.id

    def _run(self, request: Request) -> Output:
        return self._finished(self._add(request))

    def _finished(self, request_id: str) -> Output:
        """The output of a request once it is done."""
        try:
            deque(self.updates(request_id), maxlen=0)
        finally:
            output = self.close_request(request_id)
        return output

    def _taken(self, request_id: str) -> list[Update]:
        box = self._boxes[request_id]
        found = list(box)
        box.clear()
        return found

    def _forget(self, request_ids: list[str]) -> None:
        """Close what was left open: an interrupt must not leave requests behind."""
        for request_id in request_ids:
            if request_id in self._boxes:
                self.close_request(request_id)

    def _step(self) -> None:
        for update in self.engine.step():
            self._boxes[update.request_id].append(update)


def _check(quantize: str, *, kv_budget_mb: int, context: int, token_budget: int) -> None:
    if quantize not in (known := get_args(Quantization)):
        raise ConfigError(f"`quantize` must be one of {', '.join(known)}, got {quantize!r}.")
    if kv_budget_mb < 0:
        raise ConfigError(f"`kv_budget_mb` must be 0 (automatic) or more, got {kv_budget_mb!r}.")
    if context < 0:
        raise ConfigError(f"`context` must be 0 (the model's own) or more, got {context!r}.")
    if token_budget < 1:
        raise ConfigError(f"`token_budget` must be at least 1, got {token_budget!r}.")


def _device(name: str) -> torch.device:
    if name == "auto":
        return default_device()
    try:
        return torch.device(name)
    except RuntimeError as exc:
        raise ConfigError(f"`device` {name!r} is not known: {exc}") from None


def _dtype(name: str, device: torch.device) -> torch.dtype:
    known = {
        "auto": default_dtype(device),
        "bfloat16": torch.bfloat16,
        "float32": torch.float32,
    }
    if name not in known:
        raise ConfigError(f"`dtype` must be one of {', '.join(known)}, got {name!r}.")
    return known[name]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _listed(prompts: AnyPrompt | Items[AnyPrompt]) -> list[AnyPrompt]:
    """One prompt or several as a list."""
    if isinstance(prompts, str | Prompt):
        return [prompts]
    several = list(prompts)
    if several and all(isinstance(one, int | np.integer) for one in several):
        return [several]  # type: ignore[list-item]
    return several  # type: ignore[return-value]


def _spread(sampling: SamplingParams | Items[SamplingParams], n: int) -> list[SamplingParams]:
    if isinstance(sampling, SamplingParams):
        return [sampling] * n
    if len(sampling) != n:
        raise RequestError(f"{n} prompts came with {len(sampling)} sampling settings.")
    return list(sampling)


def _refused(error: str) -> Output:
    return Output("", (Completion(finish_reason="error", error=error),), {}, {})
