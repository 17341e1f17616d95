"""Which chunker brings back most of the characters that answer, at one mean size, and how fast?

Question: recall at budgets of tokens, IoU, and precision-omega of every chunker and of four
    libraries that people use now, on all public sets here with gold spans, through the product's
    own store and search; and megabytes of text a second.
Why: a chunker whose chunks are larger has more recall for the same number of hits, and one whose
    chunks are smaller has more precision; so sizes are matched first: each chunker's limit is set
    so that the mean chunk of the set has the same length.
What it does not tell: whether answers get better; how chunkers compare where other embedders or
    rerankers rank. The language model of `perplexity`, `margin` and `question_aware` is the small
    packaged one.
How: documents go into a corpus once; each chunker's chunks into a corpus derived from it, with the
    vectors of chunks that another had too. Differences are to `recursive`, paired over questions.
    Speed is measured apart, on texts of the first set, nothing remembered, one text warm.
Usage: python benchmarks/chunkers.py DATA_DIR [--sets chroma nq] [--chunkers ...] [--speed]
    [--sections FOLDER]: what `chunkwise train boundaries` made, without which `trained` is left out
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import chunkwise
from _gold import SETS, Gold
from _machine import machine
from _peers.chunkers import PEERS, Peer
from chunkwise.evaluation.chunking import BUDGETS, compare_chunking, evaluate_chunking
from chunkwise.evaluation.spans import SpanCase
from chunkwise.pipeline.corpus import ORIGIN_KEY, Corpus
from chunkwise.pipeline.ingest import Ingest
from chunkwise.pipeline.parts import Parts
from chunkwise.pipeline.recipes import derive
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.parsing.base import parse
from chunkwise.store import Store
from chunkwise.types import Document

BASELINE = "recursive"
MEASURES = (
    *("recall_at_400", "recall_at_800", "recall_at_1600"),
    *("recall", "iou", "best_iou", "precision_omega"),
)
HEADS = ("R@400", "R@800", "R@1600", "recall", "IoU", "IoU*", "omega")
MODELS = {"embedder", "scorer", "model"}
LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("vectors of texts", {"context_tokens": 0, "retriever": "dense"}),
    ("and headings", {"retriever": "dense"}),
    ("hybrid (the default)", {"retriever": "hybrid"}),
    ("and keywords", {"enrich": "headings,keywords"}),
    ("and completion", {"enrich": ["headings", {"name": "completion", "max_tokens": 64}]}),
    ("situated 0.2", {"situate": {"name": "situated", "gain": 0.2}}),
    ("situated 0.4", {"situate": {"name": "situated", "gain": 0.4}}),
    ("reranked by maxsim", {"reranker": "maxsim"}),
)
SLOW_CHARS = 60_000  # of a text that the speed of those that ask a model is measured on
CALIBRATION_CHARS = 250_000


class Remembering:
    """A language model that computes nothing twice."""

    def __init__(self, model: Any) -> None:
        self.model, self.fingerprint = model, model.fingerprint
        self._known: dict[Any, Any] = {}

    def _once(self, name: str, *arguments: Any) -> Any:
        key = (name, *arguments)
        if key not in self._known:
            self._known[key] = getattr(self.model, name)(*arguments)
        return self._known[key]

    def nll(self, prefix: Any, text: str) -> Any:
        return self._once("nll", prefix, text)

    def next_logits(self, prompt: Any) -> Any:
        return self._once("next_logits", prompt)

    def token_losses(self, text: str) -> Any:
        return self._once("token_losses", text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


class RememberingEmbedder:
    """An embedder that embeds no text twice."""

    def __init__(self, embedder: Any) -> None:
        self.embedder = embedder
        self._known: dict[tuple[str, str], Any] = {}

    def embed(self, texts: Sequence[str], kind: str = "passage") -> Any:
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in self._known]
        if new:
            for text, vector in zip(new, self.embedder.embed(new, kind), strict=True):
                self._known[kind, text] = vector
        found = [self._known[kind, text] for text in texts]
        return np.stack(found) if found else np.zeros((0, self.embedder.dim), np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.embedder, name)


class Cutters:
    """Builds every chunker, ours and others', over one set of parts."""

    def __init__(self, parts: Parts, sections: str, *, remember: bool) -> None:
        self.parts, self._sections, self._remember = parts, sections, remember
        self._models: dict[str, Any] = {}
        embedder = parts.embedder
        self._embedder = RememberingEmbedder(embedder) if remember else embedder

    def build(self, name: str, size: int) -> Any:
        if name in PEERS:
            return Peer(name, size, self.parts.counter)
        fields = chunkers.options(name)
        offered: dict[str, Any] = {"size": size, "overlap": 0, "counter": self.parts.counter}
        if "embedder" in fields:
            offered["embedder"] = self._embedder
        for part in ("segmenter", "boundaries"):
            if part in fields:
                offered[part] = getattr(self.parts, part)
        if self._sections:
            offered["model_folder"] = self._sections
        for field, part in (("scorer", "scorer"), ("model", "foreseer")):
            if field in fields:
                offered[field] = self._model(part)
        return chunkers.build(name, **offered)

    def _model(self, part: str) -> Any:
        if part not in self._models:
            model = getattr(self.parts, part)
            self._models[part] = Remembering(model) if self._remember else model
        return self._models[part]


