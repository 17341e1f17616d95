"""Random tokens under a mask always follow the schema, the expression or the grammar."""

import functools
import json
import re
import sys
from typing import Any

import numpy as np
import pytest
import torch

from chunkwise.errors import MissingDependencyError, RequestError
from chunkwise.llm.sampling import Sampler
from chunkwise.llm.sequence import Request, Sequence, TokenSegment
from chunkwise.llm.structured import Grammar
from chunkwise.types import SamplingParams
from tests.llm import small_tokenizers

pytest.importorskip("llguidance")

PADDED = 400
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "bé", "😀"]}, "maxItems": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
SUM = """
start: term ("+" term)*
term: NUMBER | "(" start ")"
NUMBER: /[0-9]{1,3}/
"""


@functools.cache
def byte_level() -> tuple[Any, Grammar]:
    tokenizer = small_tokenizers.byte_level()
    size, eos = tokenizer.get_vocab_size(), tokenizer.token_to_id("</s>")
    return tokenizer, Grammar(tokenizer.to_str(), vocab_size=size, eos_token_ids=[eos])


@functools.cache
def sentence_piece() -> tuple[Any, Grammar]:
    tokenizer = small_tokenizers.sentence_piece()
    size = tokenizer.get_vocab_size()
    return tokenizer, Grammar(tokenizer.to_str(), vocab_size=size, eos_token_ids=[2])


def sequence_of(index: int = 0, **how: Any) -> Sequence:
    request = Request("r", (TokenSegment((5, 6)),), SamplingParams(**how))
    return Sequence(request, index, request.prompt_ids, 2, np.empty(0, np.int32), None)


def complete(make: Any, *, seed: int = 0, max_tokens: int = 600, **how: Any) -> tuple[str, bool]:
    """A completion of random logits, as an engine makes one; and whether it ended by itself."""
    tokenizer, grammar = make()
    sequence = sequence_of(temperature=1.0, seed=seed, **how)
    grammar.check(sequence.request.sampling)
    sampler = Sampler(grammar.vocab_size, grammar=grammar)
    generator = torch.Generator().manual_seed(seed)
    (eos,) = grammar.eos_token_ids
    for _ in range(max_tokens):
        logits = torch.randn(1, PADDED, generator=generator) * 3
        (sampled,) = sampler.sample(logits, [sequence])
        assert not sampled.error, sampled.error
        if sampled.token_id == eos:
            return tokenizer.decode(sequence.completion.tolist()), True
        sequence.append(sampled.token_id)
    return tokenizer.decode(sequence.completion.tolist()), False


both = pytest.mark.parametrize("make", [byte_level, sentence_piece])


@both
@pytest.mark.parametrize("seed", range(8))
def test_random_logits_give_json_of_the_schema(make: Any, seed: int) -> None:
    text, ended = complete(make, json_schema=SCHEMA, seed=seed)
    assert ended
    value = json.loads(text)
    assert {"name", "age"} <= set(value) <= {"name", "age", "tags"}
    assert isinstance(value["name"], str)
    assert len(value["name"]) <= 12
    assert type(value["age"]) is int
    assert 0 <= value["age"] <= 150
    assert set(value.get("tags", [])) <= {"a", "bé", "😀"}
    assert len(value.get("tags", [])) <= 3


@both
@pytest.mark.parametrize(
    "regex",
    [r"[a-c]{2,5}-[0-9]{1,4}(/x)?", r"(yes|no|maybe) é?", r"東京+😀", r"(?i)fox", r"a|", r"^ab$"],
)
def test_random_logits_match_the_whole_expression(make: Any, regex: str) -> None:
    for seed in range(5):
        text, ended = complete(make, regex=regex, seed=seed)
        assert ended
        assert re.fullmatch(regex, text), text


