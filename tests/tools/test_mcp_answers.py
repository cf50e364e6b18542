"""What an MCP server answers, line by line: errors of any number, and answers that can't be read."""

import asyncio
import gc
import sys
import warnings

import pytest

from crew_guard.tools.mcp import MCPError, MCPServer

SERVER = r"""
import json, sys

def answer(line):
    asked = json.loads(line)
    if asked["method"] == "initialize":
        told = {"tools": {}}
        server = {"name": "raw", "version": "1"}
        version = asked["params"]["protocolVersion"]
        return json.dumps({"protocolVersion": version, "capabilities": told, "serverInfo": server})
    if asked["method"] == "tools/list":
        return json.dumps({"tools": [{"name": "say", "inputSchema": {"type": "object"}}]})
    return None

for line in sys.stdin:
    number = json.loads(line).get("id")
    if number is None:
        continue
    result = answer(line)
    if result is None:
        print(json.loads(line)["params"]["arguments"]["raw"].replace("NUMBER", str(number)), flush=True)
    else:
        print('{"jsonrpc": "2.0", "id": %d, "result": %s}' % (number, result), flush=True)
"""
ERROR = '{"jsonrpc": "2.0", "id": NUMBER, "error": {"code": %d, "message": "the quota is used up"}}'
TEXT = '{"jsonrpc": "2.0", "id": NUMBER, "result": {"content": [{"type": "text", "text": "%s"}]}}'
MANY = "9" * 5_000
DEEP = '{"a":' * 3_000 + "1" + "}" * 3_000
INNER = '{"id": 77}'
pytestmark = pytest.mark.xdist_group("mcp")


def said(raw: str, within: float = 30) -> str:
    """What the agent reads where its server answers with this line."""

    async def call(server: MCPServer) -> str:
        async with asyncio.timeout(within):
            return await server.tools[0].function(raw=raw)

    with MCPServer(command=[sys.executable, "-c", SERVER], restarts=0) as server:
        return asyncio.run(call(server))


@pytest.mark.parametrize("code", [-32000, -32001, 7])
def test_a_servers_error_is_told_in_its_words_at_once(code: int) -> None:
    """Also where its number is the one that the library gives to a connection that ended."""
    with pytest.raises(MCPError, match=r"^the quota is used up$"):
        said(ERROR % code)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (TEXT % r"well done \ud83d", "well done \ufffd"),
        (TEXT % r"\ude00\ud83d", "\ufffd\ufffd"),
        (TEXT % r"\\ud83d \ud83d\uDE00 \ud83d", "\\ud83d \U0001f600 \ufffd"),
        (TEXT.replace("NUMBER", '"NUMBER"') % r"\udfff", "\ufffd"),
    ],
)
def test_half_a_character_is_replaced(raw: str, text: str) -> None:
    """JavaScript cuts texts in the middle of an emoji; what is whole stays as it is."""
    assert said(raw) == text


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ('{"jsonrpc": "2.0", "id": NUMBER, "result": null}', "expected an object as its result"),
        ('{"jsonrpc": "2.0", "id": "NUMBER"}', "expected an object as its result"),
        ('{"jsonrpc": "2.0", "id": NUMBER, "error": "no"}', "an error with a code and a message"),
        (f'{{"id": NUMBER, "jsonrpc": "2.0", "result": {{"structuredContent": {DEEP}}}}}', "recursion limit"),
        (f'{{"result": {DEEP.replace("1", INNER)}, "jsonrpc": "2.0", "id": NUMBER}}', "recursion limit"),
        (f'{{"jsonrpc": "2.0", "id": NUMBER, "result": {{"a": {MANY}}}}}', "number out of range"),
        ('{"jsonrpc": "2.0", "id": NUMBER, "result": {"a": "', "Invalid JSON"),
    ],
)
def test_an_answer_that_cannot_be_read_fails_its_call_at_once(raw: str, why: str) -> None:
    """The call need not wait for its max_seconds, and the reason is told."""
    with pytest.raises(MCPError, match=f"its answer can't be read: .*{why}"):
        said(raw)


@pytest.mark.parametrize(
    "noise",
    [
        '{"id": NUMBER, "level": "info"}',
        f'{{"jsonrpc": "2.0", "id": NUMBER, "method": "ask", "params": {{"a": {MANY}}}}}',
        'print: {"jsonrpc": "2.0", "id": NUMBER, "result": null}',
        '{"jsonrpc": "2.0", "id": NUMBER.5, "result": null}',
        f'{{"jsonrpc": "2.0", "result": {{"jsonrpc": "2.0", "id": NUMBER, "a": {MANY}}}}}',
    ],
)
def test_what_answers_nothing_fails_nothing(noise: str) -> None:
    """Prints, and what the server asks of us in turn, may hold the number of a call by chance."""
    assert said(f"{noise}\n{TEXT % 'here I am'}") == "here I am"


def test_a_call_that_is_called_off_as_the_server_is_closed_leaves_nothing_behind() -> None:
    """The notice to the server is made where it is sent, or not at all."""
    with warnings.catch_warnings(record=True) as unawaited:
        warnings.simplefilter("always")
        with pytest.raises(TimeoutError):
            said("", within=0.2)
        gc.collect()
    assert [str(one.message) for one in unawaited] == []
