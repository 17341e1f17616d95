"""Everything Chunkwise raises on purpose.

ChunkwiseError
├── ConfigError(ValueError)             a setting or option that cannot be used
│   └── UnknownNameError                no algorithm of that name in the room
├── MissingDependencyError(ImportError) an extra that is not installed
├── DocumentError                       one document that could not be read
│   └── UnsupportedFormatError          no parser takes it
├── IndexMismatchError                  vectors of another embedder than the one asked with
├── StoreError                          the corpus on disk: damaged, locked, not there
│   └── CorpusLockedError               another process is writing
├── ModelFormatError                    a model folder that cannot be used
├── TrainingError                       training that cannot start or go on
│   ├── TrainingDataError               data that is missing or not in the form it should have
│   └── CheckpointError                 a checkpoint that cannot be written, read or continued
├── RequestError                        a request that cannot be answered as asked
│   ├── PromptTooLongError              a prompt beyond the context or the KV budget
│   └── OutOfMemoryForKVError           a KV budget that cannot hold what one request needs
└── RemoteError                         another server failed
"""

from __future__ import annotations


class ChunkwiseError(Exception):
    """Base of all errors raised on purpose; its text is a sentence for the user."""


class ConfigError(ChunkwiseError, ValueError):
    """A setting or option has a value that cannot be used."""


class UnknownNameError(ConfigError):
    """No algorithm of that name; the message suggests the nearest."""


class MissingDependencyError(ChunkwiseError, ImportError):
    """An optional package is needed; the message has the pip line."""


class DocumentError(ChunkwiseError):
    """One document could not be read.

    Args:
        name: The document, as the user named it.
        reason: What is wrong and, where there is one, the remedy.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[DocumentError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class UnsupportedFormatError(DocumentError):
    """No parser takes this kind of file."""


class IndexMismatchError(ChunkwiseError):
    """The stored vectors come from another embedder than the one in use."""


class StoreError(ChunkwiseError):
    """The corpus on disk is damaged, not there, or cannot be written."""


class CorpusLockedError(StoreError):
    """Another process is writing to the corpus."""


class ModelFormatError(ChunkwiseError):
    """A model folder lacks a file, a tensor or a known architecture."""


class TrainingError(ChunkwiseError):
    """Training cannot start or go on."""


class TrainingDataError(TrainingError):
    """Training data is missing or has another form than it should."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written or read, or is of another run."""


class RequestError(ChunkwiseError):
    """A request cannot be answered as it was asked."""


class PromptTooLongError(RequestError):
    """The prompt does not fit the model's context or the memory kept for KV."""


class OutOfMemoryForKVError(RequestError):
    """The KV budget is too small for one request even when nothing else runs."""


class RemoteError(ChunkwiseError):
    """A remote server failed, after retries where they could help."""
