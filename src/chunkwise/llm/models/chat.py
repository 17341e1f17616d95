"""Chat templates: a `Prompt` of segments to tokens, each segment tokenised alone.

The template is rendered over stand-ins for the texts and cut at them, so that a chunk has the same
tokens in every prompt and its content id is kept. Templates come with models that others made:
they run in jinja2's immutable sandbox, and texts never pass through them.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chunkwise.errors import ModelFormatError, RequestError
from chunkwise.llm.models.base import read_json
from chunkwise.llm.models.tokenizer import SETTINGS, Tokenizer
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import Prompt, Segment

logger = logging.getLogger(__name__)

Message = Mapping[str, Any]

PLAIN = (
    "{% for message in messages %}{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{% if message['role'] != 'system' %}{{ message['role'] | capitalize + ': ' }}{% endif %}"
    "{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
"""The format for models without a template: plain text, a paragraph per message."""

_PRIVATE_USE = range(0xE000, 0xF900)


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: jinja2 text.
        special: Texts of special tokens by name (`bos_token`, `eos_token` ...).
        options: Further variables of the template, such as `enable_thinking`.
        is_plain: Whether it stands in for a template that the model lacks.

    Raises:
        ModelFormatError: The template is no jinja2.
    """

    def __init__(
        self,
        source: str,
        *,
        special: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        is_plain: bool = False,
    ) -> None:
        self.source, self.is_plain = source, is_plain
        self._variables = {**(special or {}), **(options or {})}
        self._folds_system = False
        try:
            self._template = _environment().from_string(source)
        except TemplateError as exc:
            raise ModelFormatError(f"The chat template cannot be read: {exc}") from exc

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        name: str = "default",
        special: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ChatTemplate:
        """The template of a Hugging Face folder; a plain format, logged, where there is none.

        Args:
            path: The folder.
            name: Which one, where there are several.
            special: See the class.
            options: See the class.

        Raises:
            ModelFormatError: No template of that name, or one that is no jinja2.
        """
        source = _find(Path(path), name)
        if source is None:
            logger.info("%s has no chat template: a plain format is used", path)
            return cls(PLAIN, special=special, options=options, is_plain=True)
        return cls(source, special=special, options=options)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the model was trained to see it.

        Raises:
            RequestError: The template refuses these messages.
        """
        try:
            return self._template.render(
                **{"tools": None, "documents": None, **self._variables},
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
            )
        except Exception as exc:  # `raise_exception`, the sandbox, or an error of the template
            raise RequestError(
                f"The chat template refuses these messages: {str(exc) or repr(exc)}"
            ) from exc

    def cut(self, segments: Sequence[Segment]) -> list[str]:
        """The template's own texts before, between and behind the texts of the segments.

        One more than there are segments. A system message that the template has no place for goes
        in front of the first user message.

        Raises:
            RequestError: The template refuses the messages, or alters them.
        """
        if not self._folds_system:
            try:
                return self._cut(segments)
            except RequestError as exc:
                folded = _fold(segments)
                if folded is None:
                    raise
                pieces = _unfolded(self._cut(folded), segments)
                logger.info("system texts go into the first user message: %s", exc)
                self._folds_system = True
                return pieces
        folded = _fold(segments)
        return self._cut(segments) if folded is None else _unfolded(self._cut(folded), segments)

    def _cut(self, segments: Sequence[Segment]) -> list[str]:
        before, behind = _stand_in_marks(self.source)
        named = [f"{before}Seg{i}mEnt{behind}" for i in range(len(segments))]  # case is checked too
        stands = [Segment(s.role, mark) for s, mark in zip(segments, named, strict=True)]
        rendered = self.render(Prompt(tuple(stands)).messages())
        pieces = re.split(f"({before}[^{behind}]*{behind})", rendered)
        if pieces[1::2] != named:
            lost = [s.role for s, mark in zip(segments, named, strict=True) if mark not in pieces]
            what = f"loses a text of the role {lost[0]!r}" if lost else "repeats or reorders texts"
            raise RequestError(
                f"The chat template {what}: each text of a prompt must appear once, in order."
            )
        return pieces[::2]


def prompt_segments(
    prompt: Prompt, tokenizer: Tokenizer, template: ChatTemplate
) -> tuple[TokenSegment, ...]:
    """The prompt in tokens, ready for an answer of the assistant.

    Each segment of the prompt is tokenised alone and keeps its content id. Neighbours without one
    (and the template's own tokens) are joined. Edges of texts are kept even where the template
    would trim them.

    Raises:
        RequestError: The prompt is empty, or the template refuses or alters it.
    """
    texts = [segment for segment in prompt.segments if segment.text]
    if not texts:
        raise RequestError("The prompt is empty: it needs at least one segment with text.")
    pieces = template.cut(texts)
    made = [TokenSegment(tuple(tokenizer.prefix_ids if template.is_plain else ()))]
    for i, piece in enumerate(pieces):
        ids = tokenizer.encode(piece, special=True, continues=i > 0) if piece else []
        made.append(TokenSegment(tuple(ids)))
        if i < len(texts):
            ids = tokenizer.encode(texts[i].text, continues=bool(i or piece))
            made.append(TokenSegment(tuple(ids), texts[i].content_id))
    return _joined(made)


def _joined(segments: Sequence[TokenSegment]) -> tuple[TokenSegment, ...]:
    joined: list[TokenSegment] = []
    for ids, content_id in segments:
        if joined and content_id is None and joined[-1].content_id is None:
            joined[-1] = TokenSegment(joined[-1].token_ids + ids)
        elif ids:
            joined.append(TokenSegment(ids, content_id))
    return tuple(joined)


_BREAK = Segment("user", "\n\n")


def _fold(segments: Sequence[Segment]) -> list[Segment] | None:
    """System texts at the start as user texts, with a break behind; None if there are none."""
    count = next((i for i, s in enumerate(segments) if s.role != "system"), len(segments))
    if count == 0 or count == len(segments) or segments[count].role != "user":
        return None
    system = [Segment("user", s.text, s.content_id) for s in segments[:count]]
    return [*system, _BREAK, *segments[count:]]


def _unfolded(pieces: list[str], segments: Sequence[Segment]) -> list[str]:
    """Pieces around folded segments as pieces around the given ones: the break is a piece."""
    count = next(i for i, s in enumerate(segments) if s.role != "system")
    joined = pieces[count] + _BREAK.text + pieces[count + 1]
    return [*pieces[:count], joined, *pieces[count + 2 :]]


def _stand_in_marks(source: str) -> tuple[str, str]:
    free = (chr(code) for code in _PRIVATE_USE if chr(code) not in source)
    return next(free), next(free)


def _find(folder: Path, name: str) -> str | None:
    """The template's text: chat_template.jinja first, as in transformers."""
    file = folder / "chat_template.jinja"
    if name == "default" and file.exists():
        return file.read_text(encoding="utf-8")
    settings = folder / SETTINGS
    said = read_json(settings).get("chat_template") if settings.exists() else None
    if said is None and name == "default":
        return None
    known = {"default": said} if isinstance(said, str) else {}
    if isinstance(said, list):
        known = {str(each.get("name")): str(each.get("template")) for each in said}
    if (found := known.get(name)) is None:
        raise ModelFormatError(
            f"{settings} has no chat template {name!r}. It has: {', '.join(known) or 'none'}."
        )
    return found


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` marks the assistant's tokens for training: here
    it is its content."""

    tags = {"generation"}  # noqa: RUF012 - as in jinja2

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
