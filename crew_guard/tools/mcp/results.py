"""What a server's tool gave back, as text for an agent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp import types


class MCPError(Exception):
    """A server, or a tool of it, did not do what it was asked. The text is for the agent."""


def text_of(result: types.CallToolResult) -> str:
    """The result's text; what is not text is named, with its size.

    Raises:
        MCPError: the tool itself says that it failed
    """
    text = "\n".join(_block(block) for block in result.content)
    if not text and result.structuredContent is not None:
        text = json.dumps(result.structuredContent, ensure_ascii=False)
    if result.isError:
        raise MCPError(text or "it failed, and doesn't say why")
    return text


def _block(block: types.ContentBlock) -> str:
    if block.type == "text":
        return block.text
    if block.type == "resource":
        resource = block.resource
        text = getattr(resource, "text", None)
        return text if isinstance(text, str) else f"[a file of {resource.mimeType or 'unknown kind'}: {resource.uri}]"
    if block.type == "resource_link":
        return f"[a link: {block.name}, {block.uri}]"
    return f"[{block.type}: {block.mimeType}, {len(block.data) * 3 // 4:,} bytes]"
