"""Tools of MCP servers, behind the same gate as any other.

    with MCPServer(command=["my-server"]) as server:
        agent = Agent(role, tools=server.tools)

A server lives on a thread and a loop of its own: sync and async callers, and any number of runs, share it.
"""

from crew_guard.tools.mcp.results import MCPError
from crew_guard.tools.mcp.server import MCPServer

__all__ = ["MCPError", "MCPServer"]
