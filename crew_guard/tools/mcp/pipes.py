"""A server as a child process, its messages lines on pipes; no line, and no noise, is longer than a bound.

The library's own transport puts what arrives together without a bound: a server that prints 100 MB
without a line's end would fill the memory. Messages and sessions are the library's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from crew_guard.tools.mcp.lines import message_of
from crew_guard.tools.mcp.results import MCPError
from crew_guard.tools.mcp.wire import Wire

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

_GRACE = 2.0
"""Seconds that a server has to end after its input was closed, and after it was told to."""
_TAIL = 2_000
"""Bytes kept of what it last wrote to stderr."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the process."""

    command: Sequence[str]
    env: Mapping[str, str]
    """Added to what every server gets: a path, a home, a language, and none of our keys."""
    cwd: str | Path | None
    max_bytes: int


@asynccontextmanager
async def piped(launch: Launch) -> AsyncGenerator[Wire]:
    """Start the process, and end it with all its children."""
    from mcp.client.stdio import get_default_environment

    try:
        process = await asyncio.create_subprocess_exec(
            *launch.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**get_default_environment(), **launch.env},
            cwd=launch.cwd,
            limit=launch.max_bytes,
            # Its own group: Ctrl-C is for us to act on, and its children end with it.
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise MCPError(f"{launch.command[0]!r} can't be started: {error}") from error
    incoming, received = anyio.create_memory_object_stream[Any](0)
    sending, outgoing = anyio.create_memory_object_stream[Any](0)
    wire = Wire(received, sending)
    tail = bytearray()
    tasks = [
        asyncio.create_task(_drain(process, tail)),
        asyncio.create_task(_write(process, outgoing)),
        asyncio.create_task(_read(process, incoming, launch.max_bytes, tail, wire)),
    ]
    try:
        yield wire
    finally:
        for stream in (incoming, received, sending, outgoing):
            stream.close()
        for task in tasks[1:]:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await _end(process, patient=not wire.broken)
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _read(process: asyncio.subprocess.Process, incoming: Any, bound: int, tail: bytearray, wire: Wire) -> None:
    from mcp import types
    from mcp.shared.message import SessionMessage

    assert process.stdout is not None  # noqa: S101  it was opened as a pipe
    noise = 0
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                wire.end(f"it wrote a line longer than {bound:,} bytes", broken=True)
                break
            except asyncio.IncompleteReadError:
                wire.end(await _how_it_ended(process, tail))
                break
            message = message_of(line)
            answers = message is not None and isinstance(message.root, types.JSONRPCResponse | types.JSONRPCError)
            noise = 0 if answers else noise + len(line)
            if noise > bound:
                wire.end(f"it wrote more than {bound:,} bytes that answer nothing", broken=True)
                break
            if message is not None:
                await incoming.send(SessionMessage(message))
    incoming.close()


async def _how_it_ended(process: asyncio.subprocess.Process, tail: bytearray) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            code = await process.wait()
            last = bytes(tail).decode(errors="replace").strip().rpartition("\n")[2]
            return f"it ended with exit status {code}{': ' + last if last else ''}"
    return "it closed its output"


async def _write(process: asyncio.subprocess.Process, outgoing: Any) -> None:
    assert process.stdin is not None  # noqa: S101  it was opened as a pipe
    with suppress(OSError, anyio.ClosedResourceError):
        item: SessionMessage
        async for item in outgoing:
            process.stdin.write(item.message.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")
            await process.stdin.drain()


async def _drain(process: asyncio.subprocess.Process, tail: bytearray) -> None:
    """Read what it writes to stderr, so that it never blocks on it, and keep the end."""
    assert process.stderr is not None  # noqa: S101  it was opened as a pipe
    while chunk := await process.stderr.read(65_536):
        tail += chunk
        del tail[:-_TAIL]


async def _end(process: asyncio.subprocess.Process, *, patient: bool) -> None:
    assert process.stdin is not None  # noqa: S101  it was opened as a pipe
    process.stdin.close()
    steps: tuple[signal.Signals | None, ...] = (None, signal.SIGTERM) if patient else ()
    for step in steps:
        if step is not None:
            _signal(process, step)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await process.wait()
                break
    # Always: its children may have outlived it.
    _signal(process, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, which: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, which)
