"""Models by name: folders that the user added or pulled, and those of the package.

Each is an entry of one folder: a link for a model that was added where it lies, a folder for one
that was pulled. Making an entry is one step of the file system, so two processes cannot spoil it.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chunkwise.errors import ChunkwiseError, ConfigError, MissingDependencyError
from chunkwise.packaged import packaged_folder, packaged_models
from chunkwise.registry import nearest

VARIABLE = "CHUNKWISE_MODELS"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PART = ".part"
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that was added or pulled.

    Attributes:
        name: What it is called.
        folder: Where it lies.
        is_there: Whether the folder is there.
    """

    name: str
    folder: Path
    is_there: bool


def models_folder() -> Path:
    """Where models are kept: `CHUNKWISE_MODELS`, else in the user's data folder."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "chunkwise" / "models"


def named_models() -> Iterator[NamedModel]:
    """All that were added or pulled, by name; also those whose folder is gone.

    Raises:
        ChunkwiseError: The folder of models cannot be read.
    """
    folder = models_folder()
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return  # nothing was ever added here
    except OSError as exc:
        _fail(folder, exc)
    for entry in entries:
        if _NAME.fullmatch(entry.name) and not entry.name.endswith(_PART):
            yield NamedModel(entry.name, entry.resolve(), entry.is_dir())


def find_model(model: str) -> Path | None:
    """The folder of a model: a path that is there, or the name of an added or packaged one."""
    if os.path.exists(model):
        return Path(model)
    if not _NAME.fullmatch(model):
        return None
    added = models_folder() / model
    return added.resolve() if added.is_dir() else packaged_folder(model)


def suggestion(model: str) -> str:
    """What the user may have meant by a name that is none: ` Did you mean ...?`, or nothing."""
    added = [each.name for each in named_models() if each.is_there]
    return nearest(model, [*added, *(each.name for each in packaged_models())])


def add(folder: Path, name: str = "") -> NamedModel:
    """Give a folder a name; it stays where it is.

    Args:
        folder: A model's folder.
        name: The name; the folder's own if empty.

    Raises:
        ConfigError: No name, or one that is taken.
        ChunkwiseError: The entry cannot be written.
    """
    folder = folder.resolve()
    entry = _free_entry(name or folder.name)
    try:
        entry.symlink_to(folder, target_is_directory=True)
    except OSError as exc:
        _fail(entry, exc)
    return NamedModel(entry.name, folder, True)


def remove(name: str) -> Path | None:
    """Forget a model: a pulled one is deleted, one that was added stays where it lies.

    Returns:
        The folder that was deleted; None where only the name was.

    Raises:
        ConfigError: There is no such name.
        ChunkwiseError: It cannot be deleted.
    """
    entry = models_folder() / name
    if not _NAME.fullmatch(name) or not (entry.is_symlink() or entry.is_dir()):
        raise ConfigError(f"There is no added model {name!r}.{suggestion(name)}")
    try:
        if entry.is_symlink():
            entry.unlink()
            return None
        shutil.rmtree(entry)
    except OSError as exc:
        _fail(entry, exc)
    return entry


def pull(repository: str, name: str = "", revision: str = "") -> NamedModel:
    """Fetch a model from the Hugging Face hub.

    It is fetched beside its place and moved there when it is whole: a fetch that breaks off goes
    on where it stopped when it is started again.

    Args:
        repository: `OWNER/NAME`.
        name: What it is called here; NAME if empty.
        revision: Branch, tag or commit; the newest if empty.

    Raises:
        ConfigError: No repository's name, or a name that is taken.
        MissingDependencyError: `huggingface_hub` is not installed.
        ChunkwiseError: There is no network, no such repository, or no room.
    """
    owner, slash, own = repository.partition("/")
    if not (slash and _NAME.fullmatch(owner) and _NAME.fullmatch(own)):
        raise ConfigError(f"A repository of the hub is OWNER/NAME, got {repository!r}.")
    entry = _free_entry(name or own)
    part = entry.with_name(entry.name + _PART)
    _fetch(repository, revision, part)
    try:
        if (notes := part / ".cache").exists():  # the hub's own
            shutil.rmtree(notes)
        part.rename(entry)
    except OSError as exc:
        _fail(entry, exc)
    return NamedModel(entry.name, entry, True)


def _fetch(repository: str, revision: str, folder: Path) -> None:
    """The files of a repository, at the commit that the revision is now."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as exc:
        raise MissingDependencyError(
            'Fetching a model needs huggingface_hub: pip install "chunkwise[llm]".'
        ) from exc
    try:
        # asked first: without a network `snapshot_download` takes what is there for the whole
        info = huggingface_hub.HfApi().model_info(repository, revision=revision or None)
        huggingface_hub.snapshot_download(
            repository, revision=info.sha, local_dir=folder, allow_patterns=list(_FILES)
        )
    except HfHubHTTPError as exc:
        raise ChunkwiseError(f"{repository} cannot be fetched; the hub says: {exc}") from exc
    except Exception as exc:  # the hub's client has changed its HTTP library twice
        if _is_network_error(exc):
            raise ChunkwiseError(
                f"{repository} cannot be fetched: the hub cannot be reached from here ({exc}). "
                "Copy the model's folder from a machine that can, and name it: chunkwise models "
                "add FOLDER"
            ) from exc
        if isinstance(exc, OSError):
            _fail(folder, exc)
        raise
    wanted = [file.rfilename for file in info.siblings or () if _is_wanted(file.rfilename)]
    if missing := [file for file in wanted if not (folder / file).is_file()]:
        raise ChunkwiseError(
            f"{repository}: {', '.join(missing)} did not arrive. Start again; what is there is "
            "kept."
        )


def _is_wanted(file: str) -> bool:
    return any(fnmatch.fnmatch(file, pattern) for pattern in _FILES)


def _is_network_error(exc: Exception) -> bool:
    names = {kind.__name__ for kind in type(exc).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "LocalEntryNotFoundError"})


def _free_entry(name: str) -> Path:
    """The entry for a new name, in a folder that is there."""
    if not _NAME.fullmatch(name) or name.endswith(_PART):
        raise ConfigError(
            f"{name!r} cannot be a model's name: letters, digits, '.', '_' and '-' only, first a "
            "letter or digit. Choose one with --name."
        )
    if packaged_folder(name):
        raise ConfigError(f"{name!r} is a model of the package. Choose another with --name.")
    folder = models_folder()
    entry = folder / name
    if entry.is_symlink() or entry.exists():
        raise ConfigError(
            f"{name!r} is taken by {entry.resolve()}. Choose another with --name, or forget that "
            f"one: chunkwise models remove {name}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        _fail(folder, exc)
    return entry


def _fail(path: Path, exc: OSError) -> NoReturn:
    raise ChunkwiseError(
        f"{path}: {exc.strerror or exc}. Set {VARIABLE} to a folder that can be used."
    ) from exc
