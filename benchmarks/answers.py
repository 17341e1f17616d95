"""How good are extractive answers, and does the confidence tell when there is no answer?

    python benchmarks/answers.py DATA_DIR [--fit] [--questions N]

Question. Over eight passages found for a question: how often do the sentences shown hold a gold
answer, and how well does the confidence part questions that the passages answer from those that
they do not? With an embedder and without, against baselines in the same run: the first
sentence of the first passage, and the one or two sentences with the highest BM25 score.

Why. Extractive answers are what Chunkwise gives without a language model.

What it does not tell. Questions of SQuAD and its like were written with the passage in view, so
they share words with it more than a user's questions do. Retrieval runs over pools of some
150 to 200 passages of one domain (one policy for PolicyQA). Containment says that the words of
a gold answer stand in what is shown, not that a reader is content. Data: `qa_span` of DATA_DIR;
documents are split into training and test halves. Unanswerable are: `impossible` (written to
look answerable from a passage in the pool: SQuAD 2.0, CLAPnq), `removed` (the gold passage was
taken out, others of its pool remain) and `foreign` (a question of another data set).

`--fit` fits the weights of `rag/answering/evidence.py` on the training half and prints them.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rank_bm25 import BM25Okapi

from _machine import machine
from chunkwise.rag.answering import evidence, matching
from chunkwise.rag.answering.extractive import ExtractiveAnswerer
from chunkwise.rag.answering.units import Unit, units_of
from chunkwise.rag.embedding import embedders
from chunkwise.rag.sentences import segmenters
from chunkwise.types import Answer, Chunk, Hit, Query, Span, content_id

K = 8
SETS = ("squad2", "amazon", "reddit", "policy", "clapnq")


@dataclass(frozen=True)
class Asked:
    """A question, its gold passage in the pool, and its gold answers (none: unanswerable)."""

    text: str
    gold: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """Passages that are searched together, as (document, text), and questions over them."""

    dataset: str
    passages: list[tuple[str, str]]
    questions: list[Asked]


@dataclass(frozen=True, eq=False)
class Case:
    """A question over its hits. `kind`: answerable, missed, impossible, removed, foreign."""

    dataset: str
    kind: str
    question: str
    hits: list[Hit]
    gold: int
    answers: tuple[str, ...]


class KeptVectors:
    """An embedder that remembers, so that texts of several cases are embedded once."""

    is_weak = False

    def __init__(self, inner) -> None:
        self.inner, self.kept = inner, {}
        self.fingerprint, self.dim, self.max_tokens = inner.fingerprint, inner.dim, inner.max_tokens

    def embed(self, texts, kind="passage"):
        new = [text for text in dict.fromkeys(texts) if (text, kind) not in self.kept]
        for text, vector in zip(new, self.inner.embed(new, kind) if new else [], strict=True):
            self.kept[text, kind] = vector
        return np.stack([self.kept[text, kind] for text in texts])


# --- data ------------------------------------------------------------------------------------


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def squad(path: Path) -> tuple[list[tuple[str, str]], list[Asked]]:
    passages, questions = [], []
    for article in read(path):
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                is_answerable = not qa.get("is_impossible", False)
                answers = tuple(a["text"] for a in qa["answers"]) if is_answerable else ()
                questions.append(Asked(qa["question"], len(passages), answers))
            passages.append((article["title"], paragraph["context"]))
    return passages, questions


def subset(dataset: str, data: tuple[list, list[Asked]], places: Sequence[int]) -> Pool:
    passages, questions = data
    new = {old: i for i, old in enumerate(places)}
    kept = [Asked(q.text, new[q.gold], q.answers) for q in questions if q.gold in new]
    return Pool(dataset, [passages[i] for i in places], kept)


def pools(data: Path, rng: random.Random) -> dict[str, list[Pool]]:
    """Pools by split; no document is in both."""
    found: dict[str, list[Pool]] = {"train": [], "test": []}
    folder = data / "qa_span"
    wiki = squad(folder / "squad_v2_dev_half.jsonl.gz")
    titles = sorted({title for title, _ in wiki[0]})
    for split, some in (("train", titles[0::2]), ("test", titles[1::2])):
        places = [i for i, (title, _) in enumerate(wiki[0]) if title in some]
        found[split].append(subset("squad2", wiki, places))
    for name in ("amazon_reviews", "reddit"):
        shifts = squad(folder / f"squadshifts_{name}_v1.0.jsonl.gz")
        places = rng.sample(range(len(shifts[0])), 600)
        for i in range(4):
            some = places[150 * i : 150 * (i + 1)]
            found["train" if i < 2 else "test"].append(subset(name.split("_")[0], shifts, some))
    policies = squad(folder / "policyqa_dev.jsonl.gz")
    for i, site in enumerate(sorted({title for title, _ in policies[0]})):
        places = [j for j, (title, _) in enumerate(policies[0]) if title == site]
        found["test" if i % 2 else "train"].append(subset("policy", policies, places))
    rows = read(folder / "clapnq_dev.jsonl.gz")
    rng.shuffle(rows)
    for split, some in (("train", rows[::2]), ("test", rows[1::2])):
        found[split].append(clapnq(some))
    return found


def clapnq(rows: list[dict]) -> Pool:
    """Gold answers are the sentences that the annotators selected."""
    passages = [(row["passages"][0]["title"], row["passages"][0]["text"]) for row in rows]
    questions = []
    for i, row in enumerate(rows):
        chosen = [s for output in row["output"] for s in output.get("selected_sentences", ())]
        questions.append(Asked(row["input"], i, tuple(chosen) if row["answerable"] else ()))
    return Pool("clapnq", passages, questions)


def cases(
    found: list[Pool], embedder: KeptVectors | None, each: int, rng: random.Random
) -> Iterator[Case]:
    """About `each` answerable questions a data set, and as many unanswerable ones."""
    for pool in found:
        quota = max(1, each // sum(p.dataset == pool.dataset for p in found))
        others = [p for p in found if p.dataset != pool.dataset]
        good = [q for q in pool.questions if q.answers]
        bad = [q for q in pool.questions if not q.answers]
        rng.shuffle(good), rng.shuffle(bad)
        foreign = [rng.choice(rng.choice(others).questions) for _ in range(max(1, quota // 3))]
        search = searcher(pool, embedder)
        for asked in good[:quota]:
            places = search(asked.text, None)
            gold = places.index(asked.gold) if asked.gold in places else -1
            yield case(pool, "answerable" if gold >= 0 else "missed", asked, places, gold)
        for asked in bad[: quota // 2]:
            yield case(pool, "impossible", asked, search(asked.text, None))
        for asked in good[quota : quota + quota // 3]:
            places = search(asked.text, asked.gold)
            if not holds("\n".join(pool.passages[i][1] for i in places), asked.answers):
                yield case(pool, "removed", asked, places)
        for asked in foreign:
            yield case(pool, "foreign", asked, search(asked.text, None))


def remember(asked: list[Case], answerer: ExtractiveAnswerer, embedder: KeptVectors | None) -> None:
    """Embed all units of all cases in one go, which is quicker than case by case."""
    if embedder:
        pairs = ((one, unit) for one in asked for unit in kept_units(one, answerer))
        embedder.embed(list({evidence.unit_text(one.hits, unit) for one, unit in pairs}))


def case(pool: Pool, kind: str, asked: Asked, places: Sequence[int], gold: int = -1) -> Case:
    hits = [hit(*pool.passages[i]) for i in places]
    answers = asked.answers if kind in ("answerable", "missed") else ()
    return Case(pool.dataset, kind, asked.text, hits, gold, answers)


def hit(document: str, text: str) -> Hit:
    chunk = Chunk(content_id(text), text, Span(0, len(text)), len(text.split()))
    return Hit(chunk, 1.0, document)


def searcher(pool: Pool, embedder: KeptVectors | None) -> Callable[[str, int | None], list[int]]:
    """BM25, fused by reciprocal rank with cosines where there is an embedder."""
    texts = [text for _, text in pool.passages]
    bm25 = BM25Okapi([matching.terms(text) for text in texts])
    vectors = embedder.embed(texts) if embedder else None

    def search(question: str, without: int | None) -> list[int]:
        rankings = [bm25.get_scores(matching.content_terms(question))]
        if embedder:
            rankings.append(vectors @ embedder.embed([question], "query")[0])
        fused = sum(1 / (60 + np.argsort(np.argsort(-scores))) for scores in rankings)
        order = np.argsort(-fused, kind="stable").tolist()
        return [i for i in order if i != without][:K]

    return search


def holds(text: str, answers: Sequence[str]) -> bool:
    plain = " ".join(text.casefold().split())
    return any(" ".join(answer.casefold().split()) in plain for answer in answers if answer.strip())


# --- fitting ---------------------------------------------------------------------------------


def fit(train: list[Case], embedder: KeptVectors | None, answerer: ExtractiveAnswerer) -> dict:
    """Ranking weights (softmax over the units of a question), then trust weights (logistic)."""
    seen = []
    for one in train:
        units = kept_units(one, answerer)
        if units:
            features = evidence.unit_features(one.question, one.hits, units, embedder=embedder)
            seen.append((one, units, features))
    rank = fit_rank(seen)
    rows, right, kinds = [], [], []
    for one, units, features in seen:
        scores = features @ rank
        found = evidence.Evidence(scores, 1.0, 0.0)
        chosen = answerer._chosen(one.hits, units, found)
        rows.append(evidence.trust_features(one.question, features, scores, units))
        right.append(any(holds(said(one, units[i]), one.answers) for i in chosen))
        kinds.append(one.kind)
    trust, bias = fit_trust(np.array(rows), np.array(right, dtype=float))
    confidence = 1 / (1 + np.exp(-(np.array(rows) @ trust + bias)))
    threshold = balance(confidence, np.array(kinds))
    return {
        "rank": rounded(rank),
        "trust": rounded(trust),
        "bias": round(float(bias), 3),
        "threshold": round(threshold, 3),
        "n": len(seen),
    }


@functools.cache
def kept_units(one: Case, answerer: ExtractiveAnswerer) -> list[Unit]:
    return [u for u in units_of(one.hits, answerer.segmenter) if not u.is_heading]


def said(one: Case, unit: Unit) -> str:
    return one.hits[unit.hit].chunk.text[unit.start : unit.end]


def fit_rank(seen: list, steps: int = 400, l2: float = 1e-3) -> np.ndarray:
    """Adam on minus the log of the probability that falls on units with the answer."""
    blocks, golds = [], []
    for one, units, features in seen:
        has = np.array([holds(said(one, u), one.answers) for u in units])
        is_gold = has & np.array([u.hit == one.gold for u in units])
        usable = is_gold | ~has  # the answer's words in another passage say neither yes nor no
        if is_gold.any():
            blocks.append(features[usable])
            golds.append(is_gold[usable])
    x, gold = np.vstack(blocks), np.concatenate(golds)
    lengths = [len(block) for block in blocks]
    group = np.repeat(np.arange(len(blocks)), lengths)
    starts = np.r_[0, np.cumsum(lengths)[:-1]]
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = (x - mean) / scale
    w, first, second = np.zeros(z.shape[1]), 0.0, 0.0
    for step in range(1, steps + 1):
        score = z @ w
        odds = np.exp(score - np.maximum.reduceat(score, starts)[group])
        p = odds / np.add.reduceat(odds, starts)[group]
        q = p * gold / np.maximum(np.add.reduceat(p * gold, starts)[group], 1e-12)
        gradient = z.T @ (p - q) / len(blocks) + l2 * w
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        w -= 0.05 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return w / scale


def fit_trust(x: np.ndarray, y: np.ndarray, l2: float = 1e-3) -> tuple[np.ndarray, float]:
    """Logistic regression by Newton's method."""
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = np.hstack([(x - mean) / scale, np.ones((len(x), 1))])
    ridge = l2 * len(x) * np.diag([*[1.0] * x.shape[1], 0.0]) / x.shape[1]
    w = np.zeros(z.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-z @ w))
        hessian = (z * (p * (1 - p))[:, None]).T @ z + ridge
        w -= np.linalg.solve(hessian, z.T @ (p - y) + ridge @ w)
    trust = w[:-1] / scale
    return trust, float(w[-1] - trust @ mean)