@both
def test_random_logits_follow_the_grammar(make: Any) -> None:
    ends = 0
    for seed in range(10):
        text, ended = complete(make, grammar=SUM, seed=seed, max_tokens=120)
        ends += ended
        if ended:  # innermost brackets first, each becomes a number
            while "(" in text:
                text, replaced = re.subn(r"\([0-9]{1,3}(\+[0-9]{1,3})*\)", "1", text)
                assert replaced, text
            assert re.fullmatch(r"[0-9]{1,3}(\+[0-9]{1,3})*", text)
    assert ends > 3


@pytest.mark.parametrize("schema", ["true", " {} "])
def test_a_schema_without_limits_gives_any_json(schema: str) -> None:
    texts = [
        complete(byte_level, json_schema=schema, seed=seed, max_tokens=200) for seed in range(6)
    ]
    assert any(ended for _, ended in texts)
    for text, ended in texts:
        if ended:
            json.loads(text)


@pytest.mark.parametrize("max_tokens", [1, 3, 9, 20])
def test_a_cut_completion_can_still_be_continued(max_tokens: int) -> None:
    cut, ended = complete(byte_level, json_schema=SCHEMA, seed=3, max_tokens=max_tokens)
    whole, _ = complete(byte_level, json_schema=SCHEMA, seed=3)
    assert not ended
    assert whole.startswith(cut.rstrip("\ufffd"))
    assert len(cut) >= max_tokens - 3


def test_when_the_text_is_complete_only_the_end_is_allowed() -> None:
    tokenizer, grammar = byte_level()
    sequence = sequence_of(regex="abc?")
    for letter, allowed in (("a", "b"), ("b", "c</s>"), ("c", "</s>")):
        assert not grammar.is_complete(sequence)
        sequence.append(tokenizer.token_to_id(letter))
        mask = grammar.mask(sequence)
        assert mask.shape == (tokenizer.get_vocab_size(),)
        assert "".join(sorted(tokenizer.id_to_token(i) for i in np.flatnonzero(mask))) in (
            allowed,
            "".join(sorted(["</s>", "c"])),
        )
    assert grammar.is_complete(sequence)
    sequence.append(tokenizer.token_to_id("</s>"))
    assert grammar.is_complete(sequence)


def test_completions_of_one_request_have_matchers_of_their_own() -> None:
    tokenizer, grammar = byte_level()
    first, second = sequence_of(0, regex="ab|cd"), sequence_of(1, regex="ab|cd")
    first.append(tokenizer.token_to_id("a"))
    assert np.flatnonzero(grammar.mask(first)).tolist() == [tokenizer.token_to_id("b")]
    assert grammar.mask(second)[[tokenizer.token_to_id("a"), tokenizer.token_to_id("c")]].all()
    second.append(tokenizer.token_to_id("c"))
    assert np.flatnonzero(grammar.mask(second)).tolist() == [tokenizer.token_to_id("d")]


def test_a_mask_follows_tokens_appended_without_asking_for_masks() -> None:
    tokenizer, grammar = byte_level()
    sequence = sequence_of(regex="(fox )+dog")
    for token in tokenizer.encode("fox fox fox d").ids:
        sequence.append(token)
    (only,) = [tokenizer.id_to_token(i) for i in np.flatnonzero(grammar.mask(sequence))][:1]
    assert only[0] == "o"


def test_rows_without_structure_are_sampled_beside_those_with() -> None:
    tokenizer, grammar = byte_level()
    size = grammar.vocab_size
    logits = torch.randn(3, size, generator=torch.Generator().manual_seed(1))
    free, bound = sequence_of(), sequence_of(regex="[xy]", logprobs=0)
    sampled = Sampler(size, grammar=grammar).sample(logits, [free, bound, sequence_of()])
    assert sampled[0].token_id == int(logits[0].argmax())
    assert sampled[2].token_id == int(logits[2].argmax())
    assert tokenizer.id_to_token(sampled[1].token_id) in "xy"
    assert sampled[1].logprob == pytest.approx(
        float(logits[1].log_softmax(-1)[sampled[1].token_id]), abs=1e-5
    )


