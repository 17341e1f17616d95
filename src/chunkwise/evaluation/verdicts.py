"""What a judge said, remembered: what was asked once is not asked again, in any later run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.evaluation.judging import Asked, Claim, Judge
from chunkwise.types import Hit, content_id

_SAID: Final = ("supported", "claims", "asked")
_BEGINNING: Final = re.compile(rb'\{"key": "[0-9a-f]{32}(?:", .*)?')


class RememberingJudge:
    """A judge that remembers its verdicts by judge, claim and chunk, and what else it said by what
    it was asked.

    Args:
        judge: Judges what is new.
        path: A file to remember them in, one JSON object a line; each is written when it is given,
            so that a run that was stopped goes on where it was. None: in memory only.

    Raises:
        ConfigError: The file cannot be read or written.
        DocumentError: It holds something else.
    """

    def __init__(self, judge: Judge, path: str | os.PathLike[str] | None = None) -> None:
        self.judge = judge
        self._path = None if path is None else Path(path)
        self._known = {} if self._path is None else _read(self._path)

    @property
    def fingerprint(self) -> str:
        """That of the judge."""
        return self.judge.fingerprint

    def claims(self, text: str, question: str) -> list[Claim]:
        """See `Judge.claims`."""
        key = self._key("claims", text, question)
        if key not in self._known:
            self._keep(key, "claims", self.judge.claims(text, question))
        return [Claim(*one) for one in self._known[key]]

    def supports(self, claim: Claim, passage: Hit) -> bool:
        """See `Judge.supports`. The key holds all of a chunk that a judge may look at."""
        chunk = passage.chunk
        around = (passage.document, chunk.header, *chunk.headings)
        key = self._key(*claim, chunk.id, *around)
        if key not in self._known:
            self._keep(key, "supported", self.judge.supports(claim, passage))
        return bool(self._known[key])

    def asked(self, answer: str, count: int) -> list[Asked]:
        """See `Judge.asked`."""
        key = self._key("asked", answer, count)
        if key not in self._known:
            self._keep(key, "asked", self.judge.asked(answer, count))
        return [Asked(*one) for one in self._known[key]]

    def _key(self, *asked: str | int) -> str:
        return content_id(json.dumps([self.judge.fingerprint, *asked]))

    def _keep(self, key: str, name: str, said: Any) -> None:
        self._known[key] = said
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, name: said}) + "\n")
        except OSError as exc:
            raise ConfigError(f"{str(self._path)!r} cannot be written: {exc.strerror}.") from exc


def _read(path: Path) -> dict[str, Any]:
    """What a file remembers; a last line of ours that was not written to its end is cut off."""
    try:
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        known = dict(_said(line, path) for line in whole.splitlines())
        if rest := data[len(whole) :]:
            if not _is_ours(rest):
                raise _foreign(path)
            os.truncate(path, len(whole))
    except OSError as exc:
        raise ConfigError(f"{str(path)!r} cannot be read: {exc.strerror}.") from exc
    return known


def _said(line: bytes, path: Path) -> tuple[str, Any]:
    """The key of a line, and what was said."""
    try:
        row = json.loads(line)
        (name,) = row.keys() - {"key"}
        key, said = str(row["key"]), row[name]
        is_whole = isinstance(said, bool) if name == "supported" else _are_pairs(said)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _foreign(path) from exc
    if name not in _SAID or not is_whole:
        raise _foreign(path)
    return key, said


def _are_pairs(said: Any) -> bool:
    return isinstance(said, list) and all(isinstance(one, list) and len(one) == 2 for one in said)


def _is_ours(rest: bytes) -> bool:
    """Whether a line that has no end begins as ours do."""
    least = b'{"key": "' + b"0" * 32
    return _BEGINNING.fullmatch(rest + least[len(rest) :]) is not None


def _foreign(path: Path) -> DocumentError:
    return DocumentError(str(path), "holds no verdicts; name another file.")
