"""An MCP server with one tool, that speaks by its pipes."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("looks", log_level="CRITICAL")


@server.tool()
def look(query: str) -> str:
    """Look something up."""
    return f"found {query}"


if __name__ == "__main__":
    server.run()