def balance(confidence: np.ndarray, kinds: np.ndarray) -> float:
    """The threshold with the best mean of two shares: answerable kept, unanswerable refused."""
    good = confidence[kinds == "answerable"]
    bad = confidence[(kinds != "answerable") & (kinds != "missed")]
    grid = np.linspace(0.02, 0.9, 177)
    return float(max(grid, key=lambda t: (good >= t).mean() + (bad < t).mean()))


def rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in values)


# --- measuring -------------------------------------------------------------------------------


def measure(test: list[Case], answerer: ExtractiveAnswerer, embedder: KeptVectors | None) -> dict:
    """Containment, F1, abstention and calibration on the test half."""
    asked = [one for one in test if kept_units(one, answerer)]
    answers = [answer(answerer, one) for one in asked]
    single = replace(answerer, max_sentences=1)
    confidence = np.array([a.confidence for a in answers])
    right = np.array([holds(a.text, o.answers) for a, o in zip(answers, asked, strict=True)])
    kinds = np.array([one.kind for one in asked])
    weights = evidence.VECTOR_WEIGHTS if embedder else evidence.LEXICAL_WEIGHTS
    shown = confidence >= weights.threshold
    good = kinds == "answerable"
    bad = ~good & (kinds != "missed")
    refused = {k: interval(~shown[kinds == k]) for k in ("impossible", "removed", "foreign")}
    return {
        "contains": contains(asked, [a.text for a in answers]),
        "contains_first_sentence": contains(asked, [first_sentence(o, answerer) for o in asked]),
        "contains_bm25_sentence": contains(asked, [bm25_best(o, answerer, 1) for o in asked]),
        "contains_bm25_two_sentences": contains(asked, [bm25_best(o, answerer, 2) for o in asked]),
        "contains_one_sentence": contains(asked, [answer(single, o).text for o in asked]),
        "f1_clapnq": f1_of(asked, answers, "clapnq"),
        "sentences_shown": round(float(np.mean([a.usage["sentences"] for a in answers])), 2),
        "chars_shown": round(float(np.mean([len(a.text) for a in answers])), 1),
        "auc": auc_interval(confidence, good, bad),
        "auc_by_kind": {
            k: auc_interval(confidence, good, kinds == k)
            for k in ("impossible", "removed", "foreign", "missed")
        },
        "auc_baseline_overlap": auc_interval(overlap(asked, answerer), good, bad),
        "threshold": weights.threshold,
        "answerable_shown": interval(shown[good]),
        "unanswerable_refused": interval(~shown[bad]),
        "refused_by_kind": refused,
        "right_when_shown_and_answerable": interval(right[shown & good]),
        "calibration_error": round(calibration_error(confidence, right), 3),
    }


