"""Prompts of all kinds to tokens, piece by piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from chunkwise.errors import RequestError
from chunkwise.llm.inputs import AnyPrompt, check_prompt, check_text, checked_ids
from chunkwise.llm.models.chat import ChatTemplate, prompt_segments
from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import Prompt


@dataclass(frozen=True, slots=True)
class PromptEncoder:
    """Encodes prompts for one model.

    Attributes:
        tokenizer: The model's.
        template: Its chat template.
        vocab_size: Token ids are below it.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    vocab_size: int

    def segments(self, prompt: AnyPrompt) -> tuple[TokenSegment, ...]:
        """A prompt in tokens; the segments of a `Prompt` keep their content ids.

        Raises:
            RequestError: It is no prompt, or holds what is no token of the model.
        """
        if isinstance(prompt, Prompt):
            check_prompt(prompt)
            return prompt_segments(prompt, self.tokenizer, self.template)
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt, special=True, add_bos=True)
            return (TokenSegment(tuple(ids)),)
        return (TokenSegment(checked_ids(prompt, self.vocab_size)),)

    def prefix(self, prefix: str | Prompt) -> tuple[TokenSegment, ...]:
        """What stands before a scored text: at least one token, and no text read as control.

        Raises:
            RequestError: It is neither text nor a prompt, or empty for a model without a token to
                begin with.
        """
        if isinstance(prefix, Prompt):
            return self.segments(prefix)
        check_text("prefix", prefix)
        if ids := self.tokenizer.encode(prefix, add_bos=True):
            return (TokenSegment(tuple(ids)),)
        start = self.tokenizer.bos_token_id
        start = self.tokenizer.eos_token_id if start is None else start
        if start is None:
            raise RequestError("An empty prefix needs a model with a first or an end token.")
        return (TokenSegment((start,)),)


def before_chunks(segments: Iterable[TokenSegment]) -> tuple[int, ...]:
    """The tokens of a prompt up to its first chunk."""
    before = itertools.takewhile(lambda segment: segment.content_id is None, segments)
    return tuple(itertools.chain(*(segment.token_ids for segment in before)))
