"""What are the models worth that Chunkwise ships? Every figure, its goal, and how to get it again.

    python benchmarks/models.py DATA_DIR [--models DIR] [--only NAME ...] [--questions 600]

Question. `reader`: F1 and abstention on a set that it has not seen, and milliseconds. `segmenter`:
F1 of sentence ends by language on sentences that were held out, clean and without punctuation and
case, beside the rules, and characters a second. `nano` and `draft`: exact match on freshly drawn
questions over two passages, with the passages attended to together and apart, and on questions
that people wrote; and how often `draft` says the token that `nano` would.

Why. Later figures of quality are measured on these models.

What it does not tell. Generated questions are in simple sentences; the figures on real questions
say how far that is from use. See each benchmark's own text: `reader.py`, `sentences.py`.

Baseline in the same run: `extractive` and `rules`; for `nano` its own reading of each passage
apart. A model that is not there is said to be missing and fails the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import reader as reader_benchmark
from _machine import machine
from chunkwise.evaluation.segmentation import GoldText
from chunkwise.llm.local import LLM
from chunkwise.packaged import FOLDER
from chunkwise.rag.answering.reading import SpanReader
from chunkwise.rag.embedding.bert import fastest_dtype
from chunkwise.rag.embedding.folder import read_config
from chunkwise.rag.sentences import segmenters
from chunkwise.training.nano import final, measure, real, vocabulary
from chunkwise.training.nano.export import load
from chunkwise.training.nano.prompts import NONE, Prompts, Row
from chunkwise.training.nano.sight import Table, sight
from chunkwise.training.sentences.scores import compare
from chunkwise.training.sentences.texts import read_all
from chunkwise.training.spans.data import read_set
from chunkwise.training.spans.examples import ExampleSet
from chunkwise.training.spans.scores import make_cases
from chunkwise.types import SamplingParams

BATCH_TOKENS = 4096
SEED = 20_261_127  # of fresh questions; any other draws another set


class Figure(NamedTuple):
    """A row of the table; `goal` None: reported, not aimed at."""

    model: str
    what: str
    value: float
    goal: float | None = None
    is_least: bool = True

    @property
    def is_met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.is_least else self.value <= self.goal


def reader(folder: Path, data: Path, questions: int) -> Iterator[Figure]:
    dtype, _ = fastest_dtype(read_config(folder))
    model = SpanReader(folder, dtype)
    asked, _ = read_set(data, "amazon")
    texts = [passage.text for passage in asked.passages]
    largest = reader_benchmark.packed_equals_single(model, texts[0])
    assert largest < (1e-4 if dtype == torch.float32 else 0.25), largest
    speed = reader_benchmark.speed(model, texts)
    examples = ExampleSet(asked, model.pieces, model.options, None)
    cases = make_cases(examples, most=questions, most_many=questions // 4, seed="benchmark")
    quality: Any = reader_benchmark.quality(model, cases)
    yield Figure("reader", "F1, right paragraph", quality["reader.given"]["f1"][0], 0.75)
    yield Figure("reader", "F1, half unanswerable", quality["reader.mixed"]["f1"][0], 0.65)
    yield Figure("reader", "AUC of abstention", quality["reader.mixed"]["auc"][0], 0.85)
    yield Figure("reader", "the same of `extractive`", quality["extractive.mixed"]["auc"][0])
    yield Figure("reader", "F1, half unanswerable, 8 texts", quality["reader.mixed_of_8"]["f1"][0])
    yield Figure("reader", "8 x 256 tokens, median ms", speed["p50_ms"], 300, is_least=False)


def segmenter(folder: Path, data: Path, questions: int) -> Iterator[Figure]:
    del questions
    test = read_all(data, None).test
    learned = segmenters.build({"name": "learned", "folder": str(folder)})
    found = compare(test, learned, segmenters.build("rules"))
    for name, gain in (("clean", 0.0), ("stripped", 0.2)):
        for key in sorted(key for key in found if key.startswith(f"{name}/")):
            language = key.partition("/")[2]
            goal = found[f"{name}_rules/{language}"] + gain
            yield Figure("segmenter", f"{name} F1, {language}", found[key], round(goal, 5))
    yield Figure("segmenter", "characters a second", chars_a_second(learned.split, test), 50_000)


def chars_a_second(split: Callable[[str, str | None], object], texts: Sequence[GoldText]) -> float:
    """Median of five passes over a hundred thousand characters of all languages, after one."""
    some, size = [], 0
    for text in texts[:: max(1, len(texts) // 200)]:
        some.append(text)
        size += len(text.text)
        if size > 100_000:
            break
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        for text in some:
            split(text.text, text.language or None)
        seconds.append(time.perf_counter() - began)
    return round(size / statistics.median(seconds[1:]))


def tools(folder: Path) -> final.Tools:
    """A model as it is trained, over the weights that are shipped."""
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    prompts = Prompts(vocabulary.wrapped(text))
    return final.Tools(load(folder), prompts, torch.float32, BATCH_TOKENS)


def language_model(folder: Path, data: Path, questions: int) -> Iterator[Figure]:
    name, made = folder.name, tools(folder)
    agree_with_engine(folder, made)
    reuse = final.reuse_figures(made, SEED)
    goal = 0.9 if name == "nano" else None
    yield Figure(name, "two passages, exact match", reuse["two_passage"], goal)
    yield Figure(name, "the same, passages apart", reuse["two_passage_separate"])
    yield Figure(name, "drop in points", reuse["drop"], 30 if name == "nano" else None)
    rows = final.fresh_rows(made.prompts, final.stages.EVERYTHING, SEED, 4 * questions)
    for kind, value in measure.accuracy(made.judged(rows)).items():
        yield Figure(name, f"{kind}, exact match", value)
    for kind, value in final.real_figures(made, real.read_cases(data)[0], SEED).items():
        yield Figure(name, f"{kind}, exact match", value)
    if name == "draft" and (folder.parent / "nano").exists():
        yield Figure(name, "tokens that nano would say", agreement(folder, rows))


def agree_with_engine(folder: Path, made: final.Tools) -> None:
    """The engine, asked as `ask` asks, must say what the measurement by one pass says."""
    rows = final.fresh_rows(made.prompts, final.TWO_PASSAGES, SEED, 40)
    # one at a time: a batch would come back in another order
    expected = [verdict.is_right for row in rows for verdict in made.judged([row])]
    asked = [(row, branch) for row in rows for branch in range(1, len(row.questions) + 1)]
    engine = LLM(folder, dtype="float32", kv_budget_mb=256)
    outputs = engine.generate(
        [prompt_of(row, branch) for row, branch in asked],
        SamplingParams(max_tokens=24, temperature=0.0),
    )
    found = [
        output.text.strip() == row.questions[branch - 1].answer
        for (row, branch), output in zip(asked, outputs, strict=True)
    ]
    share = sum(a == b for a, b in zip(found, expected, strict=True)) / len(asked)
    assert share >= 0.98, f"engine and measurement agree on {share:.1%} of the questions"


def prompt_of(row: Row, branch: int) -> list[int]:
    """Tokens of a question's prompt alone: the context, and the question up to its answer."""
    first = row.branch.index(branch)
    answer = next(i for i in range(first, len(row.ids)) if row.targets[i] != NONE)
    return row.ids[: row.branch.index(1)] + row.ids[first : answer + 1]


