"""What is embedded for chunks: as before by default, and otherwise as the settings say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkwise
from chunkwise import config
from chunkwise.errors import ChunkwiseError
from chunkwise.pipeline.forms import Forms
from chunkwise.pipeline.parts import Parts
from chunkwise.rag.chunking import cut
from chunkwise.rag.counting import named_counter
from chunkwise.rag.parsing.base import parse
from chunkwise.rag.situating import situators
from chunkwise.store import Store
from chunkwise.types import content_id
from tests.fakes import HashingEmbedder, ReadingEmbedder
from tests.pipeline.folders import RECIPE, CountingEmbedder, age, make_ingest
from tests.rag.chunking.sections import write_near_model

SAMPLE = Path(__file__).parents[2] / "samples" / "crew-handbook.md"


def parts(**settings: Any) -> Parts:
    given = {"embedder": "hashing", "counter": "words", **settings}
    return Parts(config.load(environ={}, arguments=given).settings)


@pytest.mark.parametrize(
    ("context_tokens", "expected"),
    [(8, "6da68cb5ff6ce70740741e57a1322807"), (32, "6632a393388f152c47b75da4a69f443f")],
)
def test_keys_are_by_default_what_they_were_before_there_was_a_choice(
    context_tokens: int, expected: str
) -> None:
    made = parts(size=60, context_tokens=context_tokens)
    document = parse(SAMPLE.read_bytes(), name=SAMPLE.name)
    chunks = cut(document, made.chunker.split(document), made.counter, size=60)
    keys = [form.key for form in made.forms.of(document, chunks)]
    assert content_id("\n".join(keys)) == expected
    assert made.recipe()["embed"] == f"hashing-1-d384 context={context_tokens}"


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ({"enrich": [{"name": "headings"}]}, {}),
        ({"enrich": ["headings", {"name": "keywords"}]}, {"enrich": "headings,keywords"}),
        ({"situate": {"name": "none"}}, {}),
        ({"chunker": {"name": "fixed"}}, {"chunker": "fixed"}),
    ],
)
def test_a_name_without_options_is_the_same_recipe(
    long: dict[str, Any], short: dict[str, Any]
) -> None:
    assert parts(**long).recipe() == parts(**short).recipe()


def test_where_a_model_lies_is_not_in_the_recipe(tmp_path: Path) -> None:
    def recipe(folder: Path, **options: Any) -> dict[str, str]:
        trained = {"name": "trained", "model_folder": str(folder), **options}
        settings = config.load(environ={}, arguments={"chunker": trained, "counter": "words"})
        made = Parts(settings.settings)
        made.__dict__["embedder"] = HashingEmbedder()
        return made.recipe()

    first = Path(write_near_model(tmp_path / "first"))
    shutil.copytree(first, tmp_path / "second")
    assert recipe(first) == recipe(tmp_path / "second")
    assert recipe(first) != recipe(first, threshold=0.4)
    other = Path(write_near_model(tmp_path / "other", threshold=0.5))
    assert recipe(first) != recipe(other)


def test_no_context_is_the_text_alone() -> None:
    made, document = parts(size=60, enrich="none"), parse(SAMPLE.read_bytes(), name=SAMPLE.name)
    chunks = cut(document, made.chunker.split(document), made.counter, size=60)
    assert [form.key for form in made.forms.of(document, chunks)] == [c.id for c in chunks]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"enrich": "headngs"}, "has no 'headngs'. Did you mean 'headings'"),
        ({"enrich": "headings, headings"}, "`enrich` names 'headings' twice"),
        ({"enrich": {"name": "keywords", "mst": 3}}, "'keywords' has no option 'mst'"),
        ({"enrich": ["headings", 3]}, "`enrich` must be text, got 3"),
        ({"enrich": {"name": "questions", "write": True}}, "No language model is set"),
        ({"situate": "lte"}, "has no 'lte'. Did you mean 'late'"),
        ({"situate": "late"}, "`late` needs an embedder"),
        ({"situate": {"name": "situated", "gain": -1}}, "`gain` must be at least 0"),
    ],
)
def test_a_bad_setting_is_named_before_anything_is_stored(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(ChunkwiseError, match=message),
        chunkwise.open(tmp_path / "c", embedder="hashing", **settings) as corpus,
    ):
        corpus.add(SAMPLE)
    assert not Store.exists(tmp_path / "c")


def test_settings_are_in_the_recipe_and_change_what_is_embedded(tmp_path: Path) -> None:
    with chunkwise.open(tmp_path / "c", embedder="hashing", size=60) as corpus:
        corpus.add(SAMPLE)
        count = corpus.stats().vectors
        assert corpus.parts.recipe()["embed"].endswith("context=32")
    with chunkwise.open(tmp_path / "c", enrich=["headings", {"name": "keywords"}]) as corpus:
        assert '["headings", "keywords"]' in corpus.parts.recipe()["embed"]
        assert corpus.embed() == count
        assert corpus.embed() == 0
    with chunkwise.open(tmp_path / "c") as corpus:
        assert corpus.settings.enrich == ["headings", {"name": "keywords"}]
        chunks = corpus.store.chunks(corpus.documents()[0].name)
        said = corpus.enrichments(str(SAMPLE))
        assert len(said) == len(chunks)
        assert all(each["keywords"] for each in said)
        assert corpus.check() == []


def test_the_packaged_model_tells_what_a_chunk_leans_on() -> None:
    made = parts(size=40, enrich=["completion"])
    document = parse(SAMPLE.read_bytes(), name=SAMPLE.name)
    chunks = cut(document, made.chunker.split(document), made.counter, size=40)[:8]
    said = [each.get("completion", ()) for each in made.forms.enrichments(document, chunks)]
    assert any(said)
    for chunk, sentences in zip(chunks, said, strict=True):
        assert all(each in document.text[: chunk.span.start] for each in sentences)
    assert made.foreseer.fingerprint in made.recipe()["embed"]


def test_a_corpus_made_before_the_settings_were_there_stays_as_it_is(tmp_path: Path) -> None:
    with chunkwise.open(tmp_path / "c", embedder="hashing", size=60) as corpus:
        corpus.add(SAMPLE)
        recipe = json.loads(corpus.store.setting("recipe") or "")
        with corpus.store.writing():
            old = {k: v for k, v in recipe.items() if k not in ("enrich", "situate")}
            corpus.store.put_setting("recipe", json.dumps(old))
    with chunkwise.open(tmp_path / "c") as corpus:
        report = corpus.add(SAMPLE)
        assert (report.embedded, report.unchanged) == (0, 1)
        assert corpus.embed() == 0


def paragraphs(changed: int = -1) -> str:
    texts = [f"Paragraph {n} is of ship {n % 7} that sails." for n in range(60)]
    if changed >= 0:
        texts[changed] = "Here is something else altogether, of crews."
    return "\n\n".join(texts)


@pytest.mark.parametrize("name", ["late", "situated"])
def test_a_far_edit_leaves_vectors_bit_for_bit_and_a_near_one_makes_them_anew(
    name: str, tmp_path: Path
) -> None:
    embedder = ReadingEmbedder(max_tokens=40)
    counter = named_counter("words")
    forms = Forms(counter, {}, situators.build(name, embedder=embedder))
    (tmp_path / "docs").mkdir()
    with Store.open(tmp_path / "corpus", create=True) as store:

        def run(text: str) -> tuple[int, dict[str, bytes]]:
            (tmp_path / "docs/a.txt").write_text(text)
            age(tmp_path / "docs")
            ingest = make_ingest(store, tmp_path, embedder=embedder, forms=forms)
            ingest.chunker = parts(size=9).chunker
            report = ingest.run([tmp_path / "docs"])
            return report.embedded, vectors(store, embedder.fingerprint)

        first, before = run(paragraphs())
        again, after = run(paragraphs(30))
        assert store.check() == []
    assert first == len(before) >= 60
    same = {key for key in before if after.get(key) == before[key]}
    assert 1 < again < 30
    assert len(same) == len(after) - again


def vectors(store: Store, fingerprint: str) -> dict[str, bytes]:
    """Bytes of the vectors in use, by the key of their form."""
    keys = dict(store._connection.execute("SELECT id, hex(key) FROM form").fetchall())
    found = {}
    for matrix in store.matrices(fingerprint):
        rows = range(len(matrix.array))
        for row, _, form in store.owners(matrix.segment, rows):
            found[keys[form]] = np.asarray(matrix.array[row]).tobytes()
    return found


def test_forms_that_are_known_are_not_embedded_again(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.txt").write_text(paragraphs())
    (tmp_path / "docs/b.txt").write_text(paragraphs())
    embedder: Any = CountingEmbedder(dim=32)
    situator = situators.build({"name": "situated", "neighbours": 4}, embedder=embedder)
    forms = Forms(named_counter("words"), {}, situator)
    with Store.open(tmp_path / "corpus", create=True) as store:
        ingest = make_ingest(store, tmp_path, embedder=embedder, forms=forms)
        report = ingest.run([tmp_path / "docs"])
        assert report.embedded == embedder.count == store.stats().contents
        other = make_ingest(store, tmp_path, embedder=embedder, recipe={**RECIPE, "embed": "2"})
        assert other.embed_missing() == store.stats().contents
        assert store.check() == []
