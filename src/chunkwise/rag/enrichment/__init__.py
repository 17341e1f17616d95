"""Enrichment: what is put before a chunk's text when it is embedded, and never into its span."""

from chunkwise.rag.enrichment.base import Enricher, enrichers

__all__ = ["Enricher", "enrichers"]
