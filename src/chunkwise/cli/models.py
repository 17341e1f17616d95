"""Commands about models: which can be used, new ones by name, other formats, random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer
from rich.markup import escape

from chunkwise import config, model_names
from chunkwise.cli.app import (
    DEFAULT_CORPUS,
    CorpusOption,
    JsonOption,
    SetOption,
    app,
    err,
    open_with,
    out,
    print_json,
)
from chunkwise.errors import ChunkwiseError, ConfigError
from chunkwise.model_names import NamedModel
from chunkwise.packaged import PackagedModel, packaged_models
from chunkwise.pipeline.model_kinds import ModelKind, checked_kind
from chunkwise.pipeline.parts import Parts
from chunkwise.rag.embedding import embedders
from chunkwise.registry import spec_name

_Stored = Literal["bfloat16", "float16", "float32"]

models_app = typer.Typer(invoke_without_command=True)
app.add_typer(models_app, name="models")


@models_app.callback()
def models(
    context: typer.Context,
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which models can be used here: embedders, a local model, those of a server."""
    if context.invoked_subcommand:
        return
    with open_with(corpus, sets) as opened:
        settings = opened.settings
        rows = [_embedder_row(name, settings) for name in embedders.own]
        rows += [_packaged_row(model, settings) for model in packaged_models()]
        rows += [_added_row(model, settings) for model in model_names.named_models()]
        if settings.base_url:
            rows += [{"name": m, "kind": "remote", "ready": True} for m in _remote(opened.parts)]
        elif settings.model and not any(row["name"] == settings.model for row in rows):
            rows.append(_local_row(settings.model))
    if as_json:
        print_json({"models": rows})
        return
    for row in rows:
        ready = "[green]ready[/green]" if row["ready"] else f"[yellow]{escape(row['missing'])}[/]"
        mark = "*" if row.get("in_use") else " "
        out().print(f"{mark} {escape(row['name']):<24}{row['kind']:<16}{ready}")
    if not settings.model:
        out().print(
            "No language model is set: answers are verbatim. See `model`, `base_url`.", style="dim"
        )


NameOption = Annotated[str, typer.Option(help="What it is called here; its own name if empty.")]


@models_app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face folder, or one of `train`.")],
    name: NameOption = "",
) -> None:
    """Give a model's folder a name, after its files have been checked. It stays where it is."""
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {str(folder)!r}.")
    kind = checked_kind(folder)
    _show_named(model_names.add(folder, name), kind, "added")


@models_app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the hub.")],
    name: NameOption = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "",
) -> None:
    """Fetch a model from the Hugging Face hub and give it a name. Needs a network."""
    pulled = model_names.pull(repository, name, revision)
    try:
        kind = checked_kind(pulled.folder)
    except ChunkwiseError:
        err().print(f"Kept, but it cannot be used: chunkwise models remove {pulled.name}")
        raise
    _show_named(pulled, kind, "fetched")


@models_app.command()
def remove(name: Annotated[str, typer.Argument(help="As `chunkwise models` shows it.")]) -> None:
    """Forget a model's name. A pulled model is deleted; an added folder stays where it is."""
    deleted = model_names.remove(name)
    out().print(f"{escape(name)}: {'deleted' if deleted else 'forgotten'}")


@models_app.command()
def fake(
    folder: Annotated[Path, typer.Argument(help="Where to write; must not hold a checkpoint.")],
    like: Annotated[str, typer.Option(help="Whose shapes to take.")] = "llama-190m",
    layers: Annotated[int | None, typer.Option(min=1, help="Other than the model's own.")] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json to copy; else one of bytes is made.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same numbers.")] = 0,
) -> None:
    """Write a checkpoint of random numbers in a real model's shapes, to measure speed with.

    It answers nonsense, at the speed of the real model.
    """
    config.require_llm()
    from chunkwise.llm.models.fake import write_fake

    _require_free(folder)
    made = write_fake(
        like, folder, seed=seed, layers=layers, dtype=_stored(dtype), tokenizer=tokenizer
    )
    size = sum(file.stat().st_size for file in made.iterdir())
    out().print(f"{escape(str(made))}: random weights like {escape(like)}, {size / 1e6:.0f} MB")


