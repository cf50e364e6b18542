"""What a server says of its tools: untrusted text, cleaned, bounded, and pinned by its hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from crew_guard.core.messages import JsonObject
from crew_guard.tools.mcp.schemas import argument_parser

if TYPE_CHECKING:
    from mcp import types

MAX_TOOLS = 200
MAX_PAGES = 50
MAX_DESCRIPTION_CHARS = 2_000
_MAX_NAME_CHARS = 64
_SAID_TO_THE_MODEL = ("description", "title")


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool as the server described it."""

    server_name: str
    """What the server calls it."""
    name: str
    """What agents and policies call it."""
    description: str
    parameters: JsonObject
    parse: Callable[[str], dict[str, Any]]
    hints: types.ToolAnnotations | None


def fingerprint(tool: types.Tool) -> str:
    """SHA-256 of all that an agent, or a person who chose the tool, was told of it; in hexadecimal."""
    told = tool.model_dump(mode="json", include={"name", "description", "inputSchema", "annotations"})
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


async def read_tools(ask: Callable[[str | None], Awaitable[types.ListToolsResult]]) -> dict[str, types.Tool]:
    """Every tool that the server lists, page by page, by the server's own name.

    Raises:
        ValueError: it lists too many, or one name twice
    """
    found: dict[str, types.Tool] = {}
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await ask(cursor)
        for tool in page.tools:
            if tool.name in found:
                raise ValueError(f"it lists two tools named {tool.name[:100]!r}")
            found[tool.name] = tool
        cursor = page.nextCursor
        if len(found) > MAX_TOOLS:
            break
        if not cursor:
            return found
    raise ValueError(f"it lists more than {MAX_TOOLS} tools, or more than {MAX_PAGES} pages of them")


def choose(
    tools: Mapping[str, types.Tool], prefix: str, only: Sequence[str] | None
) -> tuple[list[Listed], dict[str, str]]:
    """(the tools that can be used, why the others can't, by the server's name)."""
    taken: dict[str, Listed] = {}
    skipped: dict[str, str] = {}
    for server_name, tool in tools.items():
        if only is not None and server_name not in only:
            skipped[server_name] = "not among those asked for"
            continue
        name = f"{prefix}{re.sub(r'[^A-Za-z0-9_-]', '_', server_name)}"
        if name in taken:
            skipped[server_name] = f"its name, {name}, is taken by {taken[name].server_name!r}"
            continue
        if not 0 < len(name) <= _MAX_NAME_CHARS:
            skipped[server_name] = f"its name, with the prefix, must have 1 to {_MAX_NAME_CHARS} characters"
            continue
        try:
            taken[name] = _listed(name, tool)
        except ValueError as error:
            skipped[server_name] = str(error)
    return list(taken.values()), skipped


def _listed(name: str, tool: types.Tool) -> Listed:
    text = _clean(tool.description or tool.title or tool.name)
    if len(text) > MAX_DESCRIPTION_CHARS:
        text = f"{text[:MAX_DESCRIPTION_CHARS]} [cut]"
    parse = argument_parser(name, tool.inputSchema)
    return Listed(tool.name, name, text, _clean_schema(tool.inputSchema), parse, tool.annotations)


def _clean(text: str) -> str:
    """Without what a person who reads it wouldn't see: control, zero-width and tag characters."""
    return "".join(each for each in text if each.isprintable() or each in "\n\t").strip()


def _clean_schema(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _clean(value) if key in _SAID_TO_THE_MODEL and isinstance(value, str) else _clean_schema(value)
            for key, value in cast("dict[str, Any]", part).items()
        }
    return [_clean_schema(value) for value in cast("list[Any]", part)] if isinstance(part, list) else part
