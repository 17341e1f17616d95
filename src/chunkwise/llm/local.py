"""`LLM`: a Hugging Face folder as a language model on this machine."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, RequestError
from chunkwise.llm.encoding import PromptEncoder, before_chunks
from chunkwise.llm.engine import Engine
from chunkwise.llm.inputs import (
    AnyPrompt,
    check_counts,
    check_request,
    check_specs,
    check_text,
    checked_context,
    checked_dtype,
    checked_path,
    checked_quantize,
    listed,
    spread,
)
from chunkwise.llm.kernels.ops import choose, find_device
from chunkwise.llm.kv.segments import KVShape, SegmentPool
from chunkwise.llm.memory import kv_bytes_by_default
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.chat import ChatTemplate
from chunkwise.llm.models.checkpoint import Checkpoint, fingerprint
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.models.rotary import rotary_table
from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.llm.ordering.base import QueueOrder, orders
from chunkwise.llm.outputs import Output, refused_output
from chunkwise.llm.probing import deviations
from chunkwise.llm.reusing import ReuseSettings, open_reuse
from chunkwise.llm.runner import Runner
from chunkwise.llm.sampling import Sampler
from chunkwise.llm.scheduling.base import SchedulingPolicy, StepBudget, policies
from chunkwise.llm.sequence import Request, TokenSegment
from chunkwise.llm.serving import Serving
from chunkwise.llm.structured import Grammar
from chunkwise.registry import Spec
from chunkwise.types import Delta, Prompt, SamplingParams

__all__ = ["LLM", "AnyPrompt", "ReuseSettings"]

logger = logging.getLogger(__name__)

_BACKGROUND = 1_000_000  # a priority


class LLM(Serving):
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
        policy: Scheduling policy by name: who computes how much in a step.
        order: Queue order by name: who of the waiting is admitted next.
        context: Longest prompt and completion together; 0: what the model was made for.
        reuse: How chunks of prompts are read from what `admit` has computed of them; None: prompts
            are computed in full.

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
        order: Spec = "sharing",
        context: int = 0,
        reuse: ReuseSettings | None = None,
    ) -> None:
        check_counts(
            kv_budget_mb=(kv_budget_mb, 0),
            token_budget=(token_budget, 1),
            max_sequences=(max_sequences, 1),
            context=(context, 0),
        )
        check_specs(policy=policy, order=order)
        self.path = checked_path(path)
        self.quantize = checked_quantize(quantize)
        self.device = find_device(device)
        self.dtype = checked_dtype(dtype, self.device)
        self.config = ModelConfig.from_folder(self.path)
        context = checked_context(context, self.config)
        self.tokenizer = Tokenizer.from_folder(self.path, self.config)
        template = ChatTemplate.from_folder(self.path, special=self.tokenizer.special)
        self.encoder = PromptEncoder(self.tokenizer, template, self.config.vocab_size)
        self.kernels = choose(kernels, self.device, self.dtype)
        self.fingerprint = f"local:{fingerprint(self.path)}:{_name(self.dtype)}:{quantize}"
        scheduling = policies.build(policy), orders.build(order)
        budget = StepBudget(token_budget, max_sequences)
        anchor = self._anchor(reuse) if reuse else ()
        angles = context + len(anchor)  # a chunk's keys are turned as far as the anchor is long
        rotary = rotary_table(self.config.rope, self.config.head_dim, angles, self.device)
        runner = Runner(self._load(), rotary)
        super().__init__(self._engine(runner, kv_budget_mb * 2**20, budget, scheduling, context))
        if reuse:
            measure = functools.partial(deviations, runner.model, rotary)
            shape, costs = self.engine.pool.shape, self.engine.costs
            self.engine.use(open_reuse(reuse, anchor, self.fingerprint, shape, costs, measure))
        self._ids = itertools.count()

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
        asked = listed(prompts)
        params = spread(SamplingParams() if sampling is None else sampling, len(asked))
        taken: list[Request | Output] = []
        for prompt, sampled in zip(asked, params, strict=True):
            try:
                taken.append(self.request(self.segments(prompt), sampled))
            except RequestError as exc:
                if len(asked) == 1:
                    raise
                taken.append(refused_output(str(exc)))
        self.audit()
        self.keep([one for one in taken if isinstance(one, Request)])
        return self.run(taken)

    def generate_batch(
        self,
        prompts: Items[AnyPrompt],
        sampling: SamplingParams | Items[SamplingParams] | None = None,
        *,
        priority: int = 1,
    ) -> Iterator[tuple[int, Output]]:
        """Complete a job of up to thousands of prompts, in the order that shares most.

        As many run at a time as the KV budget has room for, whatever `max_sequences` says. Chunks
        to be reused are computed shortly before they are needed. Closing the iterator, or an
        interrupt, ends the job.

        Args:
            prompts: Several prompts, each as in `generate`.
            sampling: For all of them, or one each.
            priority: As in `add`; the requests of others go first.

        Returns:
            Outputs as they finish, each with the index of its prompt; a bad prompt gives one with
            `finish_reason` "error".

        Raises:
            RequestError: What was given are no prompts, or not one sampling setting for each.
        """
        asked = listed(prompts)
        params = spread(SamplingParams() if sampling is None else sampling, len(asked))
        check_request(SamplingParams(), priority)
        return self._batch(asked, params, priority)

    def _batch(
        self, asked: list[AnyPrompt], params: list[SamplingParams], priority: int
    ) -> Iterator[tuple[int, Output]]:
        taken: list[tuple[int, Request]] = []
        for i, (prompt, sampled) in enumerate(zip(asked, params, strict=True)):
            try:
                taken.append((i, self.request(self.segments(prompt), sampled, priority)))
            except RequestError as exc:
                yield i, refused_output(str(exc))
        self.audit()
        yield from self.run_batch(taken, self.keep)

    def stream(self, prompt: AnyPrompt, sampling: SamplingParams | None = None) -> Iterator[Delta]:
        """See `LanguageModel.stream`. The last delta has the usage: `prompt_tokens`,
        `cached_tokens`, `completion_tokens`, `reused_tokens` where chunks were reused, and
        `stopped_by_length` = 1 for a cut answer.

        Raises:
            RequestError: The prompt cannot be answered as asked, or `n` is above 1.
        """
        params = SamplingParams() if sampling is None else sampling
        segments = self.segments(prompt)
        request = self.request(segments, params)
        if params.n != 1:
            raise RequestError(f"A stream has one completion, got n={params.n!r}; use `generate`.")
        reason, usage = None, dict[str, int]()
        self.keep([request])
        try:
            self._add(request)
            for update in self.updates(request.id):
                if update.error:
                    raise RequestError(update.error)
                reason = update.finish_reason
                if update.text:
                    yield Delta(update.text)
        finally:
            if (output := self._closed(request.id)) is not None:
                usage = dict(output.usage)
        yield Delta("", usage | ({"stopped_by_length": 1} if reason == "length" else {}))

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        """See `ScoringModel.nll`. Behind an empty prefix stands the model's first token, or its
        end token where it has none, as in training."""
        check_text("text", text)
        before = self.encoder.prefix(prefix)
        scored = tuple(self.tokenizer.encode(text, continues=True))
        if not scored:
            raise RequestError("The text to be scored has no tokens.")
        start = sum(len(segment.token_ids) for segment in before)
        request = self.request(
            (*before, TokenSegment(scored)), SamplingParams(max_tokens=1, prompt_logprobs=0)
        )
        request.score_from, request.is_exact = start, True
        output = self._run_one(request)
        return np.array([-score.logprob for score in output.prompt_logprobs], dtype=np.float32)

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        """See `ScoringModel.next_logits`; rows that pad the embedding are left out."""
        request = self.request(self.segments(prompt), SamplingParams(max_tokens=1))
        request.wants_logits = request.is_exact = True
        self._run_one(request)
        assert request.logits is not None, "the step that sampled kept its logits"
        found: NDArray[np.float32] = request.logits[: self.tokenizer.vocab_size].cpu().numpy()
        return found

    def admit(self, chunks: Iterable[TokenSegment], *, priority: int = 0) -> int:
        """Compute the KV of chunks that are not stored yet, each behind the anchor; of those that
        there is room for.

        Args:
            chunks: With their content ids, as `segments` gives them; others are passed over.
            priority: As in `add`.

        Returns:
            How many were computed; a chunk that is too long for the model is not.

        Raises:
            ConfigError: The model was made without `reuse`.
        """
        reuse = self.engine.reuse
        if reuse is None:
            raise ConfigError("Chunks are kept with `reuse` only: give `ReuseSettings`.")
        with self._lock:
            missing = reuse.missing(chunks, self.engine.pool.shape.bytes_per_token)
        requests = reuse.requests(
            missing, lambda parts: self.request(parts, SamplingParams(max_tokens=1), priority)
        )
        outputs = self.run([refused_output(""), *requests])[1:]  # so none is the only one
        done = (not output.completions[0].error for output in outputs)
        return sum(one.admits is not None and ok for one, ok in zip(requests, done, strict=True))

    def keep(self, requests: Iterable[Request]) -> int:
        """Compute chunks of prompts, which follow, that are not stored; where chunks are reused.

        Returns:
            How many were computed.
        """
        reusing = self._expect(requests)
        if not reusing:
            return 0
        try:
            return self.admit(piece for one in reusing for piece in one.segments)
        except BaseException:
            self._forget(reusing)
            raise

    def audit(self) -> None:
        """Give all answers again that are due for it, in full, and compare. `generate` and
        `generate_batch` begin with it, so that no finished answer waits for it."""
        while self._audit_one(priority=0):
            pass

    def background(self) -> bool:
        """Do something that nobody waits for, behind all other requests: give one answer again
        that is due for it, or compute a chunk that a prompt wanted; False if there was nothing."""
        if self._audit_one(priority=_BACKGROUND):
            return True
        with self._lock:
            reuse = self.engine.reuse
            is_off = reuse is None or reuse.audit.is_refused
            wanted = reuse.wanted.popleft() if reuse and reuse.wanted and not is_off else None
        if wanted is not None:
            self.admit([wanted], priority=_BACKGROUND)
        return wanted is not None

    def _audit_one(self, priority: int) -> bool:
        """Whether there was one that was due."""
        with self._lock:
            reuse = self.engine.reuse
            due = reuse.audit.due.popleft() if reuse is not None and reuse.audit.due else None
        if reuse is None or due is None:
            return False
        request = self.request(due.request.segments, due.sampling, priority)
        request.is_exact = True
        reuse.audit.book(due, self.run([request, refused_output("")])[0].token_ids)
        return True

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
        request = self.request(self.segments(prompt), sampling, priority, timeout_s)
        self._expect([request])
        return self._add(request)

    def segments(self, prompt: AnyPrompt) -> tuple[TokenSegment, ...]:
        """See `PromptEncoder.segments`."""
        return self.encoder.segments(prompt)

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
        self,
        runner: Runner,
        kv_bytes: int,
        budget: StepBudget,
        scheduling: tuple[SchedulingPolicy, QueueOrder],
        context: int,
    ) -> Engine:
        config = self.config
        sizes = config.num_layers, config.num_kv_heads, config.head_dim
        kv_bytes = kv_bytes or kv_bytes_by_default(self.device)
        pool = SegmentPool(KVShape(*sizes, self.dtype, self.device), kv_bytes)
        logger.info(
            "%s: %s weights %.0f MiB, KV budget %.0f MiB = %d tokens, context %d",
            self.path.name,
            _name(self.dtype) if self.quantize == "none" else self.quantize,
            runner.model.nbytes / 2**20,
            kv_bytes / 2**20,
            pool.max_tokens,
            context,
        )
        return Engine(
            runner,
            pool,
            Sampler(self.tokenizer.vocab_size, grammar=self._grammar()),
            self.tokenizer,
            policy=scheduling[0],
            order=scheduling[1],
            budget=budget,
            context=context,
            end_ids=self.config.eos_token_ids,
        )

    def _anchor(self, settings: ReuseSettings) -> tuple[int, ...]:
        """What chunks are computed behind, in tokens."""
        if any(self.config.windows):
            raise ConfigError(
                f"{self.path.name} has a sliding window: what a token sees depends on its place, "
                "so chunks cannot be reused. Leave `reuse` out."
            )
        return before_chunks(self.segments(settings.anchor)) if settings.anchor else ()

    def _grammar(self) -> Grammar:
        text = (self.path / "tokenizer.json").read_text(encoding="utf-8")
        ends = self.config.eos_token_ids
        return Grammar(text, vocab_size=self.tokenizer.vocab_size, eos_token_ids=ends)

    def request(
        self,
        segments: tuple[TokenSegment, ...],
        sampling: SamplingParams,
        priority: int = 0,
        timeout_s: float | None = None,
    ) -> Request:
        """A request for `run`, of a prompt in tokens; what else it should be can be set on it."""
        check_request(sampling, priority, timeout_s)
        deadline = None if timeout_s is None else self.engine.clock() + timeout_s
        first = None if sampling.prompt_logprobs is None else 1
        request = Request(str(next(self._ids)), segments, sampling, priority, deadline)
        request.score_from, request.is_exact = first, first is not None
        return request


def kv_bytes_per_token(path: str | Path, *, dtype: str = "auto", device: str = "auto") -> int:
    """Bytes of keys and values that one token takes in a model, which is not loaded."""
    config, found = ModelConfig.from_folder(checked_path(path)), find_device(device)
    sizes = config.num_layers, config.num_kv_heads, config.head_dim
    return KVShape(*sizes, checked_dtype(dtype, found), found).bytes_per_token


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
