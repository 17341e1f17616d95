"""Questions over several passages, drawn afresh: one kind a file, registered in `base.kinds`."""

from chunkwise.training.nano.questions.base import Context, Draft, Kind, Question, compose, kinds
from chunkwise.training.nano.questions.names import Names

__all__ = ["Context", "Draft", "Kind", "Names", "Question", "compose", "kinds"]
