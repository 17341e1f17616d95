"""Whether a local model may reuse chunks: tested once for each model and policy, and kept.

The prompts are short contexts of made-up facts, each said by two passages that must be read
together (`fidelity.json`; drawn by `training/nano/questions`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from chunkwise.errors import ConfigError
from chunkwise.prompting import answer_prompt, text_hit
from chunkwise.types import Prompt

if TYPE_CHECKING:
    from chunkwise.llm.fidelity import Fidelity
    from chunkwise.llm.local import LLM
    from chunkwise.registry import Spec

logger = logging.getLogger(__name__)

_VERSION = 4  # raised when the same model and policy would get other figures
_FOLDER = "fidelity"


AUTO: tuple[Spec, ...] = tuple({"name": "combined", "ratio": ratio} for ratio in (0.15, 0.3))
"""What `auto` tries, cheapest first."""

PATIENCE_S = 20.0
"""Longest self-test that `auto` runs unasked."""


class Reusing:
    """Which recompute policy a model reuses chunks with, if any.

    Args:
        llm: Made with `reuse`; nothing is running.
        spec: The policy, or `auto`.
        folder: Where results of self-tests are kept; None: nowhere.
        least: Share of answers that must be those of full prefill, as far as two full prefills
            give the same; 0: not tested.

    Attributes:
        policy: The policy in force; None: prompts are computed in full.
        found: What the last self-test found, if there was one.
        is_untested: Whether the model waits for a test that takes long.
    """

    def __init__(self, llm: LLM, spec: Spec, folder: Path | None, least: float) -> None:
        assert llm.engine.reuse is not None, "it was made with `reuse`"
        self.llm, self.spec, self.folder, self.least = llm, spec, folder, least
        self.policy: Spec | None = None
        self.found: Fidelity | None = None
        self.is_untested = False
        self._policies = AUTO if spec == "auto" else (spec,)
        self._left_s = math.inf
        self._reuse = llm.engine.reuse

    def settle(self, *, patience_s: float = math.inf) -> None:
        """Take the first policy that passes; what is not in force is said.

        Args:
            patience_s: Tests that are predicted to take longer, together, are left for another
                time.
        """
        self.is_untested, self._left_s = False, patience_s
        if not self.least:
            self._use(self._policies[0])
            return
        failed: list[str] = []
        for policy in self._policies:
            found = self._tried(policy)
            if found is None:
                break
            self.found = found
            if found.answers >= self.least * found.floor_answers:
                self._use(policy)
                return
            failed.append(f"{found.answers:.2f} with `reuse` {json.dumps(policy)}")
        self._use(None)
        if failed and not self.is_untested:
            self._tell(failed)

    def test(self) -> Fidelity:
        """The self-test of the policy in force, or of the last one that was tried.

        Raises:
            ConfigError: It does not fit the model's context, or memory.
        """
        if self.found is None:
            self._left_s = math.inf
            self.found = self._tried(self.policy or self._policies[0])
        if self.found is None:
            raise ConfigError("The self-test does not fit the context of this model, or memory.")
        return self.found

    def _use(self, policy: Spec | None) -> None:
        from chunkwise.llm.reuse import policies

        self.policy = policy
        if policy is not None:
            self._reuse.policy = policies.build(policy)
        self.llm.engine.use(None if policy is None else self._reuse)

    def _tried(self, policy: Spec) -> Fidelity | None:
        """The self-test of a policy, which is in force until it ends."""
        before = self.policy
        self._use(policy)
        try:
            return self._tested(policy)
        finally:
            self._use(before)

    def _tested(self, policy: Spec) -> Fidelity | None:
        """The self-test of a policy: what was kept of it, or it is run now, if there is time left,
        memory for the chunks of a prompt, and the model's context is long enough."""
        path, key = self._place(policy)
        kept = None if path is None else _kept(path, key)
        if kept is not None:
            return kept
        from chunkwise.llm.fidelity import NEW_TOKENS, self_test
        from chunkwise.llm.pricing import compute_ms

        asked = [self.llm.segments(prompt) for prompt in prompts()]
        sizes = [sum(len(piece.token_ids) for piece in pieces) for pieces in asked]
        if max(sizes) + NEW_TOKENS >= self.llm.engine.max_tokens:
            logger.warning("Chunks are not reused: the self-test does not fit the context.")
            return None
        seconds = 6e-3 * compute_ms(self.llm, sizes)  # thrice each, and as much for the answers
        self._left_s -= seconds
        if self._left_s < 0:
            logger.warning(
                "Chunks are not reused yet: `chunkwise cache test` finds out once whether this "
                'model may (about %.0f s); `reuse` "" ends this message.',
                seconds,
            )
            self.is_untested = True
            return None
        logger.warning("Testing once whether chunks can be reused with this model ...")
        try:
            found = self_test(self.llm, prompts())
        except ConfigError as exc:
            logger.warning("Chunks are not reused: %s Raise `chunk_memory_mb`.", exc)
            return None
        if path is not None:
            _keep(path, key, found)
        return found

    def _place(self, policy: Spec) -> tuple[Path | None, str]:
        """Where the result of a policy is kept, and what it is kept for."""
        disk = self._reuse.store.disk
        kind = "int8:" if disk is not None and disk.is_int8 else ""
        spec = json.dumps(policy, sort_keys=True)
        key = f"{_VERSION}:{kind}{self.llm.fingerprint}:{spec}"
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest() + ".json"
        return (None if self.folder is None else self.folder / _FOLDER / name), key

    def _tell(self, failed: list[str]) -> None:
        """Say that nothing is reused, and why: to those who asked for it."""
        level = logging.INFO if self.spec == "auto" else logging.WARNING
        logger.log(
            level,
            "Chunks are not reused: of the answers of the self-test %s are those of full prefill, "
            "and `reuse_agreement` asks for %.2f. Prompts are computed in full.",
            ", ".join(failed),
            self.least,
        )


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
