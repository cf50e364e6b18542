"""Threads that a node starts by hand belong to its run, too: LangGraph's own inherit the context, Python's don't.

Where no guarded run is the context, threads and pools do what they always do. So does a thread whose run came to its
end: one that was begun to work for all that follow belongs to none of them.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from typing import Any, cast

from crew_guard.adapters.langgraph.scope import current, scope_here


def install() -> None:
    """Patch Thread.start and ThreadPoolExecutor.submit; call it once."""
    start, submit = threading.Thread.start, cast(Any, ThreadPoolExecutor.submit)

    @wraps(start)
    def started(thread: threading.Thread) -> None:
        if scope_here() is not None:
            run, context = thread.run, copy_context()
            thread.run = lambda: context.run(run)
        start(thread)

    @wraps(submit)
    def submitted(pool: ThreadPoolExecutor, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if scope_here() is None:
            return submit(pool, work, *args, **kwargs)
        context = copy_context()
        token = current.set(None)  # a thread that the pool starts now serves others later
        try:
            return submit(pool, context.run, work, *args, **kwargs)
        finally:
            current.reset(token)

    cast(Any, threading.Thread).start = started
    ThreadPoolExecutor.submit = cast(Any, submitted)
