"""Commands that ask: search, ask, chat."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

from chunkwise.cli.app import (
    DEFAULT_CORPUS,
    CorpusOption,
    JsonOption,
    MetaOption,
    PathOption,
    SetOption,
    app,
    err,
    metadata,
    open_with,
    out,
    print_json,
)
from chunkwise.pipeline.corpus import Corpus
from chunkwise.types import Answer, Citation, Hit

RetrieverOption = Annotated[str | None, typer.Option(help="How chunks are found.")]
RerankerOption = Annotated[str | None, typer.Option(help="What scores the hits again.")]
AnswererOption = Annotated[str | None, typer.Option(help="What answers.")]
ModelOption = Annotated[
    str | None,
    typer.Option(help="Folder of a language model; with --base-url, its name on the server."),
]
ExactOption = Annotated[
    bool, typer.Option("--exact", help="Read all passages anew; nothing approximate is used.")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="OpenAI-compatible server, up to /v1.")
]


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Most hits.")] = 10,
    corpus: CorpusOption = DEFAULT_CORPUS,
    path: PathOption = None,
    meta: MetaOption = None,
    retriever: RetrieverOption = None,
    reranker: RerankerOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the chunks that fit best."""
    with open_with(corpus, sets, retriever=retriever, reranker=reranker) as opened:
        hits = opened.search(question, k, paths=path or (), metadata=metadata(meta))
    if as_json:
        print_json({"hits": [hit_dict(hit) for hit in hits]})
        return
    for rank, hit in enumerate(hits, 1):
        place = _place(hit.document, hit.chunk.pages[0] if hit.chunk.pages else None)
        copies = f", {len(hit.copies)} copies" if hit.copies else ""
        span = f"{hit.chunk.span.start}-{hit.chunk.span.end}"
        out().print(
            f"[bold]{rank}. {escape(place)}[/bold] [dim]{span}, {hit.score:.4f}{copies}[/dim]"
        )
        out().print(escape(_shortened(hit.chunk.text)) + "\n")
    if not hits:
        out().print("Nothing found.")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    path: PathOption = None,
    meta: MetaOption = None,
    answerer: AnswererOption = None,
    retriever: RetrieverOption = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    threshold: Annotated[
        float | None, typer.Option(help="Confidence below which nothing is found.")
    ] = None,
    exact: ExactOption = False,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question, with the places it rests on."""
    flags = {"answerer": answerer, "retriever": retriever, "model": model, "base_url": base_url}
    flags["reuse"] = "" if exact else None
    with open_with(corpus, sets, threshold=threshold, **flags) as opened:
        filters: dict[str, Any] = {"paths": path or (), "metadata": metadata(meta)}
        if as_json:
            print_json(answer_dict(opened.ask(question, **filters)))
            return
        show_answer(opened, question, **filters)


@app.command()
def chat(
    corpus: CorpusOption = DEFAULT_CORPUS,
    path: PathOption = None,
    meta: MetaOption = None,
    answerer: AnswererOption = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    exact: ExactOption = False,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask one question after the other; Ctrl-C stops an answer, Ctrl-D ends."""
    flags = {"answerer": answerer, "model": model, "base_url": base_url}
    flags["reuse"] = "" if exact else None
    history: list[tuple[str, str]] = []
    with open_with(corpus, sets, **flags) as opened:
        filters: dict[str, Any] = {"paths": path or (), "metadata": metadata(meta)}
        opened.stats()  # a corpus that is not there is said before the first question
        for question in _questions(opened, silent=as_json):
            tell = _told if as_json else _answered
            if (answer := tell(opened, question, history=history, **filters)) is not None:
                history.append((question, answer.text))


def show_answer(corpus: Corpus, question: str, **options: Any) -> Answer:
    """Stream the answer to standard output, then its sources; returns it."""
    final, shown = None, ""
    for piece in corpus.stream(question, **options):
        if isinstance(piece, Answer):
            final = piece
        else:
            shown += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
    assert final is not None, "an answerer ended without an answer"
    if final.text != shown:
        sys.stdout.write(("\n\n" if shown else "") + final.text)
    sys.stdout.write("\n\n")
    for number, citation in enumerate(final.citations, 1):
        out().print(f"[bold]\\[{number}] {escape(_where(citation))}[/bold]")
        out().print(f"    [dim]{escape(_shortened(citation.text, 300))}[/dim]")
    confidence = "" if final.confidence is None else f"confidence {final.confidence:.2f}, "
    times = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in final.timings_ms.items())
    out().print(f"\n[dim]{confidence}{times}[/dim]")
    if reuse := final.fidelity.get("reuse"):
        out().print(f"approximate ({escape(reuse)})", style="dim")
    if dropped := final.usage.get("dropped_citations"):
        err().print(f"[yellow]{dropped} citations were not supported and were dropped.[/yellow]")
    return final


def hit_dict(hit: Hit) -> dict[str, Any]:
    """A hit as JSON shows it."""
    return {
        "id": hit.chunk.id,
        "score": hit.score,
        "document": hit.document,
        "start": hit.chunk.span.start,
        "end": hit.chunk.span.end,
        "text": hit.chunk.text,
        "page": hit.chunk.pages[0] if hit.chunk.pages else None,
        "tokens": hit.chunk.tokens,
        "headings": list(hit.chunk.headings),
        "scores": dict(hit.scores),
        "copies": [
            {"document": name, "start": span.start, "end": span.end} for name, span in hit.copies
        ],
    }


def answer_dict(answer: Answer) -> dict[str, Any]:
    """An answer as JSON shows it."""
    return {
        "text": answer.text,
        "citations": [dataclasses.asdict(citation) for citation in answer.citations],
        "found": answer.found,
        "confidence": answer.confidence,
        "usage": dict(answer.usage),
        "fidelity": dict(answer.fidelity),
        "timings_ms": dict(answer.timings_ms),
    }


def _told(corpus: Corpus, question: str, **options: Any) -> Answer:
    """The answer, printed as a line of JSON."""
    *_, answer = corpus.stream(question, **options)
    assert isinstance(answer, Answer), "an answerer ended without an answer"
    print_json({"question": question, **answer_dict(answer)})
    return answer


def _answered(corpus: Corpus, question: str, **options: Any) -> Answer | None:
    """The answer, or None if someone at a terminal stopped it and may ask on."""
    try:
        return show_answer(corpus, question, **options)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        out().print("\n[yellow]Stopped.[/yellow] Ctrl-D ends the chat.")
        return None


def _questions(corpus: Corpus, *, silent: bool) -> Iterator[str]:
    """Lines of standard input; blank ones are passed over. A local model reads on meanwhile."""
    is_shown = not silent and sys.stdin.isatty()
    while True:
        try:
            with corpus.idle as idle:
                line = input("\n> " if is_shown else "").strip()
        except EOFError:
            return
        if is_shown and (read := idle.progress) is not None and read.done < read.total:
            out().print(f"{read.done} of {read.total} passages are read.", style="dim")
        if line:
            yield line


def _place(document: str, page: int | None) -> str:
    return document if page is None else f"{document}, page {page}"


def _where(citation: Citation) -> str:
    return f"{_place(citation.document, citation.page)}, {citation.start}-{citation.end}"


def _shortened(text: str, most: int = 500) -> str:
    text = " ".join(text.split()) if "\n" not in text else text
    return text if len(text) <= most else text[: most - 1] + "…"
