"""Parsers: bytes in, one canonical text with blocks out. One format family a file."""

from chunkwise.rag.parsing.base import DocumentBuilder, Parser, choose, parse, parsers

__all__ = ["DocumentBuilder", "Parser", "choose", "parse", "parsers"]
