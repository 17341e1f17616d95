"""Where the wings meet: ingest documents, ask questions."""
