"""Algorithms are found by file name and built from options; mistakes are named."""

import pytest

from chunkwise.errors import ConfigError, UnknownNameError
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter


def test_an_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(UnknownNameError, match=r"no 'recursiv'. Did you mean 'recursive'\?.*fixed"):
        chunkers.load("recursiv")


def test_an_unknown_option_suggests_the_nearest() -> None:
    counter = named_counter("words")
    with pytest.raises(ConfigError, match=r"'fixed' has no option 'sise'. Did you mean 'size'\?"):
        chunkers.build({"name": "fixed", "sise": 3}, counter=counter)


def test_a_spec_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no `name`"):
        chunkers.build({"size": 3})


def test_given_options_win_over_offered_parts() -> None:
    built = chunkers.build({"name": "fixed", "size": 7}, size=9, counter=named_counter("words"))
    assert built.size == 7


def test_listing_names_imports_nothing() -> None:
    assert "recursive" in chunkers.own
    assert "base" not in chunkers.own
