"""Stdout is the answer's alone.

While a command runs, tools and libraries that print, even from C or from a child process, find stderr
where stdout was. What a terminal can't show, or nobody reads any more, never ends a run.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def whole_streams() -> None:
    """Make sure that stdin, stdout and stderr are there: else the next file opened would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - stderr, the last of the three
        continue
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class Stdout:
    """The real stdout, kept for the answer. Only one exists at a time."""

    def __init__(self) -> None:
        self._kept = sys.stdout
        self._descriptor = _take_over()
        self._raw: _Raw | None = None
        if self._descriptor is None:
            self.stream: TextIO = self._kept
            sys.stdout = sys.stderr
        else:
            encoding = getattr(self._kept, "encoding", None) or "utf-8"
            self._raw = _Raw(self._descriptor, "wb")
            self.stream = io.TextIOWrapper(io.BufferedWriter(self._raw), encoding=encoding, errors="replace")

    @property
    def failure(self) -> OSError | None:
        """Why the answer could not be written, if it could not."""
        return None if self._raw is None else self._raw.failure

    def text(self, text: str) -> None:
        """Write text as it is."""
        with contextlib.suppress(BrokenPipeError):
            self.stream.write(text)
            self.stream.flush()

    def json(self, value: Any) -> None:
        """Write one JSON object and a newline, in UTF-8 whatever the terminal's encoding is."""
        # A lone surrogate has no UTF-8: as a JSON escape it is still the same text.
        line = json.dumps(_finite(value), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with contextlib.suppress(BrokenPipeError):
            self.stream.flush()
            buffer = getattr(self.stream, "buffer", None)
            if buffer is None:
                self.stream.write(line.decode())
            else:
                buffer.write(line)
                buffer.flush()

    def close(self) -> None:
        """Flush it. The process's descriptor stays on stderr: a thread left behind may still print."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()
        if self._descriptor is None:
            sys.stdout = self._kept
        else:
            with contextlib.suppress(OSError, ValueError):
                self.stream.close()


class _Raw(io.FileIO):
    """A descriptor that keeps why it could not be written: a full disk elsewhere raises the same."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int | None:
        """Write it.

        Raises:
            OSError: it can't be
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = error
            raise


def _take_over() -> int | None:
    """A copy of stdout's descriptor, which itself becomes stderr; None where stdout is no descriptor."""
    try:
        sys.stdout.flush()
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return None
    copy = os.dup(number)
    os.dup2(sys.stderr.fileno() if _has_descriptor(sys.stderr) else 2, number)
    return copy


def _has_descriptor(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


def say(text: str) -> None:
    """A line on stderr, or several, with control characters escaped; nobody has to read it."""
    from crew_guard.observers.words import escaped  # --help needs none of it

    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{escaped(text)}\n")
        sys.stderr.flush()


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast(list[Any], value)]
    return value
