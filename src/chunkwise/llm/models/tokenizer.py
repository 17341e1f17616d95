"""A model's tokenizer: text to ids and back, with a wall between text and control tokens.

`encode(text)` takes all of `text` as text: a document that holds `<|im_end|>` gets the tokens of
these ten characters and cannot end a turn. Only templates, which are ours, are encoded with
`special=True`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from chunkwise.errors import ModelFormatError
from chunkwise.llm.models.base import ModelConfig, read_json

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"

_CONTROL = re.compile(r"<.+>|\[[A-Z_/]+\]", re.DOTALL)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_START = "▁"


class Tokenizer:
    """The tokenizer of a folder. Safe to share between threads.

    Args:
        text: Content of tokenizer.json.
        settings: Content of tokenizer_config.json.
        name: What to call it in errors.

    Raises:
        ModelFormatError: The text cannot be read, or encodes a control token's text as the token.
    """

    def __init__(
        self, text: str, settings: dict[str, Any] | None = None, *, name: str = FILE
    ) -> None:
        self.name, self.settings = name, settings or {}
        try:
            self._with_special = tokenizers.Tokenizer.from_str(text)
            self._plain = _without_control(self._with_special)
        except Exception as exc:  # the library raises nothing more exact
            raise ModelFormatError(f"{name} cannot be read as a tokenizer: {exc}") from exc
        self._with_special.no_truncation()
        self._with_special.no_padding()
        added = self._with_special.get_added_tokens_decoder()
        self.control_ids = frozenset(i for i, t in added.items() if _is_control(t))
        self.special = {
            kind: content
            for kind in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (content := _content(self.settings.get(kind)))
        }
        self._newline = self._plain.encode("\n", add_special_tokens=False).ids
        self.prefix_ids = self._prefix()
        self._check_wall()

    @classmethod
    def from_folder(cls, path: str | Path, config: ModelConfig | None = None) -> Tokenizer:
        """The tokenizer of a Hugging Face folder, checked against the model if it is given.

        Raises:
            ModelFormatError: No tokenizer.json, or it has more tokens than the model.
        """
        folder = Path(path)
        file, settings = folder / FILE, folder / SETTINGS
        if not file.exists():
            raise ModelFormatError(_missing(folder))
        said = read_json(settings) if settings.exists() else {}
        tokenizer = cls(_text(file), said, name=str(file))
        if config is not None:
            tokenizer.check(config)
        return tokenizer

    def check(self, config: ModelConfig) -> None:
        """Refuse a model whose embedding has no row for some token.

        Raises:
            ModelFormatError: The tokenizer belongs to another model.
        """
        if self.vocab_size > config.vocab_size:
            raise ModelFormatError(
                f"{self.name} has token ids up to {self.vocab_size - 1}, the model's embedding "
                f"has {config.vocab_size} rows: it is the tokenizer of another model."
            )
        if beyond := [i for i in config.eos_token_ids if not 0 <= i < config.vocab_size]:
            raise ModelFormatError(
                f"`eos_token_id` must be below {config.vocab_size} (rows of the embedding), "
                f"got {beyond[0]!r}."
            )

    @functools.cached_property
    def vocab_size(self) -> int:
        """One past the highest token id."""
        return max(self._with_special.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, or None."""
        return self.token_id(self.special.get("bos_token", ""))

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends one, or None."""
        return self.token_id(self.special.get("eos_token", ""))

    def token_id(self, token: str) -> int | None:
        """The id of a token, as the vocabulary writes it."""
        found: int | None = self._with_special.token_to_id(token)
        return found

    def encode(
        self, text: str, *, special: bool = False, add_bos: bool = False, continues: bool = False
    ) -> list[int]:
        """Token ids of a text.

        Args:
            text: Any text; lone surrogates are replaced.
            special: Whether control tokens written in the text are control tokens.
            add_bos: Put what the model expects at the start of a text in front.
            continues: The text goes on behind other text: no space is put in front of it by
                tokenizers that do so (Llama 2).
        """
        used = self._with_special if special else self._plain
        text = text.encode("utf-8", "replace").decode() if not text.isascii() else text
        ids: list[int] = []
        if continues and self._spaces:
            ids = used.encode("\n" + text, add_special_tokens=False).ids
            ids = ids[len(self._newline) :] if ids[: len(self._newline)] == self._newline else []
        if not ids:
            ids = used.encode(text, add_special_tokens=False).ids
        return [*self.prefix_ids, *ids] if add_bos else ids

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a text, all of it text, and the character that each begins with."""
        text = text.encode("utf-8", "replace").decode() if not text.isascii() else text
        found = self._plain.encode(text, add_special_tokens=False)
        return found.ids, [start for start, _ in found.offsets]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids; ids beyond the vocabulary are nothing."""
        known = [i for i in ids if i < self.vocab_size]
        text: str = self._with_special.decode(known, skip_special_tokens=skip_special)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for inside a text; of a control token, its name's.

        An id beyond the vocabulary has none. For whoever must join or mask tokens as bytes;
        the engine itself decodes whole runs.
        """
        token = self._with_special.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._added_ids:
            return str(token).encode()
        if self._is_byte_level:
            return bytes(_byte_values()[char] for char in token)
        if match := _BYTE.fullmatch(token):
            return bytes([int(match[1], 16)])
        return str(token).replace(_WORD_START, " ").encode()

    @functools.cached_property
    def _added_ids(self) -> frozenset[int]:
        return frozenset(self._with_special.get_added_tokens_decoder())

    @functools.cached_property
    def _is_byte_level(self) -> bool:
        return "ByteLevel" in repr(self._with_special.decoder)

    @functools.cached_property
    def _spaces(self) -> bool:
        """Whether a space is put in front of every text."""
        joined = self._plain.encode("\na", add_special_tokens=False).ids
        alone = self._plain.encode("a", add_special_tokens=False).ids
        return bool(joined[len(self._newline) :] != alone)

    def _prefix(self) -> list[int]:
        """What goes before a text: as tokenizer_config.json says, else as the tokenizer does."""
        wanted = self.settings.get("add_bos_token")
        if wanted is not None:
            bos = self.bos_token_id
            return [bos] if wanted and bos is not None else []
        with_special = self._with_special.encode("a", add_special_tokens=True).ids
        bare = self._with_special.encode("a", add_special_tokens=False).ids
        before = len(with_special) - len(bare)
        while before > 0 and with_special[before : before + len(bare)] != bare:
            before -= 1
        return list(with_special[:before])

    def _check_wall(self) -> None:
        unknown = self.token_id(self.special.get("unk_token", ""))
        for token_id in self.control_ids - {unknown}:
            content = self._with_special.id_to_token(token_id)
            if token_id in self._plain.encode(content, add_special_tokens=False).ids:
                raise ModelFormatError(
                    f"{self.name}: the text {content!r} becomes the control token {token_id} "
                    "even as plain text: documents could forge it."
                )