def test_a_row_whose_allowed_tokens_have_no_weight_is_an_error_of_its_own() -> None:
    tokenizer, grammar = byte_level()
    size = grammar.vocab_size
    logits = torch.zeros(2, size)
    logits[:, tokenizer.token_to_id("x")] = -torch.inf
    sampled = Sampler(size, grammar=grammar).sample(logits, [sequence_of(regex="x"), sequence_of()])
    assert sampled[0].token_id == -1
    assert "`regex`" in sampled[0].error
    assert sampled[1].token_id == 0


def test_a_completion_that_left_the_grammar_is_an_error_of_its_own() -> None:
    tokenizer, grammar = byte_level()
    sequence = sequence_of(regex="x+")
    sequence.append(tokenizer.token_to_id("y"))
    logits = torch.zeros(2, grammar.vocab_size)
    sampled = Sampler(grammar.vocab_size, grammar=grammar).sample(logits, [sequence, sequence_of()])
    assert "`regex` cannot be followed" in sampled[0].error
    assert "state" not in sampled[0].error
    assert not sampled[1].error


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"json_schema": '{"type": "object",'}, "json_schema"),
        ({"json_schema": '{"type": "objekt"}'}, "objekt"),
        ({"json_schema": "[1]"}, "object schema"),
        ({"json_schema": '{"$ref": "http://example.com/x"}'}, "http://example.com/x"),
        ({"json_schema": '{"type": "string", "minLength": 5, "maxLength": 2}'}, "minLength"),
        ({"regex": "(["}, "unclosed"),
        ({"regex": "(?=a)b"}, "look"),
        ({"grammar": "start: foo"}, "foo"),
        ({"grammar": "rubbish"}, "rubbish"),
        ({"grammar": "x" * 5000}, "..."),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(how: dict[str, str], said: str) -> None:
    _, grammar = byte_level()
    ((kind, _),) = how.items()
    with pytest.raises(RequestError, match=f"`{kind}` cannot be used: ") as refused:
        grammar.check(SamplingParams(**how))
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1500


def test_no_structure_needs_no_llguidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    grammar = Grammar("{}", vocab_size=4, eos_token_ids=[0])
    grammar.check(SamplingParams())
    with pytest.raises(MissingDependencyError, match=r'pip install "chunkwise\[llm\]"'):
        grammar.check(SamplingParams(regex="a"))


def test_blanks_between_parts_of_json_are_limited() -> None:
    tokenizer, grammar = byte_level()
    sequence = sequence_of(json_schema='{"type": "array", "items": {"type": "integer"}}')
    sequence.append(tokenizer.token_to_id("["))
    blank = tokenizer.token_to_id(small_tokenizers.byte_letter(32))
    for _ in range(32):
        assert grammar.mask(sequence)[blank]
        sequence.append(blank)
    assert not grammar.mask(sequence)[blank]
    assert grammar.mask(sequence)[tokenizer.token_to_id("1")]


@pytest.mark.parametrize(
    ("text", "size", "ends"), [("{}", 4, [0]), (None, 12, [1]), (None, 330, [9999])]
)
def test_a_tokenizer_that_cannot_be_used_is_said(text: str, size: int, ends: list[int]) -> None:
    source = text or small_tokenizers.byte_level().to_str()
    grammar = Grammar(source, vocab_size=size, eos_token_ids=ends)
    grammar.check(SamplingParams())
    with pytest.raises(RequestError, match="cannot be used with this tokenizer"):
        grammar.check(SamplingParams(regex="a"))


def test_the_sampler_checks_ranges_and_structure() -> None:
    _, grammar = byte_level()
    with pytest.raises(RequestError, match="`regex` needs a tokenizer"):
        Sampler(10).check(SamplingParams(regex="a"))
    with pytest.raises(RequestError, match="unclosed"):
        Sampler(10, grammar=grammar).check(SamplingParams(regex="(["))
    with pytest.raises(RequestError, match="`top_p`"):
        Sampler(10).check(SamplingParams(top_p=2.0))
    Sampler(10, grammar=grammar).check(SamplingParams(regex="a"))
