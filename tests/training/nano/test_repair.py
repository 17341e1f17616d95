"""Answering over reused chunks equals the engine's reuse, and is learnt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.prompting import answer_prompt, text_hit
from chunkwise.training.nano import repair, reused
from chunkwise.training.nano.export import export
from chunkwise.training.nano.network import Llama, Shape
from chunkwise.training.nano.prompts import Prompts, document_names
from chunkwise.training.nano.questions import Context, Question
from chunkwise.training.nano.reused import Example
from chunkwise.training.nano.sight import Table, sight
from chunkwise.training.nano.stages import EVERYTHING
from chunkwise.training.nano.start import start
from chunkwise.training.nano.task import SHAPES
from chunkwise.training.nano.vocabulary import wrapped
from chunkwise.types import Prompt, SamplingParams

ANCHOR = "another one.pdf"
SHAPE = Shape(32, 64, 3, 4, 2)


@pytest.fixture(scope="module")
def made(tokenizer_text: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Llama, Path]:
    model = Llama(SHAPE, wrapped(tokenizer_text).vocab_size)
    start(model, 1)
    drawing = torch.Generator().manual_seed(1)
    with torch.no_grad():  # attention as uneven as trained ones
        for weight in model.parameters():
            factor = torch.rand(weight.shape, generator=drawing) + 0.5 if weight.ndim == 1 else 4
            weight.mul_(factor)
    folder = tmp_path_factory.mktemp("model")
    export(model, tokenizer_text, folder, dtype=torch.float32)
    return model, folder


def drawn(seed: int) -> tuple[Context, list[str]]:
    chance = random.Random(seed)
    context = EVERYTHING.draw(chance, "train")
    return context, document_names(chance, len(context.passages))


def contexts() -> list[tuple[Context, list[str]]]:
    """Drawn ones, one with a question longer than what counts, and one with a passage twice."""
    (first, names), *others = map(drawn, range(3))
    asked = Question(
        "one_hop", "Who, " + "and where, and when, " * 10 + "was it?", "x", frozenset()
    )
    long = Context(first.passages, (asked,))
    twice = Context((*first.passages, first.passages[1], "The end."), first.questions[:2])
    return [(first, names), *others, (long, names), (twice, [*names, names[0], names[0]])]


def examples(prompts: Prompts, ratio: float) -> list[Example]:
    found = []
    for context, names in contexts():
        row = prompts.row(context, names)
        branches = list(range(1, 1 + min(3, len(row.questions))))
        found.append(Example(row, prompts.anchor(ANCHOR), branches, [ratio] * len(branches)))
    return found


def prompt_of(context: Context, names: Sequence[str], question: str) -> Prompt:
    return answer_prompt(question, list(map(text_hit, context.passages, names)))


def engine_logits(folder: Path, asked: Sequence[Prompt], ratio: float) -> torch.Tensor:
    """Logits of the first token of each answer, one prompt at a time."""
    anchor = answer_prompt("?", [text_hit("A passage.", ANCHOR)])
    reuse = ReuseSettings({"name": "combined", "ratio": ratio}, anchor)
    found = []
    for prompt in asked:  # nothing but the anchor in the cache
        llm = LLM(folder, dtype="float32", kernels="reference", kv_budget_mb=16, reuse=reuse)
        llm.admit([piece for piece in llm.segments(prompt) if piece.content_id])
        request = llm.request(llm.segments(prompt), SamplingParams(max_tokens=1, temperature=0.0))
        request.wants_logits = True
        (output,) = llm.run([request])
        assert output.usage["reused_tokens"] or ratio == 1
        assert request.logits is not None
        found.append(request.logits.float())
    return torch.stack(found)


@torch.no_grad()
def first_logits(model: Llama, some: Sequence[Example]) -> torch.Tensor:
    answered = repair.answering(model, reused.pack(some))
    first = (answered.targets >= 0).int().argmax(1)
    return model.logits(answered.hidden[torch.arange(len(first)), first])


@pytest.mark.parametrize("ratio", [0.15, 0.3])
def test_logits_equal_those_of_the_engine(
    made: tuple[Llama, Path], prompts: Prompts, ratio: float
) -> None:
    model, folder = made
    some = examples(prompts, ratio)
    ours = first_logits(model, some)
    asked = [
        prompt_of(context, names, example.row.questions[branch - 1].text)
        for example, (context, names) in zip(some, contexts(), strict=True)
        for branch in example.branches
    ]
    assert ours.std() > 0.2, "a flat model proves nothing"
    assert (ours - first_logits(model, examples(prompts, 0.05))).abs().max() > 1e-2
    assert (ours - engine_logits(folder, asked, ratio)).abs().max() <= 1e-4 * ours.abs().max()


@torch.no_grad()
def test_all_tokens_afresh_is_full_attention(made: tuple[Llama, Path], prompts: Prompts) -> None:
    model, some = made[0], examples(prompts, 1.0)
    table = Table.of([example.row for example in some])
    hidden = model(table.ids, table.positions, sight(table))
    first = [
        hidden[i, next(j for j, b in enumerate(e.row.branch) if b == branch and t[j] >= 0)]
        for i, e in enumerate(some)
        for branch in e.branches
        for t in [e.row.targets]
    ]
    full = model.logits(torch.stack(first))
    assert (first_logits(model, some) - full).abs().max() <= 1e-4 * full.abs().max()


def test_verdicts_are_those_of_each_question_alone(
    made: tuple[Llama, Path], prompts: Prompts
) -> None:
    some = examples(prompts, 0.3)
    whole = repair.judge(made[0], some, dtype=torch.float32, batch_tokens=10**6)
    apart = repair.judge(made[0], some, dtype=torch.float32, batch_tokens=1)
    assert whole == apart
    assert len(whole) == sum(len(example.branches) for example in some)


def test_every_weight_is_trained_through_chunks_and_repair(prompts: Prompts) -> None:
    model = Llama(SHAPES["tiny"], prompts.tokenizer.vocab_size)
    start(model, 2)
    batch = reused.pack(examples(prompts, 0.15)[:2])
    with torch.autocast("cpu", torch.bfloat16):
        answered = repair.answering(model, batch)
        asked = answered.targets >= 0
        logits = model.logits(answered.hidden[asked]).float()
        torch.nn.functional.cross_entropy(logits, answered.targets[asked]).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_shares_afresh_are_mostly_cheap_and_never_nothing() -> None:
    chance = random.Random(0)
    ranges = [reused.draw_shares(chance) for _ in range(1000)]
    assert min(low for low, _ in ranges) == 0.05
    assert 0.75 < sum(high <= 0.3 for _, high in ranges) / 1000 < 0.95