def answer(answerer: ExtractiveAnswerer, one: Case) -> Answer:
    *_, last = answerer.stream(Query(one.question), one.hits)
    assert isinstance(last, Answer), "a stream ends with the answer"
    for cited in last.citations:  # every document here is one passage
        texts = [h.chunk.text for h in one.hits]
        assert any(t[cited.start : cited.end] == cited.text for t in texts), "verbatim"
    return last


def contains(asked: list[Case], texts: list[str]) -> dict[str, object]:
    """Over questions whose gold passage is among the hits, whole and by data set."""
    rows = [(o.dataset, holds(t, o.answers)) for o, t in zip(asked, texts, strict=True)
            if o.kind == "answerable"]  # fmt: skip
    by_set = {s: interval(np.array([r for d, r in rows if d == s])) for s in SETS}
    return {"all": interval(np.array([r for _, r in rows])), **by_set}


def first_sentence(one: Case, answerer: ExtractiveAnswerer) -> str:
    return said(one, kept_units(one, answerer)[0])


def bm25_best(one: Case, answerer: ExtractiveAnswerer, count: int) -> str:
    units = kept_units(one, answerer)
    scores = BM25Okapi([matching.terms(said(one, u)) or [""] for u in units]).get_scores(
        matching.content_terms(one.question)
    )
    return "\n".join(said(one, units[i]) for i in np.argsort(-scores, kind="stable")[:count])


