"""What every situator promises: unit vectors that hang on their forms, forms on what is near."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import chunkers, cut
from chunkwise.rag.situating import Form, Situator, situators
from chunkwise.types import Chunk, Document
from tests.conformance.chunking_cases import counter, documents
from tests.fakes import ReadingEmbedder

NUMBER, FAR, WINDOW = 60, 20, 40
pytestmark = pytest.mark.parametrize("name", situators.own)


def build(name: str, **options: Any) -> Situator:
    return situators.build({"name": name, **options}, embedder=ReadingEmbedder(max_tokens=WINDOW))


def chunks_of(document: Document) -> list[Chunk]:
    chunker = chunkers.build("recursive", size=9, counter=counter("words"))
    return cut(document, chunker.split(document), counter("words"), size=9)


def forms_of(situator: Situator, document: Document) -> list[Form]:
    chunks = chunks_of(document)
    return situator.forms(document, chunks, [chunk.text for chunk in chunks])


def lines(changed: int = -1) -> Document:
    """A document of lines, each a chunk, of which one may have other words."""
    texts = [f"line {n} is of ship {n % 7} and no other" for n in range(NUMBER)]
    if changed >= 0:
        texts[changed] = "here is something else altogether"
    return Document("lines", "\n\n".join(texts))


@settings(deadline=None, max_examples=25)
@given(document=documents())
def test_each_chunk_has_a_form_with_its_text_and_a_unit_vector(
    name: str, document: Document
) -> None:
    situator, chunks = build(name), chunks_of(document)
    forms = forms_of(situator, document)
    assert [form.text for form in forms] == [chunk.text for chunk in chunks]
    assert forms == forms_of(situator, document)
    vectors = situator.embed(forms)
    assert vectors.shape == (len(chunks), situator.embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_vector_depends_on_its_form_alone(name: str) -> None:
    situator, forms = build(name), forms_of(build(name), lines())
    together = situator.embed(forms)
    alone = np.concatenate([situator.embed([form]) for form in forms])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(situator.embed(forms[::-1])[::-1], together, atol=1e-6)


def test_an_edit_changes_the_keys_of_chunks_near_to_it_only(name: str) -> None:
    before, after = (forms_of(build(name), document) for document in (lines(), lines(30)))
    changed = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a.key != b.key]
    assert 30 in changed
    assert all(abs(n - 30) < FAR for n in changed)
    assert (len(changed) > 1) == (name != "none")


def test_text_put_in_far_before_changes_no_key(name: str) -> None:
    before = forms_of(build(name), lines())
    longer = Document("lines", f"A new paragraph begins this document.\n\n{lines().text}")
    after = forms_of(build(name), longer)
    assert [form.key for form in after[-FAR:]] == [form.key for form in before[-FAR:]]


def test_equal_chunks_in_equal_surroundings_share_a_key(name: str) -> None:
    one, other = lines(), Document("another", lines().text)
    assert forms_of(build(name), one) == forms_of(build(name), other)


def test_a_chunk_with_nothing_around_has_the_plain_vector(name: str) -> None:
    situator = build(name)
    (form,) = forms_of(situator, Document("one", "\n A single chunk is here. \n"))
    assert form == Form("A single chunk is here.")
    assert np.array_equal(situator.embed([form]), situator.embedder.embed([form.text]))


def test_equal_texts_are_embedded_once(name: str) -> None:
    situator = build(name)
    embedder: Any = situator.embedder
    situator.embed(forms_of(situator, lines()))
    assert embedder.count <= NUMBER


def test_no_forms_have_no_vectors(name: str) -> None:
    assert build(name).embed([]).shape == (0, 32)


def test_options_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match="has no option 'windw'"):
        build(name, windw=3)
