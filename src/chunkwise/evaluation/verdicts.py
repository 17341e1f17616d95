"""Verdicts of a judge, remembered: what was judged once is not judged again, in any later run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.evaluation.judging import Asked, Claim, Judge
from chunkwise.types import Hit, content_id


class RememberingJudge:
    """A judge that remembers its verdicts by judge, claim and chunk.

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
        return self.judge.claims(text, question)

    def supports(self, claim: Claim, passage: Hit) -> bool:
        """See `Judge.supports`."""
        key = self._key(claim, passage)
        if key not in self._known:
            self._known[key] = self.judge.supports(claim, passage)
            self._keep(key)
        return self._known[key]

    def asked(self, answer: str, count: int) -> list[Asked]:
        """See `Judge.asked`."""
        return self.judge.asked(answer, count)

    def _key(self, claim: Claim, passage: Hit) -> str:
        """Of judge, claim and chunk, with all of the chunk that a judge may look at."""
        chunk = passage.chunk
        around = (passage.document, chunk.header, *chunk.headings)
        return content_id(json.dumps([self.judge.fingerprint, *claim, chunk.id, *around]))

    def _keep(self, key: str) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "supported": self._known[key]}) + "\n")
        except OSError as exc:
            raise ConfigError(f"{str(self._path)!r} cannot be written: {exc.strerror}.") from exc


def _read(path: Path) -> dict[str, bool]:
    """The verdicts of a file; a last line that was not written to its end is cut off."""
    try:
        if not path.exists():
            return {}
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
    except OSError as exc:
        raise ConfigError(f"{str(path)!r} cannot be read: {exc.strerror}.") from exc
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {str(row["key"]): bool(row["supported"]) for row in rows}
    except (ValueError, KeyError, TypeError) as exc:
        raise DocumentError(str(path), "holds no verdicts; name another file.") from exc
