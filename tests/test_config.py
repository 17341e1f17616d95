"""Settings: order of sources, unknown keys, bad values, `auto`."""

from pathlib import Path

import pytest

from chunkwise import config
from chunkwise.errors import ConfigError


def load(**kwargs: object) -> config.Resolved:
    return config.load(environ={}, **kwargs)  # type: ignore[arg-type]


def test_order_is_default_corpus_file_environment_argument(tmp_path: Path) -> None:
    (tmp_path / config.FILE_NAME).write_text("size = 120\noverlap = 10\n")
    loaded = config.load(
        tmp_path,
        recipe={"size": 110, "counter": "words", "chunker": "fixed"},
        environ={"CHUNKWISE_OVERLAP": "20", "CHUNKWISE_PASSAGES": "3"},
        arguments={"passages": 4},
    )
    s = loaded.settings
    assert (s.size, s.overlap, s.counter, s.chunker, s.passages) == (120, 20, "words", "fixed", 4)
    assert loaded.sources["size"].endswith(config.FILE_NAME)
    assert loaded.sources["overlap"] == "CHUNKWISE_OVERLAP"
    assert loaded.sources["counter"] == "corpus"
    assert loaded.sources["passages"] == "argument"
    assert loaded.sources["workers"] == "default"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"CHUNKWISE_SIZE": "20k"}, "CHUNKWISE_SIZE: `size` must be a whole number, got '20k'"),
        ({"CHUNKWISE_SISE": "20"}, "there is no setting 'sise'. Did you mean 'size'"),
        ({"CHUNKWISE_SIZE": "0"}, "`size` must be at least 1, got 0"),
        ({"CHUNKWISE_OVERLAP": "200"}, r"`overlap` must be in \[0, size=140\), got 200"),
        ({"CHUNKWISE_CHUNKER": "{oops"}, "is not JSON"),
        ({"CHUNKWISE_ENRICH": '["headings", 3]'}, "CHUNKWISE_ENRICH: `enrich` must be text, got 3"),
        ({"CHUNKWISE_KERNELS": "fast"}, "CHUNKWISE_KERNELS: `kernels` must be one of auto, cpu"),
        ({"CHUNKWISE_DTYPE": "float8"}, "`dtype` must be one of auto, bfloat16, float32"),
        ({"CHUNKWISE_QUANTIZE": "int5"}, "Did you mean 'int8'"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(environ=environ)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / config.FILE_NAME).write_text("size = \n")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        load(corpus=tmp_path)
    (tmp_path / config.FILE_NAME).write_text('size = "big"\n')
    with pytest.raises(ConfigError, match="`size` must be a whole number, got 'big'"):
        load(corpus=tmp_path)


def test_a_spec_with_options_comes_from_toml_and_environment(tmp_path: Path) -> None:
    (tmp_path / config.FILE_NAME).write_text('chunker = {name = "semantic", percentile = 80}\n')
    assert load(corpus=tmp_path).settings.chunker == {"name": "semantic", "percentile": 80}
    spec = config.load(environ={"CHUNKWISE_CHUNKER": '{"name": "fixed"}'}).settings.chunker
    assert spec == {"name": "fixed"}


def test_several_algorithms_come_as_text_as_a_list_and_with_options(tmp_path: Path) -> None:
    (tmp_path / config.FILE_NAME).write_text('enrich = ["headings", {name = "keywords"}]\n')
    listed = ["headings", {"name": "keywords"}]
    assert load(corpus=tmp_path).settings.enrich == listed
    for value, found in (
        ("headings, keywords", ["headings", "keywords"]),
        ({"name": "keywords"}, [{"name": "keywords"}]),
        (listed, listed),
        ("none", []),
        ("", []),
        ([], []),
    ):
        assert config.specs_of(value, "enrich") == found  # type: ignore[arg-type]


def test_auto_is_resolved_once_with_a_reason() -> None:
    resolved = load(arguments={"embedder": "hashing"})
    assert resolved.settings.retriever == "bm25"
    assert resolved.reasons["retriever"] == "the embedder is weak"
    assert "auto" not in {resolved.settings.answerer, resolved.settings.retriever}
    remote = load(arguments={"base_url": "http://localhost:1/v1", "model": "m"})
    assert remote.settings.answerer == "generative"


def test_none_arguments_are_left_out() -> None:
    assert load(arguments={"size": None}).settings.size == 140