def calibrated(cutters: Cutters, name: str, documents: Sequence[Document], tokens: float) -> Any:
    """The chunker with the size whose mean chunk is nearest to so many tokens."""
    sample, chars = [], 0
    for document in documents:
        sample.append(document)
        chars += len(document.text)
        if chars > CALIBRATION_CHARS:
            break
    low, high, tried = tokens * 0.8, tokens * 6, {}
    for _ in range(9):
        size = round((low * high) ** 0.5)
        if size in tried:
            break
        tried[size] = mean_tokens(cutters, name, size, sample)
        if abs(tried[size] / tokens - 1) < 0.01:
            break
        low, high = (size, high) if tried[size] < tokens else (low, size)
    best = min(tried, key=lambda size: abs(tried[size] - tokens))
    return cutters.build(name, best)


def mean_tokens(cutters: Cutters, name: str, size: int, documents: Sequence[Document]) -> float:
    chunker = cutters.build(name, size)
    count = cutters.parts.counter.count
    spans = [(d.text, span) for d in documents for span in chunker.split(d)]
    return float(np.mean([count(text[start:end]) for text, (start, end) in spans]))


@contextmanager
def corpus_of(gold: Gold, folder: Path) -> Iterator[Corpus]:
    """A corpus with the documents of a set, parsed by the product."""
    (folder / "files").mkdir(parents=True)
    for name, text in gold.texts.items():
        (folder / "files" / name).write_bytes(text.encode("utf-8"))
    with chunkwise.open(folder / "corpus", embedder="encoder") as corpus:
        corpus.add(folder / "files")
        for info in corpus.documents():
            same = corpus.document(info.name).text == gold.texts[Path(info.name).name]
            assert same, f"{info.name} was changed by its parser"
        yield corpus


def derived(origin: Corpus, folder: Path, chunker: Any, name: str, *, lend: bool = True) -> None:
    """The documents of a corpus, cut by a chunker, in a corpus of their own."""
    recipe = origin.parts.recipe() | {"chunk": f"{name} {chunker.size}"}
    with Store.open(folder, create=True) as store:
        store.put_setting(ORIGIN_KEY, str(origin.folder.resolve()))
        Ingest(
            store,
            chunker=chunker,
            counter=origin.parts.counter,
            embedder=origin.parts.embedder,
            recipe=recipe,
            lender=origin.store if lend else None,
        ).recut(origin.store)


def named(cases: Sequence[SpanCase]) -> list[SpanCase]:
    """The questions with documents named as the corpus names them."""
    return [
        SpanCase(
            case.question,
            tuple(place._replace(document=f"files/{place.document}") for place in case.references),
        )
        for case in cases
    ]


