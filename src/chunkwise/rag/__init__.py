"""The text wing: documents, chunks, vectors, hits, passages. Imports no torch by itself."""
