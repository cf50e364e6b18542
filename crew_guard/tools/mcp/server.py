"""An MCP server as a source of tools: started, listed, pinned, called, started again, ended."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from crew_guard.core.messages import ToolSpec
from crew_guard.core.tools import MAX_RESULT_CHARS, Tool
from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.tools.mcp.home import Home
from crew_guard.tools.mcp.listing import Listed, choose, fingerprint, read_tools
from crew_guard.tools.mcp.results import MCPError, text_of
from crew_guard.tools.mcp.wire import Wire

if TYPE_CHECKING:
    from mcp import types

    from crew_guard.tools.mcp.link import Link


_of_parents: list[tuple[Home, Link | None]] = []
"""Of the process that this one was forked from: let go of here, they would be closed there."""


@dataclass(slots=True, eq=False, kw_only=True)
class MCPServer:
    """A server and its tools; a context manager, sync or async, that starts and ends it.

    Usable from any thread and any event loop while it is open; a forked child starts the server anew at its first call.
    """

    command: Sequence[str] = ()
    """The program and its arguments, spoken to by its pipes; either this or a url."""
    url: str = ""
    """Of a server that speaks streamable HTTP."""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Variables that the program gets besides a path, a home and a language; none of ours are passed on."""
    cwd: str | Path | None = None
    """The program's working directory."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Sent with each request to the url, e.g. an Authorization."""
    only: Sequence[str] | None = None
    """The server's names of the tools to take; absent takes all."""
    prefix: str = ""
    """Put before the names of its tools, so that two servers can't claim the same."""
    reversible: Sequence[str] = ()
    """The server's names of tools whose effect can be undone; all others are taken to be irreversible."""
    trust_hints: bool = False
    """Believe the server where it says that a tool reads only, or doesn't destroy."""
    pinned: Mapping[str, str] | None = None
    """What `fingerprints` gave when somebody looked at the tools: only these are taken, and only as they were."""
    max_seconds: float | None = 60.0
    """Wall clock of one call; a policy may shorten it."""
    max_result_chars: int = MAX_RESULT_CHARS
    """How much of a result an agent sees."""
    max_bytes: int = 8_000_000
    """The longest message, or answer, that is read; a server that sends more is ended."""
    start_seconds: float = 30.0
    """How long it may take to start and list its tools."""
    restarts: int = 1
    """How often it is started again, at the next call, where it ended by itself."""
    recheck_seconds: float = 60.0
    """Its tools are compared with what they were when a call comes this long after the last look."""
    _home: Home | None = field(default=None, init=False, repr=False)
    _link: Link | None = field(default=None, init=False, repr=False)
    _lock: asyncio.Lock = field(init=False, repr=False)
    _told: dict[str, str] = field(default_factory=dict[str, str], init=False, repr=False)
    _changed: dict[str, str] = field(default_factory=dict[str, str], init=False, repr=False)
    _skipped: dict[str, str] = field(default_factory=dict[str, str], init=False, repr=False)
    _tools: tuple[Tool, ...] = field(default=(), init=False, repr=False)
    _looked: float = field(default=0.0, init=False, repr=False)
    _starts: int = field(default=0, init=False, repr=False)
    _moving: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ConfigError("an MCP server is reached by its command or by its url: give one of them")
        if isinstance(self.command, str):
            raise ConfigError(f"command must be a list of the program and its arguments, not {self.command!r}")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ConfigError("the url of an MCP server must start with http:// or https://")

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Its tools, for Agent(tools=...); they work while it is open.

        Raises:
            ConfigError: it was never started, so nobody knows them
        """
        if not self._told and not self._skipped and self._home is None:
            raise ConfigError("this MCP server was not started: `with MCPServer(...) as server:`, or server.start()")
        return self._tools

    @property
    def skipped(self) -> Mapping[str, str]:
        """The tools that were left out, by the server's name, and why."""
        return MappingProxyType(self._skipped)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """A hash of all that was said of each tool, by the server's name: keep it, and give it as `pinned`."""
        return MappingProxyType(self._told)

    def start(self) -> Self:
        """Start the server and list its tools.

        Raises:
            ConfigError: it can't be reached, or has not the tools that were asked for
            MissingDependencyError: the mcp library is not installed
        """
        opening = self._begin()
        try:
            opening.result()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the server; its tools fail from now on. Waits some seconds at the most."""
        home, self._home = self._home, None
        if home is not None:
            atexit.unregister(self.close)
            if home.is_here:
                home.stop(self._stop())
            else:
                _of_parents.append((home, self._link))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        opening = self._begin()
        try:
            await asyncio.wrap_future(opening)
        except BaseException:
            await asyncio.to_thread(self.close)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def _at_home(self) -> Home:
        """Where its session is, or is to be: a forked child has one of its own, and leaves its parent's alone.

        Raises:
            MCPError: it is closed
        """
        with self._moving:
            if self._home is None:
                raise MCPError("its server is closed")
            if not self._home.is_here:
                _of_parents.append((self._home, self._link))
                self._home, self._link = Home(self._label), None
                self._lock, self._starts = asyncio.Lock(), 0
            return self._home

    # On the server's own loop

    def _begin(self) -> Future[None]:
        if find_spec("mcp") is None:
            raise MissingDependencyError("an MCP server", "mcp")
        if self._home is not None:
            raise ConfigError(f"{self._label} is open already")
        self._home = Home(self._label)
        atexit.register(self.close)
        return self._home.submit(self._start())

    async def _start(self) -> None:
        self._lock = asyncio.Lock()
        self._changed.clear()
        self._starts = 0
        try:
            self._link = await self._connected()
            tools = await self._list(self._link)
        except MCPError as error:
            raise ConfigError(f"{self._label} can't be used: {error}") from None
        self._adopt(tools)

    async def _stop(self) -> None:
        if self._link is not None:
            await self._link.close()

    async def _connected(self) -> Link:
        from crew_guard.tools.mcp.link import Link

        self._starts += 1
        link = Link(self._transport)
        await link.open(self.start_seconds)
        return link

    def _transport(self) -> AbstractAsyncContextManager[Wire]:
        if self.url:
            from crew_guard.tools.mcp.web import Address, over_http

            return over_http(Address(self.url, self.headers, self.max_bytes))
        from crew_guard.tools.mcp.pipes import Launch, piped

        return piped(Launch(self.command, self.env, self.cwd, self.max_bytes))

    async def _list(self, link: Link) -> dict[str, types.Tool]:
        from mcp import types

        def ask(cursor: str | None) -> Any:
            request = types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor))
            return link.ask(types.ClientRequest(request), types.ListToolsResult)

        link.changed = False
        try:
            async with asyncio.timeout(self.start_seconds):
                tools = await read_tools(ask)
        except TimeoutError:
            raise MCPError(f"it did not list its tools within {self.start_seconds:g} s") from None
        except ValueError as error:
            raise MCPError(str(error)) from None
        self._looked = time.monotonic()
        return tools

    def _adopt(self, tools: Mapping[str, types.Tool]) -> None:
        """Take the tools as they are now: from here on they may not change."""
        wanted = list(self.only) if self.only is not None else list(tools)
        if self.pinned is not None:
            wanted = [name for name in self.pinned if self.only is None or name in self.only]
        self._must_be_listed([*wanted, *self.reversible], tools)
        told = {name: fingerprint(tools[name]) for name in wanted}
        for name, hash_ in told.items():
            if self.pinned is not None and self.pinned[name] != hash_:
                raise ConfigError(f"{self._label}: its tool {name!r} is not what was pinned: look at it again")
        listed, self._skipped = choose(tools, self.prefix, wanted)
        self._told = {each.server_name: told[each.server_name] for each in listed}
        self._tools = tuple(self._tool(each) for each in listed)

    def _must_be_listed(self, names: Iterable[str], tools: Mapping[str, types.Tool]) -> None:
        if missing := [name for name in names if name not in tools]:
            listed = ", ".join(sorted(tools)) or "none"
            raise ConfigError(f"{self._label} has no tool {missing[0]!r}; it lists: {listed[:500]}")

    def _tool(self, listed: Listed) -> Tool:
        async def call(**arguments: Any) -> str:
            return await asyncio.wrap_future(self._at_home().submit(self._call(listed.server_name, arguments)))

        return Tool(
            name=listed.name,
            description=listed.description,
            function=call,
            arguments=BaseModel,
            spec=ToolSpec(name=listed.name, description=listed.description, parameters=listed.parameters),
            is_async=True,
            irreversible=self._irreversible(listed),
            max_result_chars=self.max_result_chars,
            max_seconds=self.max_seconds,
            parser=listed.parse,
        )

    def _irreversible(self, listed: Listed) -> bool:
        if listed.server_name in self.reversible:
            return False
        hints = listed.hints if self.trust_hints else None
        return hints is None or not (hints.readOnlyHint is True or hints.destructiveHint is False)

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        from mcp import types

        async with self._lock:
            link = await self._live_link()
        if reason := self._changed.get(name):
            raise MCPError(reason)
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
        # Not the library's call_tool: it would run the server's own regular expressions over the answer.
        return text_of(await link.ask(types.ClientRequest(request), types.CallToolResult))

    async def _live_link(self) -> Link:
        """The session, opened again where it ended; the tools compared with what they were."""
        link = self._link
        if link is None or link.over.done():
            if self._starts > self.restarts:
                raise MCPError(f"its server is gone: {link.over.result() if link else 'it was not started again'}")
            link = self._link = None
            link = await self._connected()
            self._compare(await self._list(link))
            self._link = link
        elif link.changed or time.monotonic() - self._looked >= self.recheck_seconds:
            self._compare(await self._list(link))
        return link

    def _compare(self, tools: Mapping[str, types.Tool]) -> None:
        for name, hash_ in self._told.items():
            now = tools.get(name)
            if now is None:
                self._changed.setdefault(name, "refused: its server no longer lists it")
            elif fingerprint(now) != hash_:
                self._changed[name] = "refused: its server describes it otherwise than when it was given to the agent"

    @property
    def _label(self) -> str:
        # No arguments, no query: they may hold keys.
        where = Path(self.command[0]).name if self.command else self.url.partition("?")[0].rpartition("@")[2]
        return f"the MCP server {where!r}"
