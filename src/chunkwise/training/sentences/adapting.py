"""A trained segmenter adapted to a style of text by 64 to 256 sentences: its head and thresholds.

Source: WtP's adaptation (arXiv 2305.18893); see `fitting.py`.
Cost: seconds; no torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chunkwise.errors import DocumentError, ModelFormatError, TrainingDataError, TrainingError
from chunkwise.evaluation.segmentation import GoldText, read_texts
from chunkwise.packaged import checksums
from chunkwise.rag.sentences.heads import Head
from chunkwise.rag.sentences.model import BoundaryModel, read_model, write_config
from chunkwise.training.sentences.fitting import fit_head, samples

LEAST_SENTENCES = 32
ADVISED = "64 to 256"

_STRIPPED_WEIGHT = 0.25  # of the F1 of the examples without punctuation and case
_PER_TEXT = 16  # sentences of a file without texts that are joined to one


class Adapted(NamedTuple):
    """What was done.

    Attributes:
        head: The fitted head.
        languages: Languages that it is for; `""`: all.
        sentences: Sentences that it was fitted on.
    """

    head: Head
    languages: tuple[str, ...]
    sentences: int


def adapt(folder: Path, examples: Path, out: Path) -> Adapted:
    """Write a segmenter whose head and thresholds fit some examples; its weights stay.

    Args:
        folder: A trained segmenter's folder.
        examples: One JSON object a line with `text`, `spans` and if wanted `lang`; or plain text,
            one sentence a line. If all texts are of one language, its head alone is fitted.
        out: Folder to write to; made if it is not there. It may be `folder`.

    Raises:
        TrainingDataError: The examples cannot be used, or are too few.
        ModelFormatError: The folder holds no segmenter.
        TrainingError: The result cannot be written.
    """
    model = read_model(folder)
    texts = read_examples(examples)
    found = fit(model, texts)
    digest = hashlib.sha256(examples.read_bytes()).hexdigest()
    _write(folder, out, model, found, {"file": examples.name, "sha256": digest})
    return found


def fit(model: BoundaryModel, texts: Sequence[GoldText]) -> Adapted:
    """The head that fits some texts, drawn to the model's own."""
    total = sum(len(text.ends) for text in texts)
    if total < LEAST_SENTENCES:
        raise TrainingDataError(
            f"Sentences to adapt to: {total}; it takes at least {LEAST_SENTENCES}, better "
            f"{ADVISED}."
        )
    languages = {text.language for text in texts}
    (language,) = languages if len(languages) == 1 else {""}
    made = samples(model, texts, weight_stripped=_STRIPPED_WEIGHT)
    return Adapted(fit_head(made, model.head(language)), (language,), total)


def read_examples(path: Path) -> list[GoldText]:
    """Texts with sentences from JSON lines, or sentences one a line.

    Raises:
        TrainingDataError: The file cannot be read or used.
    """
    try:
        with path.open(encoding="utf-8") as file:
            is_json = next((line for line in file if line.strip()), "").lstrip().startswith("{")
        if is_json:
            return read_texts(path)
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except DocumentError as exc:
        raise TrainingDataError(str(exc)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise TrainingDataError(f"{path} cannot be read as UTF-8 text: {exc}.") from exc
    kept = [line for line in lines if line]
    return [_joined(kept[first : first + _PER_TEXT]) for first in range(0, len(kept), _PER_TEXT)]


def _joined(sentences: Sequence[str]) -> GoldText:
    ends: list[int] = []
    at = 0
    for sentence in sentences:
        ends.append(at + len(sentence))
        at += len(sentence) + 1
    return GoldText(" ".join(sentences), tuple(ends))


def _write(
    folder: Path, out: Path, model: BoundaryModel, found: Adapted, file: Mapping[str, Any]
) -> None:
    (language,) = found.languages
    heads = {**model.heads, language: found.head} if language else {"": found.head}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if out.resolve() != folder.resolve():
            shutil.copyfile(folder / "model.safetensors", out / "model.safetensors")
        write_config(out, model.network.shape, heads, model.paragraph_offset)
        card = _card(folder)
        card["adapted"] = {**file, "sentences": found.sentences, "language": language or "any"}
        card["files"] = checksums(out)
        (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    except OSError as exc:
        raise TrainingError(f"{out}: cannot be written: {exc.strerror or exc}.") from exc


def _card(folder: Path) -> dict[str, Any]:
    """The card of the model that was adapted; empty if it has none."""
    path = folder / "card.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as exc:
        raise ModelFormatError(f"{path} is no JSON object: {exc}.") from exc
