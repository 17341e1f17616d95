"""The Typer application and what all commands share: the corpus, settings, output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from chunkwise import __version__, config
from chunkwise.errors import ConfigError
from chunkwise.pipeline.corpus import DEFAULT_FOLDER, Corpus, open_corpus

app = typer.Typer(
    name="chunkwise",
    help="Cited answers from your own documents, offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CorpusOption = Annotated[
    Path, typer.Option("--corpus", "-c", help="The corpus folder.", envvar="CHUNKWISE_CORPUS")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Any setting; see `chunkwise config`. Repeatable."
    ),
]
PathOption = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="GLOB", help="Only documents whose name matches. Repeatable."),
]
MetaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--meta", metavar="KEY=VALUE", help="Only documents with this metadata. Repeatable."
    ),
]
DEFAULT_CORPUS = Path(DEFAULT_FOLDER)
_ANY_WIDTH = 100_000


def out() -> Console:
    """The console for people, on standard output."""
    return _console(stderr=False)


def err() -> Console:
    """The console for progress and warnings, on standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    """Off a terminal lines are as long as they are: other programs read them."""
    stream = sys.stderr if stderr else sys.stdout
    if stream is not None and stream.isatty():
        return Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, width=_ANY_WIDTH, soft_wrap=True)


def open_with(corpus: Path, sets: list[str] | None, **flags: Any) -> Corpus:
    """The corpus with settings from `--set` and from flags; flags win."""
    arguments = settings_of(sets)
    for key, value in flags.items():
        if value is not None:
            text = isinstance(value, str)
            arguments[key] = config.parse_value(key, value, f"--{key}") if text else value
    return open_corpus(corpus, **arguments)


def settings_of(sets: list[str] | None) -> dict[str, Any]:
    """The settings of `--set`."""
    return {key: config.parse_value(key, value, "--set") for key, value in _pairs(sets)}


def metadata(pairs: list[str] | None) -> dict[str, str]:
    """`--meta KEY=VALUE` as a dictionary."""
    return dict(split_pair(pair, "--meta") for pair in pairs or ())


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    line = json.dumps(value, ensure_ascii=False, default=str) + "\n"
    sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def _pairs(sets: list[str] | None) -> list[tuple[str, str]]:
    found = [split_pair(pair, "--set") for pair in sets or ()]
    for key, _ in found:
        config.known(key, "--set")
    return found


def split_pair(pair: str, flag: str) -> tuple[str, str]:
    """`KEY=VALUE` in its two parts; an error names the flag."""
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise ConfigError(f"{flag} wants KEY=VALUE, got {pair!r}.")
    return key.strip(), value


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"chunkwise {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
