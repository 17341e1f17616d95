"""The command line: one thin function a command."""

from __future__ import annotations

import logging
import os
import signal
import sys

from chunkwise.errors import ChunkwiseError, ConfigError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    from chunkwise.cli import documents, inspection, questions
    from chunkwise.cli.app import app

    assert all((documents, inspection, questions)), "imported for their commands"
    logging.basicConfig(
        level=os.environ.get("CHUNKWISE_LOG", "WARNING").upper(),
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except ChunkwiseError as exc:
        print(f"chunkwise: {exc}", file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(exc, ConfigError) else EXIT_FAILED)
    except KeyboardInterrupt:
        print("chunkwise: stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