@models_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A .gguf file, or a folder with .bin files.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; must not hold a checkpoint.")],
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
) -> None:
    """Write a checkpoint of another format as a folder that can be used."""
    config.require_llm()
    from chunkwise.llm.models.convert import convert as write

    _require_free(folder)
    out().print(f"{escape(str(write(source, folder, dtype=_stored(dtype))))}: converted")


def _embedder_row(name: str, settings: config.Settings) -> dict[str, Any]:
    used = name == spec_name(settings.embedder)
    missing = ""
    if name == "encoder" and config.missing_for_encoder():
        missing = 'pip install "chunkwise[llm]"'
    if name == "openai" and not settings.base_url:
        missing = "set base_url"
    return {
        "name": name,
        "kind": "embedder",
        "ready": not missing,
        "missing": missing,
        "in_use": used,
    }


def _packaged_row(model: PackagedModel, settings: config.Settings) -> dict[str, Any]:
    """A model of the package, its files checked."""
    damaged = model.damaged()
    is_reader = model.name == "reader" and spec_name(settings.answerer) == "reader"
    is_segmenter = model.name == "segmenter" and settings.segmenter == "learned"
    return {
        "name": model.name,
        "kind": "packaged",
        "ready": not damaged,
        "missing": f"{', '.join(damaged)} damaged: install the package anew" if damaged else "",
        "in_use": is_segmenter
        or (is_reader and not settings.reader_model)
        or (model.name == settings.model and not settings.base_url),
        "folder": str(model.folder),
        "bytes": model.nbytes,
        "figures": model.card.get("figures", {}),
    }


def _added_row(model: NamedModel, settings: config.Settings) -> dict[str, Any]:
    """A model that was added or pulled, checked."""
    row: dict[str, Any] = {"name": model.name, "kind": "added", "ready": False}
    row |= {"folder": str(model.folder), "missing": "", "in_use": _is_used(model, settings)}
    if not model.is_there:
        return row | {"missing": f"{model.folder} is gone: chunkwise models remove {model.name}"}
    try:
        return row | {"kind": checked_kind(model.folder).name, "ready": True}
    except ChunkwiseError as exc:
        return row | {"missing": str(exc)}


def _is_used(model: NamedModel, settings: config.Settings) -> bool:
    used = {settings.reader_model} if settings.base_url else {settings.model, settings.reader_model}
    return model.name in used


def _show_named(model: NamedModel, kind: ModelKind, done: str) -> None:
    out().print(f"{escape(model.name)}: {kind.name}, {done}", soft_wrap=True)
    used = kind.setting.format(model.name, folder=model.folder)
    out().print(f"Use it with: {escape(used)}", style="dim", soft_wrap=True)


def _remote(parts: Parts) -> list[str]:
    from chunkwise.llm.remote import RemoteModel

    s = parts.settings
    with RemoteModel(s.base_url, s.model or "any", timeout_s=s.request_timeout_s) as server:
        return server.models()


def _local_row(folder: str) -> dict[str, Any]:
    """A local model, checked as far as its files say."""
    row: dict[str, Any] = {"name": folder, "kind": "local", "ready": True, "in_use": True}
    if missing := config.missing_for_llm():
        return row | {"ready": False, "missing": f'no {missing[0]}: pip install "chunkwise[llm]"'}
    from chunkwise.llm.models.base import ModelConfig
    from chunkwise.llm.models.tokenizer import Tokenizer

    try:
        found = ModelConfig.from_folder(folder)
        Tokenizer.from_folder(folder, found)
    except ChunkwiseError as exc:
        return row | {"ready": False, "missing": str(exc)}
    return row | {"architecture": found.architecture, "layers": found.num_layers}


def _stored(dtype: str) -> _Stored:
    if dtype not in (known := get_args(_Stored)):
        raise ConfigError(f"`--dtype` must be one of {', '.join(known)}, got {dtype!r}.")
    return cast(_Stored, dtype)


def _require_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; name a folder to write to.")
    if (folder / "config.json").exists():
        raise ChunkwiseError(f"{folder} holds a checkpoint already; choose another folder.")
