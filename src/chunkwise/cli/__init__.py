"""The command line: one thin function a command."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

from chunkwise.errors import ChunkwiseError, ConfigError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    # Threads that spin long while they wait for each other are ten times slower on a busy machine,
    # threads that never spin half as fast on an idle one (docs/log.md). Read by OpenMP when torch
    # is imported, so it is the program's to set and not the library's.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    level = os.environ.get("CHUNKWISE_LOG", "WARNING").upper()
    if level not in logging.getLevelNamesMapping():
        names = ", ".join(logging.getLevelNamesMapping())
        print(f"chunkwise: CHUNKWISE_LOG must be one of {names}, got {level!r}.", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    logging.basicConfig(
        level=level,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        from chunkwise.cli import (
            caching,
            chunking,
            documents,
            evaluation,
            inspection,
            judging,
            models,
            questions,
            recipes,
            training,
            tuning,
        )
        from chunkwise.cli.app import app

        commands = (
            caching,
            chunking,
            documents,
            evaluation,
            inspection,
            judging,
            models,
            questions,
            recipes,
            training,
            tuning,
        )
        assert all(commands), "imported for their commands"
        app()
    except ChunkwiseError as exc:
        print(f"chunkwise: {exc}", file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(exc, ConfigError) else EXIT_FAILED)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as exc:  # Typer turns Ctrl-C into an exit, and says nothing
        if exc.code == EXIT_INTERRUPTED:
            _stopped()
        raise
    except OSError as exc:  # a full disk or a closed terminal under our own output
        place = f"{exc.filename}: " if exc.filename else ""
        print(f"chunkwise: {place}{exc.strerror or exc}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _stopped() -> NoReturn:
    print("chunkwise: stopped; what was stored stays", file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)