def measure(gold: Gold, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each chunker and retriever."""
    cases = named(gold.cases)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with corpus_of(gold, folder) as origin:
            cutters = Cutters(origin.parts, arguments.sections, remember=True)
            documents = [origin.document(info.name) for info in origin.documents()]
            baselines: dict[str, list[dict[str, float]]] = {}
            for name in arguments.chunkers:
                began = time.perf_counter()
                try:
                    chunker = calibrated(cutters, name, documents, arguments.tokens)
                except NotImplementedError as error:  # chonkie on scripts without blanks
                    yield {"chunker": name, "failed": str(error)}
                    continue
                place = folder / "derived" / name
                derived(origin, place, chunker, name)
                for retriever in arguments.retrievers:
                    asked = time.perf_counter()
                    rows = scored(place, retriever, cases)
                    if name == BASELINE:
                        baselines[retriever] = rows
                    yield {
                        "chunker": name,
                        "size": chunker.size,
                        "retriever": retriever,
                        **sizes(place),
                        **means(rows),
                        "less": difference(rows, baselines[retriever], cases),
                        "seconds": round(time.perf_counter() - began, 1),
                        "eval_seconds": round(time.perf_counter() - asked, 1),
                    }


def scored(folder: Path, retriever: str, cases: Sequence[SpanCase]) -> list[dict[str, float]]:
    with chunkwise.open(folder, retriever=retriever, embedder="encoder") as corpus:
        return list(evaluate_chunking(corpus, cases, k=5, budgets=BUDGETS))


def sizes(folder: Path) -> dict[str, Any]:
    with chunkwise.open(folder, embedder="encoder") as corpus:
        tokens = [c.tokens for info in corpus.documents() for c in corpus.store.chunks(info.name)]
    mean, largest = round(float(np.mean(tokens)), 1), max(tokens)
    return {"chunks": len(tokens), "mean_tokens": mean, "max_tokens": largest}


def difference(
    rows: Sequence[dict[str, float]], baseline: Sequence[dict[str, float]], cases: Any
) -> dict[str, list[float]]:
    less = compare_chunking(rows, baseline, cases)
    return {m: [round(v, 4) for v in less[m]] for m in ("recall_at_400", "recall_at_1600", "iou")}


def ladder(gold: Gold, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The default recipe put together step by step, none of which changes a span, and what else
    could be set; differences are to vectors of the plain texts."""
    cases, baseline = named(gold.cases), []
    with tempfile.TemporaryDirectory() as temporary, corpus_of(gold, Path(temporary)) as origin:
        for number, (name, settings) in enumerate(LADDER):
            folder = Path(temporary) / "ladder" / str(number)
            with derive(origin, folder, **settings) as corpus:
                began = time.perf_counter()
                rows = list(evaluate_chunking(corpus, cases, k=5, budgets=BUDGETS))
                asked = time.perf_counter() - began
            baseline = baseline or rows
            yield {
                "chunker": name,
                "size": origin.settings.size,
                "retriever": str(settings.get("retriever", "hybrid")),
                **sizes(folder),
                **means(rows),
                "less": difference(rows, baseline, cases),
                "seconds": round(asked, 1),
            }


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {m: round(float(np.mean([row[m] for row in rows])), 4) for m in MEASURES}


def speed(gold: Gold, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Megabytes a second of each chunker at a limit of 200 tokens."""
    with tempfile.TemporaryDirectory() as temporary, corpus_of(gold, Path(temporary)) as origin:
        documents = [origin.document(info.name) for info in origin.documents()]
        whole = max(documents, key=lambda document: len(document.text))
        few = parse(whole.text[:SLOW_CHARS].encode("utf-8"), name=whole.name)
        first = parse(whole.text[: SLOW_CHARS // 6].encode("utf-8"), name=whole.name)
        fresh = Parts(origin.settings)
        fresh.__dict__["counter"] = chunkwise.rag.counting.named_counter(origin.settings.counter)
        cutters = Cutters(fresh, arguments.sections, remember=False)
        for name in arguments.chunkers:
            is_slow = name not in PEERS and MODELS & chunkers.options(name).keys()
            document, chunker = few if is_slow else whole, cutters.build(name, 200)
            chunker.split(first)
            work = functools.partial(chunker.split, document)
            times = [_seconds(work) for _ in range(arguments.rounds)]
            size = len(document.text.encode("utf-8"))
            rate = size / 1e6 / statistics.median(times)
            yield {"chunker": name, "bytes": size, "mb_per_s": round(rate, 4)}


def goals(gold: Gold, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of what has a goal: `perplexity` over 100,000 tokens, `intent` over 1,000 sentences
    whose vectors are there, and one configuration cut, embedded and asked all questions."""
    with tempfile.TemporaryDirectory() as temporary, corpus_of(gold, Path(temporary)) as origin:
        parts, whole = origin.parts, "\n\n".join(gold.texts.values())
        starts = parts.counter.starts(whole)
        assert len(starts) > 100_000, "the set is too small for this"
        long = whole[: int(starts[100_000])]
        document = Document("long.txt", long)
        fresh = Cutters(Parts(origin.settings), "", remember=False).build("perplexity", 140)
        fresh.split(Document("warm.txt", long[:2000]))
        perplexity = _seconds(lambda: fresh.split(document))
        sentences = parts.segmenter.split(whole)[:1000]
        some = Document("some.txt", whole[: sentences[-1].end])
        intent = Cutters(parts, "", remember=True).build("intent", 140)
        intent.split(some)
        again = _seconds(lambda: intent.split(some))
        place = Path(temporary) / "derived"
        chunker = Cutters(parts, "", remember=False).build(BASELINE, 141)
        began = time.perf_counter()
        derived(origin, place, chunker, BASELINE, lend=False)
        scored(place, arguments.retrievers[0], named(gold.cases))
        one = time.perf_counter() - began
    found = {"perplexity_100k_tokens_s": perplexity, "intent_1000_sentences_s": again}
    return {name: round(value, 2) for name, value in {**found, "configuration_s": one}.items()}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shown(row: dict[str, Any], tokens: float) -> str:
    if "failed" in row:
        return f"{row['chunker']:24} {row['failed']}"
    head = f"{row['chunker']:24} {row['retriever']:7} {row['size']:5} {row['chunks']:6}"
    cells = " ".join(f"{100 * row[m]:7.1f}" for m in MEASURES)
    value, low, high = (100 * v for v in row["less"]["recall_at_400"])
    less = f"{value:+5.1f} [{low:+.1f}, {high:+.1f}]"
    is_off = tokens > 0 and abs(row["mean_tokens"] / tokens - 1) > 0.05
    mean = f"{row['mean_tokens']:6.1f}{'!' if is_off else ' '}"
    return f"{head} {mean}{cells}  {less:22} {row['seconds']:6.0f} s"


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="folder with chunking, qa_span, qa_long, retrieval")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--chunkers", nargs="*", default=[*chunkers.own, *PEERS])
    parser.add_argument("--retrievers", nargs="*", default=["hybrid"])
    parser.add_argument("--tokens", type=float, default=120, help="mean length of chunks")
    parser.add_argument("--limit", type=int, default=200, help="questions of a set")
    parser.add_argument(
        "--sections", default="", help="folder of `train boundaries`, for the chunker `trained`"
    )
    parser.add_argument("--speed", action="store_true", help="measure speed, not quality")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ladder", action="store_true", help="measure the default's steps")
    arguments = parser.parse_args()
    left_out = {BASELINE} if arguments.sections else {BASELINE, "trained"}
    arguments.chunkers = [BASELINE, *(n for n in arguments.chunkers if n not in left_out)]
    return arguments


def main() -> None:
    arguments = parsed_arguments()
    result: dict[str, Any] = {"benchmark": "chunkers", "machine": machine(), "sets": {}}
    result |= {"tokens": arguments.tokens, "limit": arguments.limit}
    print(result["machine"])
    for name in arguments.sets[:1] if arguments.speed else arguments.sets:
        gold = SETS[name](arguments.data, arguments.limit)
        chars = sum(map(len, gold.texts.values()))
        print(f"\n{name}: {gold.note}; {len(gold.cases)} questions, {chars / 1e6:.2f} M characters")
        about = {"questions": len(gold.cases), "documents": len(gold.texts), "rows": []}
        result["sets"][name] = about
        if arguments.speed:
            for row in speed(gold, arguments):
                about["rows"].append(row)
                print(f"{row['chunker']:24} {row['mb_per_s']:10.4f} MB/s", flush=True)
            result["goals"] = goals(gold, arguments)
            print(result["goals"])
            continue
        heads = " ".join(f"{head:>7}" for head in HEADS)
        print(f"{'':24} {'':7} limit chunks tokens {heads}  R@400 less {BASELINE}'s")
        for row in (ladder if arguments.ladder else measure)(gold, arguments):
            about["rows"].append(row)
            print(shown(row, 0 if arguments.ladder else arguments.tokens), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
