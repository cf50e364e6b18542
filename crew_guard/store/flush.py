"""When something is on disk."""

from __future__ import annotations

from crew_guard.promises import Promise


class Flush(Promise[None]):
    """Done once, by the writer; waited for from any thread. A Flushed of ports."""

    __slots__ = ()

    def finish(self, error: BaseException | None = None) -> None:
        """Say that it is on disk, or why it isn't. Once."""
        self._error = error
        self._tell()


def failed(error: BaseException) -> Flush:
    """One that is done, and isn't on disk."""
    flush = Flush()
    flush.finish(error)
    return flush


ON_DISK = Flush()
"""For what has nothing to wait for."""
ON_DISK.finish()