def overlap(asked: list[Case], answerer: ExtractiveAnswerer) -> np.ndarray:
    """Share of the question's terms in the best sentence: the baseline confidence."""
    shares = []
    for one in asked:
        wanted = set(matching.content_terms(one.question))
        units = kept_units(one, answerer)
        best = max(len(wanted & set(matching.terms(said(one, u)))) for u in units)
        shares.append(best / max(len(wanted), 1))
    return np.array(shares)


def f1_of(asked: list[Case], answers: list[Answer], dataset: str) -> list[float]:
    """Token F1 against all gold sentences of a question together."""
    scores = []
    for one, given in zip(asked, answers, strict=True):
        if one.dataset == dataset and one.kind == "answerable":
            gold = set(matching.terms(" ".join(one.answers)))
            mine = set(matching.terms(given.text))
            scores.append(2 * len(gold & mine) / max(len(gold) + len(mine), 1))
    return interval(np.array(scores))


def interval(values: np.ndarray) -> list[float]:
    """Mean, 95 % bootstrap interval, n."""
    if not len(values):
        return [float("nan")] * 3 + [0]
    rng = np.random.default_rng(0)
    means = np.asarray(values, float)[rng.integers(0, len(values), (1000, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return [round(float(v), 3) for v in (np.mean(values), low, high)] + [len(values)]


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    ranks = np.argsort(np.argsort(np.r_[bad, good], kind="stable"), kind="stable")
    total = ranks[len(bad) :].sum() - len(good) * (len(good) - 1) / 2
    values, place, count = np.unique(np.r_[bad, good], return_inverse=True, return_counts=True)
    ties = np.bincount(place[: len(bad)], minlength=len(values)) * np.bincount(
        place[len(bad) :], minlength=len(values)
    )
    del count
    return float((total - ties.sum() / 2) / (len(good) * len(bad)))


def auc_interval(score: np.ndarray, good: np.ndarray, bad: np.ndarray) -> list[float]:
    rng = np.random.default_rng(0)
    a, b = score[good], score[bad]
    draws = [
        auc(a[rng.integers(0, len(a), len(a))], b[rng.integers(0, len(b), len(b))])
        for _ in range(300)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return [round(float(v), 3) for v in (auc(a, b), low, high)] + [len(a), len(b)]


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean gap between confidence and share right over ten equal bins, weighted by size."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).sum()
        for b in set(bins.tolist())
    ]
    return float(sum(gaps) / len(confidence))


def speed(test: list[Case], answerer: ExtractiveAnswerer) -> dict[str, float]:
    """Milliseconds a question over eight passages, nothing remembered."""
    some = [one for one in test if len(one.hits) == K][:40]
    for one in some[:5]:
        answer(answerer, one)
    times = []
    for one in some:
        started = time.perf_counter()
        answer(answerer, one)
        times.append((time.perf_counter() - started) * 1000)
    middle, high = np.percentile(times, [50, 95])
    return {"p50_ms": round(float(middle), 1), "p95_ms": round(float(high), 1), "n": len(some)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--lexical-only", action="store_true")
    parser.add_argument("--questions", type=int, default=400)
    options = parser.parse_args()
    segmenter = segmenters.build("rules")
    ways: list[tuple[str, KeptVectors | None]] = [("lexical", None)]
    if not options.lexical_only:
        ways.append(("embedder", KeptVectors(embedders.build("encoder"))))
    report: dict[str, object] = {"benchmark": "answers", "machine": machine()}
    for name, embedder in ways:
        found = pools(options.data, random.Random(7))
        # With confidence 0 every answer is shown: containment is measured before abstention.
        answerer = ExtractiveAnswerer(segmenter, embedder, threshold=0.0)
        if options.fit:
            train = list(cases(found["train"], embedder, options.questions, random.Random(1)))
            remember(train, answerer, embedder)
            fitted = fit(train, embedder, answerer)
            report[f"fit_{name}"] = fitted
            print(f"{name}: {json.dumps(fitted)}", file=sys.stderr, flush=True)
            weights = evidence.Weights(
                fitted["rank"], fitted["trust"], fitted["bias"], fitted["threshold"]
            )
            setattr(evidence, "VECTOR_WEIGHTS" if embedder else "LEXICAL_WEIGHTS", weights)
        test = list(cases(found["test"], embedder, options.questions, random.Random(2)))
        remember(test, answerer, embedder)
        report[name] = measure(test, answerer, embedder)
        plain = ExtractiveAnswerer(segmenter, embedder.inner if embedder else None)
        report[name] |= speed(test, plain)
        for key, value in report[name].items():
            print(f"{name:9s} {key:32s} {value}", flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