def byte_chars() -> list[str]:
    """The printable characters that byte-level tokenizers write for bytes 0 to 255."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def _is_control(token: Any) -> bool:
    return bool(token.special or _CONTROL.fullmatch(token.content))


def _without_control(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, to which control tokens are text. It shares the vocabulary's memory.

    Added tokens that only look like control tokens (`<think>`, `<tool_call>`) are so too; others
    (runs of spaces) stay.
    """
    plain = tokenizers.Tokenizer(tokenizer.model)
    plain.normalizer, plain.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    added = dict(sorted(tokenizer.get_added_tokens_decoder().items()))
    for token in added.values():
        token.special = _is_control(token)
    plain.add_tokens(list(added.values()))
    if set(plain.get_added_tokens_decoder()) != set(added):  # gaps in the ids cannot be rebuilt so
        raw = json.loads(tokenizer.to_str())
        for token in raw["added_tokens"]:
            token["special"] |= bool(_CONTROL.fullmatch(token["content"]))
        plain = tokenizers.Tokenizer.from_str(json.dumps(raw))
        plain.no_truncation()
        plain.no_padding()
    plain.encode_special_tokens = True
    return plain


def _content(token: Any) -> str:
    """The text of a token in tokenizer_config.json: a string or an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


@functools.cache
def _byte_values() -> dict[str, int]:
    return {char: byte for byte, char in enumerate(byte_chars())}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise ModelFormatError(f"{file} cannot be read as a tokenizer: {exc}") from exc


def _missing(folder: Path) -> str:
    text = f"{folder} has no {FILE}: copy it from where the model came from."
    if (folder / "tokenizer.model").exists() or (folder / "vocab.json").exists():
        text += (
            " It has a tokenizer in an older layout: "
            "`transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)` "
            f"writes {FILE} beside it."
        )
    return text