@torch.no_grad()
def agreement(draft: Path, rows: Sequence[Row]) -> float:
    """Share of the tokens of nano's answers, where right, that the draft has as the likeliest."""
    both = [tools(draft).model, load(draft.parent / "nano")]
    same = total = 0
    for some in measure.in_batches(rows, BATCH_TOKENS):
        table = Table.of(some, "cpu")
        asked = table.targets >= 0
        said = [
            model.logits(model(table.ids, table.positions, sight(table))[asked]).argmax(-1)
            for model in both
        ]
        is_right = said[1] == table.targets[asked]
        same += int((said[0] == said[1])[is_right].sum())
        total += int(is_right.sum())
    return round(same / max(total, 1), 4)


MEASURES: dict[str, Callable[[Path, Path, int], Iterator[Figure]]] = {
    "reader": reader,
    "segmenter": segmenter,
    "nano": language_model,
    "draft": language_model,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="*", default=list(MEASURES))
    parser.add_argument("--questions", type=int, default=600)
    asked = parser.parse_args()
    found: list[Figure] = []
    commands, missing = {}, []
    for name in asked.only:
        folder = asked.models / name
        if not folder.is_dir():
            missing.append(name)
            continue
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        commands[name] = card.get("command", f"chunkwise train {card['recipe']} --data DATA")
        for figure in MEASURES[name](folder, asked.data, asked.questions):
            found.append(figure)
            print(row_of(figure), flush=True)
    for name, command in commands.items():
        print(f"\n{name}: trained by `{command}`")
        print(f"  measured by `python benchmarks/models.py DATA --only {name}`")
    rows = [{**figure._asdict(), "is_met": figure.is_met} for figure in found]
    report = {"benchmark": "models", "machine": machine(), "figures": rows, "missing": missing}
    print(json.dumps(report | {"commands": commands}))
    if missing:
        raise SystemExit(f"Not shipped: {', '.join(missing)}")


def row_of(figure: Figure) -> str:
    sign = ">=" if figure.is_least else "<="
    goal = "" if figure.goal is None else f"{sign} {figure.goal:.3f}"
    mark = {True: "met", False: "short", None: ""}[figure.is_met]
    return f"{figure.model:10s}{figure.what:34s}{figure.value:12.3f}  {goal:14s}{mark}"


if __name__ == "__main__":
    main()
