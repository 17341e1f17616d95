"""The algorithms that the settings name, each built once, on first use."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chunkwise import config
from chunkwise.config import Settings
from chunkwise.errors import ConfigError
from chunkwise.model_names import find_model, suggestion
from chunkwise.packaged import packaged_folder
from chunkwise.pipeline.fidelity import AUTO, PATIENCE_S, Reusing
from chunkwise.pipeline.forms import Forms
from chunkwise.pipeline.recutting import StoreCut
from chunkwise.prompting import answer_prompt, passage_cost, text_hit
from chunkwise.rag.answering import Answerer, answerers
from chunkwise.rag.chunking import Chunker, chunkers
from chunkwise.rag.counting import RememberingCounter, named_counter
from chunkwise.rag.embedding import embedders
from chunkwise.rag.enrichment import Enricher, enrichers
from chunkwise.rag.reranking import Reranker, rerankers
from chunkwise.rag.retrieval import Retriever, retrievers
from chunkwise.rag.selection import Selector, selectors
from chunkwise.rag.sentences import segmenters
from chunkwise.rag.situating import situators
from chunkwise.registry import Spec, spec_name
from chunkwise.scores import ContinuationModel, ScoringModel, TextScorer
from chunkwise.types import (
    BoundaryScorer,
    Embedder,
    Hit,
    LanguageModel,
    SamplingParams,
    Segmenter,
    TokenCounter,
)

if TYPE_CHECKING:
    from chunkwise.llm.local import LLM, ReuseSettings
    from chunkwise.rag.answering.reading import SpanReader
    from chunkwise.store import Store

logger = logging.getLogger(__name__)

_FORESEER_KV_MB = 64


class Parts:
    """Algorithms for one corpus. Nothing is imported or loaded before it is asked for.

    Args:
        settings: The settings in force.
        chunk_folder: Where a local model's chunks are kept if no setting names a folder; None:
            nowhere.
    """

    def __init__(self, settings: Settings, chunk_folder: Path | None = None) -> None:
        self.settings = settings
        self.chunk_folder = Path(settings.chunk_folder) if settings.chunk_folder else chunk_folder
        self.reusing: Reusing | None = None  # once a local model is loaded

    @functools.cached_property
    def counter(self) -> TokenCounter:
        """Counts tokens; a text that is asked for again is not tokenised again."""
        return RememberingCounter(named_counter(self.settings.counter))

    @functools.cached_property
    def segmenter(self) -> Segmenter:
        """Finds sentences."""
        spec, parts = self.settings.segmenter, {}
        packaged = packaged_folder("segmenter")
        if packaged and "folder" in segmenters.options(spec_name(spec)):
            parts["folder"] = str(packaged)
        return segmenters.build(spec, **parts)

    @functools.cached_property
    def embedder(self) -> Embedder:
        """Makes vectors."""
        s = self.settings
        options: dict[str, Any] = {"timeout_s": s.request_timeout_s}
        if s.base_url:
            options |= {"base_url": s.base_url, "api_key_env": self._key_env}
        return embedders.build(s.embedder, **options)

    def borrow_embedder(self, other: Parts) -> None:
        """Use the embedder of others where the settings name the same: it is loaded once."""
        names = ("embedder", "base_url", "api_key_env")
        if all(getattr(self.settings, n) == getattr(other.settings, n) for n in names):
            self.__dict__["embedder"] = other.embedder

    def check(self) -> None:
        """Build what is named for cutting and embedding, so that a wrong name is said at once."""
        self.recipe(), self.chunker, self.segmenter, self.forms

    @functools.cached_property
    def chunker(self) -> Chunker:
        """Cuts documents."""
        spec, s = self.settings.chunker, self.settings
        parts: dict[str, Any] = {"size": s.size, "overlap": s.overlap, "counter": self.counter}
        fields = chunkers.options(spec_name(spec))
        if "segmenter" in fields:
            parts["segmenter"] = self.segmenter
        if "embedder" in fields:
            parts["embedder"] = self.embedder
        if "boundaries" in fields:
            parts["boundaries"] = self.boundaries
        if "model_folder" in fields:
            parts |= self._sections(spec)
        if "scorer" in fields:
            parts["scorer"] = self.scorer
        if "model" in fields:
            parts["model"] = self.foreseer
        return chunkers.build(spec, **parts)

    def _sections(self, spec: Spec) -> dict[str, str]:
        """The folder of the packaged model of sections, where the chunker names none."""
        if not isinstance(spec, str) and "model_folder" in spec:
            return {}
        folder = packaged_folder("sections")
        if folder is None:
            raise ConfigError(
                f"The chunker {spec_name(spec)!r} needs a trained model and none is packaged: "
                "`chunkwise train boundaries` makes one; name its folder with `model_folder`."
            )
        return {"model_folder": str(folder)}

    @functools.cached_property
    def boundaries(self) -> BoundaryScorer:
        """Says how surely sentences end: the segmenter if it can, else the packaged one.

        Raises:
            ConfigError: The segmenter cannot, and none is packaged.
        """
        if isinstance(self.segmenter, BoundaryScorer):
            return self.segmenter
        folder = packaged_folder("segmenter")
        if folder is None:
            raise ConfigError(
                f"The segmenter {spec_name(self.settings.segmenter)!r} cannot say how sure it is, "
                "and no trained one is packaged: `chunkwise train segmenter` makes one; set "
                'segmenter={name = "learned", folder = ...}, or use another chunker.'
            )
        return cast("BoundaryScorer", segmenters.build({"name": "learned", "folder": str(folder)}))

    @functools.cached_property
    def forms(self) -> Forms:
        """Makes what is embedded for chunks.

        Raises:
            ConfigError: A bad option, or an algorithm that the embedder cannot serve.
        """
        specs = config.specs_of(self.settings.enrich, "enrich")
        return Forms(
            self.counter,
            {spec_name(spec): self._enricher(spec) for spec in specs},
            situators.build(self.settings.situate, embedder=self.embedder),
        )

    def _enricher(self, spec: Spec) -> Enricher:
        parts: dict[str, Any] = {"counter": self.counter}
        parts["max_tokens"] = self.settings.context_tokens
        for name in {"segmenter", "foreseer"}.intersection(enrichers.options(spec_name(spec))):
            parts[name] = getattr(self, name)
        if _is_written(spec):
            parts["model"] = self.model
        return enrichers.build(spec, **parts)

    @functools.cached_property
    def scorer(self) -> TextScorer:
        """Says how well texts can be foreseen, with `foreseer`."""
        from chunkwise.llm.losses import WindowScorer

        return WindowScorer(cast("LLM", self.foreseer))

    @functools.cached_property
    def continuations(self) -> ContinuationModel:
        """Says how texts that it has read could go on, with `foreseer`."""
        from chunkwise.llm.continuations import ContinuationReader

        return ContinuationReader(cast("LLM", self.foreseer))

    @functools.cached_property
    def foreseer(self) -> ScoringModel:
        """The local language model if one is set, else the packaged one.

        Raises:
            ConfigError: None is set, and none is packaged.
            MissingDependencyError: A package that it needs is not installed.
        """
        config.require_llm()
        from chunkwise.llm.local import LLM

        if self.settings.model and not self.settings.base_url:
            return self.scoring_model
        folder = packaged_folder("nano")
        if folder is None:
            raise ConfigError(
                "No language model is packaged that could tell how likely a text is: set `model` "
                "to a folder, or use another chunker or retriever."
            )
        s = self.settings
        return LLM(
            folder, dtype=s.dtype, kernels=s.kernels, device=s.device, kv_budget_mb=_FORESEER_KV_MB
        )

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The language model: of a server if `base_url` is set, else of a folder.

        Raises:
            ConfigError: None is set, or the folder is not there.
        """
        s = self.settings
        if not s.model:
            raise ConfigError(
                "No language model is set: give `model` (a folder with a Hugging Face "
                "checkpoint), or `base_url` (an OpenAI-compatible server, up to /v1) and `model`, "
                "or use the answerer 'extractive'."
            )
        return self._remote() if s.base_url else self._local()

    @property
    def is_reusing(self) -> bool:
        """Whether a local model is loaded that reuses chunks; loads none."""
        if "model" not in self.__dict__ or self.settings.base_url or not self.settings.reuse:
            return False
        return cast("LLM", self.model).engine.reuse is not None

    def audit(self) -> None:
        """Let the local model, which is loaded and reuses chunks, give answers again that are due
        for it."""
        cast("LLM", self.model).audit()

    @property
    def scoring_model(self) -> ScoringModel:
        """The language model, which must be of a folder: servers do not say how likely texts are.

        Raises:
            ConfigError: It is a server's, or as `model` says.
        """
        if self.settings.base_url:
            raise ConfigError(
                f"`base_url` is {self.settings.base_url!r}: how likely a text is can be told by a "
                "local model only. Leave `base_url` out and set `model` to a folder or its name."
            )
        return cast("ScoringModel", self.model)

    @functools.cached_property
    def kv_bytes_per_token(self) -> int | None:
        """Bytes of keys and values that a token takes in the local model, which is not loaded for
        it; None: none is set."""
        s = self.settings
        folder = find_model(s.model) if s.model and not s.base_url else None
        if folder is None:
            return None
        config.require_llm()
        from chunkwise.llm.local import kv_bytes_per_token

        return kv_bytes_per_token(folder, dtype=s.dtype, device=s.device)

    def _remote(self) -> LanguageModel:
        from chunkwise.llm.remote import RemoteModel

        s = self.settings
        return RemoteModel(s.base_url, s.model, self._key_env, timeout_s=s.request_timeout_s)

    def _local(self) -> LanguageModel:
        s = self.settings
        folder = find_model(s.model)
        if folder is None:
            raise ConfigError(
                f"`model` is {s.model!r}: there is no such folder, no model of that name was added "
                "(`chunkwise models add`), and no `base_url` is set for a model of a server."
                f"{suggestion(s.model)}"
            )
        config.require_llm()
        from chunkwise.llm.local import LLM

        llm = LLM(
            str(folder),
            dtype=s.dtype,
            quantize=s.quantize,
            kernels=s.kernels,
            device=s.device,
            kv_budget_mb=s.kv_budget_mb,
            token_budget=s.token_budget,
            max_sequences=s.max_sequences,
            policy=s.scheduler,
            order=s.queue_order,
            reuse=self._reuse(folder) if s.reuse else None,
        )
        if llm.engine.reuse is not None:
            self.reusing = Reusing(llm, s.reuse, self.chunk_folder, s.reuse_agreement)
            self.reusing.settle(patience_s=PATIENCE_S if s.reuse == "auto" else math.inf)
        return llm

    def _reuse(self, folder: Path) -> ReuseSettings | None:
        """How chunks are reused; they are computed behind what stands before a first passage."""
        from chunkwise.llm.local import ReuseSettings
        from chunkwise.llm.models.base import ModelConfig

        s = self.settings
        if s.reuse == "auto" and any(ModelConfig.from_folder(folder).windows):
            logger.info("Chunks are not reused: the model has a sliding window.")
            return None
        return ReuseSettings(
            AUTO[0] if s.reuse == "auto" else s.reuse,
            anchor=answer_prompt("?", [text_hit("A passage.", "document.txt")]),
            memory_mb=s.chunk_memory_mb,
            folder=self.chunk_folder or "",
            disk_mb=s.chunk_disk_mb,
            disk_dtype=s.chunk_disk_dtype,
            load=s.chunk_load,
            eviction=s.eviction,
            ttl_days=s.chunk_ttl_days,
            audit_ratio=s.reuse_audit,
            audit_least=s.reuse_agreement,
        )

    @functools.cached_property
    def reader(self) -> SpanReader:
        """The trained reader.

        Raises:
            ConfigError: There is none.
            MissingDependencyError: A package that it needs is not installed.
            ModelFormatError: The folder is no reader's.
        """
        folder = config.reader_folder(self.settings)
        if folder is None or not folder.is_dir():
            where = f"`reader_model` is {str(folder)!r}: there is no such folder. "
            raise ConfigError(
                (where if folder else "No trained reader is packaged. ")
                + "`chunkwise train reader` makes one; or use the answerer 'extractive'."
            )
        from chunkwise.rag.answering.reading import SpanReader
        from chunkwise.rag.embedding.bert import fastest_dtype
        from chunkwise.rag.embedding.folder import read_config

        return SpanReader(folder, fastest_dtype(read_config(folder))[0])

    def answerer(self, history: Sequence[tuple[str, str]] = ()) -> Answerer:
        """Answers from hits; `history` is what was asked and answered before, oldest first."""
        spec, s = self.settings.answerer, self.settings
        if s.base_url and not s.model and spec_name(s.embedder) != "openai":
            raise ConfigError(
                f"`base_url` is {s.base_url!r} and no `model` is named; `chunkwise models` lists "
                "what the server has."
            )
        fields = answerers.options(spec_name(spec))
        parts: dict[str, Any] = {"segmenter": self.segmenter}
        if "model" in fields:
            parts["model"] = self.model
            parts["build_prompt"] = functools.partial(answer_prompt, history=history)
            parts["sampling"] = SamplingParams(max_tokens=s.max_tokens)
        if "reader" in fields:
            parts["reader"] = self.reader
        if "embedder" in fields and not self.embedder.is_weak:
            parts["embedder"] = self.embedder
        if s.threshold >= 0:
            if "threshold" not in fields:
                raise ConfigError(
                    f"The answerer {spec_name(spec)!r} has no `threshold`; leave it out."
                )
            parts["threshold"] = s.threshold
        return answerers.build(spec, **parts)

    @functools.cached_property
    def reranker(self) -> Reranker | None:
        """Scores hits again, if one is set."""
        if self.settings.reranker == "none":
            return None
        spec = self.settings.reranker
        wants = "embedder" in rerankers.options(spec_name(spec))
        return rerankers.build(spec, **({"embedder": self.embedder} if wants else {}))

    @functools.cached_property
    def selector(self) -> Selector:
        """Chooses hits under the budget, counted as they are sent."""
        return selectors.build(
            self.settings.selector,
            cost=passage_cost(self.counter),
            counter=self.counter,
            price=self._prices,
        )

    def _prices(self, hits: Sequence[Hit]) -> list[float]:
        """Predicted milliseconds that the local model takes to read hits, each."""
        from chunkwise.llm.local import LLM
        from chunkwise.llm.pricing import chunk_costs

        if not isinstance(self.model, LLM):
            raise ConfigError(
                "Only a local model can say what passages cost: leave `base_url` out, or "
                "`budget_ms` of the selector."
            )
        pieces = self.model.segments(answer_prompt("?", hits))
        chunks = [piece for piece in pieces if piece.content_id is not None]
        costs = dict(
            zip((c.content_id for c in chunks), chunk_costs(self.model, chunks), strict=True)
        )
        return [costs[hit.chunk.id].ms for hit in hits]

    def retriever(self, store: Store) -> Retriever:
        """Finds chunks in a store."""
        return self._retriever(self.settings.retriever, store)

    def _retriever(self, spec: Spec, store: Store) -> Retriever:
        given = {"name": spec} if isinstance(spec, str) else dict(spec)
        fields = retrievers.options(spec_name(spec))
        parts: dict[str, Any] = {"store": store, "counter": self.counter}
        if "embedder" in fields:
            parts["embedder"] = self.embedder
        if "segmenter" in fields:
            parts["segmenter"] = self.segmenter
        if "model" in fields:
            parts["model"] = self.continuations
        if "cut" in fields:
            parts["cut"] = StoreCut(store, self.counter, self.settings.size)
        for other in ("bm25", "dense"):
            if other in fields:
                parts[other] = self._retriever(other, store)
        if "base" in fields:
            base = given.pop("base", "bm25" if self.embedder.is_weak else "hybrid")
            parts["base"] = self._retriever(base, store)
        return retrievers.build(given, **parts)

    @property
    def _key_env(self) -> str | None:
        """The variable with the server's key; None when it is not set: local servers want none."""
        name = self.settings.api_key_env
        return name if os.environ.get(name) else None

    def recipe(self) -> dict[str, str]:
        """One fingerprint a stage: what a stored document depends on."""
        s = self.settings
        fields = chunkers.options(spec_name(s.chunker))
        cut: dict[str, Any] = {"chunker": _stated(s.chunker), "size": s.size, "overlap": s.overlap}
        cut["counter"] = self.counter.fingerprint
        if "segmenter" in fields:
            cut["segmenter"] = self.segmenter.fingerprint
        if "embedder" in fields:
            cut["embedder"] = self.embedder.fingerprint
        if "boundaries" in fields:
            cut["boundaries"] = self.boundaries.fingerprint
        if ("model_folder" in fields or "candidates" in fields) and (
            trained := cast("Any", self.chunker).fingerprint
        ):
            cut["sections"] = trained
        if "scorer" in fields or "model" in fields:
            cut["model"] = self.foreseer.fingerprint
        return {
            "parse": PARSE_VERSION,
            "chunk": json.dumps(cut, sort_keys=True, default=str),
            "embed": f"{self.embedder.fingerprint} context={s.context_tokens}{self._situation()}",
        }

    def _situation(self) -> str:
        """What `enrich` and `situate` say, where it is not what they say by default."""
        s, said = self.settings, ""
        specs = config.specs_of(s.enrich, "enrich")
        stated, situate = [_stated(spec) for spec in specs], _stated(s.situate)
        if stated != ["headings"]:
            said += f" enrich={json.dumps(stated, sort_keys=True)}"
        for name in ("segmenter", "foreseer"):
            if any(name in enrichers.options(spec_name(spec)) for spec in specs):
                said += f" {name}={getattr(self, name).fingerprint}"
        if any(_is_written(spec) for spec in specs):
            said += f" model={self.model.fingerprint}"
        if situate != "none":
            said += f" situate={json.dumps(situate, sort_keys=True)}"
        return said


def _stated(spec: Spec) -> Spec:
    """A spec as recipes state it: the name where there are no options; a model by its fingerprint,
    not by where it lies."""
    if isinstance(spec, str):
        return spec
    options = {option: value for option, value in spec.items() if option != "model_folder"}
    if "candidates" in options:
        options["candidates"] = [_stated(candidate) for candidate in options["candidates"]]
    return options if options.keys() != {"name"} else spec_name(spec)


def _is_written(spec: Spec) -> bool:
    """Whether a language model is asked to enrich."""
    return isinstance(spec, Mapping) and bool(spec.get("write"))


PARSE_VERSION = "1"
"""Raised when a parser's output changes, so that documents are parsed again."""
