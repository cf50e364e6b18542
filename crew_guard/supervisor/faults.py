"""What an exception that ended a part of a run is called in its result."""

from __future__ import annotations

from crew_guard.core.plain import error_text, error_words
from crew_guard.errors import ModelError, RunFailedError, StoreError
from crew_guard.workflows.context import NodeFailedError, node_of


def words_of(error: BaseException) -> str:
    """What an exception says, its kind where it isn't ours, and the workflow's node that it comes from."""
    ours = isinstance(error, StoreError | ModelError | RunFailedError | NodeFailedError)
    told = (error_text(error) if ours else "") or error_words(error)
    node = "" if isinstance(error, StoreError) else node_of(error)
    return f"node {node!r}: {told}" if node else told
