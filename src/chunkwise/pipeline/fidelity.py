"""Whether a local model may reuse chunks: tested once for each model and policy, and kept.

The prompts are short contexts of made-up facts, each said by two passages that must be read
together (`fidelity.json`; drawn by `training/nano/questions`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from chunkwise.prompting import answer_prompt, text_hit
from chunkwise.types import Prompt

if TYPE_CHECKING:
    from chunkwise.llm.fidelity import Fidelity
    from chunkwise.llm.local import LLM
    from chunkwise.registry import Spec

logger = logging.getLogger(__name__)

_VERSION = 1  # raised when the same model and policy would get other figures
_FOLDER = "fidelity"


def check_reuse(llm: LLM, policy: Spec, folder: Path | None, least: float) -> None:
    """Have a model compute prompts in full from now on if it fails its self-test, which is said.

    Args:
        llm: Made with `reuse` and this policy; nothing is running.
        policy: Which tokens are computed afresh.
        folder: Where results are kept; None: nowhere.
        least: Share of answers that must be those of full prefill, as far as two full prefills
            give the same.
    """
    found = tested(llm, policy, folder)
    if found.answers < least * found.floor_answers:
        logger.warning(
            "Chunks are not reused: with this model and `reuse` %s, %.2f of %d answers are those "
            "of full prefill, and `reuse_agreement` asks for %.2f. Prompts are computed in full.",
            json.dumps(policy),
            found.answers,
            found.prompts,
            least,
        )
        llm.engine.use(None)


def tested(llm: LLM, policy: Spec, folder: Path | None) -> Fidelity:
    """The self-test of a model and policy: what was kept of it, or it is run now.

    Args:
        llm: Made with `reuse` and this policy.
        policy: Which tokens are computed afresh.
        folder: Where results are kept; None: nowhere.
    """
    store = llm.engine.reuse and llm.engine.reuse.store
    kind = "int8:" if store and store.disk and store.disk.is_int8 else ""
    key = f"{_VERSION}:{kind}{llm.fingerprint}:{json.dumps(policy, sort_keys=True)}"
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest() + ".json"
    path = None if folder is None else folder / _FOLDER / name
    kept = None if path is None else _kept(path, key)
    if kept is not None:
        return kept
    from chunkwise.llm.fidelity import self_test

    logger.warning("Testing once whether chunks can be reused with this model ...")
    found = self_test(llm, prompts())
    if path is not None:
        _keep(path, key, found)
    return found


@cache
def prompts() -> tuple[Prompt, ...]:
    """The prompts of the self-test."""
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    found = []
    for row in json.loads(text):
        hits = list(map(text_hit, row["passages"], row["documents"]))
        found += [answer_prompt(question, hits) for question in row["questions"]]
    return tuple(found)


def _kept(path: Path, key: str) -> Fidelity | None:
    """A result that was kept; a file that cannot be used is none."""
    from chunkwise.llm.fidelity import Fidelity

    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Fidelity(**stored["found"]) if stored["key"] == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        logger.warning("%s cannot be used, the test is run again: %s", path, exc)
        return None


def _keep(path: Path, key: str, found: Fidelity) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"key": key, "found": found._asdict()}), encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        logger.warning("%s cannot be written; the test is run again next time: %s", path, exc)
