"""MCP servers, as real processes by pipes and over HTTP: honest, broken and hostile ones."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore
from crew_guard.tools.mcp import MCPError, MCPServer
from tests.forks import forked

PROGRAM = [sys.executable, str(Path(__file__).with_name("mcp_server.py"))]
pytestmark = pytest.mark.xdist_group("mcp")


def by_pipes(**options: object) -> MCPServer:
    return MCPServer(command=PROGRAM, **options)


@pytest.fixture(scope="module")
def shared() -> Iterator[MCPServer]:
    """One server for the tests that don't harm it."""
    with by_pipes(restarts=0) as server:
        yield server


@pytest.fixture
def address() -> Iterator[str]:
    process = subprocess.Popen([*PROGRAM, "http"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())}/mcp"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def tool_of(server: MCPServer, name: str):
    return next(tool for tool in server.tools if tool.name == name)


def use(server: MCPServer, name: str, **arguments: object) -> str:
    tool = tool_of(server, name)

    async def call() -> str:
        async with asyncio.timeout(60):
            return await tool.function(**tool.parse(json.dumps(arguments)))

    return asyncio.run(call())


def test_a_crew_uses_a_servers_tools_under_its_policy(shared: MCPServer) -> None:
    """Sync run(): descriptions reach the model, results the agent, caps count, a bad argument starts nothing."""
    model = ScriptedModel(
        [
            Reply(tools=(("add", '{"a": 2, "b": "three"}'),)),
            Reply(tools=(("add", '{"a": 2, "b": 3}'),)),
            Reply(tools=(("add", '{"a": 2, "b": 4}'),)),
            "it is 5",
        ]
    )
    policy = Policy.model_validate({"tools": {"limits": {"add": {"max_tool_calls": 1, "usd": "0.25"}}}})
    crew = Crew([Agent(Role(name="adder", goal="add"), shared.tools)], [Task("2 + 3?")])
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew)
    assert result.done, result
    assert (result.usage.tool_calls, str(result.usage.usd)) == (1, "0.25")
    said = [message.text for message in model.calls[-1].request.messages if message.speaker == "tool"]
    assert "arguments of add: b: 'three' is not of type 'integer'" in said[0]
    assert said[1] == "5"
    assert "add was refused" in said[2]
    assert model.calls[0].request.tools[0].description == "Add two whole numbers."


def test_a_call_beyond_its_time_is_ended_and_the_server_told(shared: MCPServer) -> None:
    """The policy's max_seconds ends the wait; the server's own function is cancelled; the server lives on."""
    before = int(use(shared, "cancelled"))
    model = ScriptedModel([Reply(tools=(("hang", "{}"),)), "never mind"])
    policy = Policy.model_validate({"tools": {"limits": {"hang": {"max_seconds": 0.2}}}})
    crew = Crew([Agent(Role(name="waiter", goal="wait"), shared.tools)], [Task("wait")])
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew)
    assert result.done
    said = next(message.text for message in model.calls[-1].request.messages if message.speaker == "tool")
    assert said == "hang was ended after 0.2 s, its max_seconds"
    assert int(use(shared, "cancelled", at_least=before + 1)) == before + 1


def test_many_threads_and_loops_share_a_server(shared: MCPServer) -> None:
    """Each gets its own answer."""
    answers: dict[int, str] = {}

    def one(number: int) -> None:
        answers[number] = use(shared, "add", a=number, b=number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(2 * number) for number in range(16)}


def test_a_server_gets_none_of_our_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment has a path and a home, what it was given, and no variable of ours."""
    monkeypatch.setenv("SECRET_API_KEY", "sk-not-for-you")
    with by_pipes(env={"FOR_THE_SERVER": "1"}) as server:
        names = use(server, "environment")
    assert "SECRET_API_KEY" not in names
    assert "FOR_THE_SERVER" in names
    assert "sk-" not in repr(by_pipes(env={"TOKEN": "sk-secret"}, headers={}))


def test_results_are_text(shared: MCPServer) -> None:
    """A picture is named with its size; a tool's own failure is an error with its words."""
    assert use(shared, "picture") == "[image: image/png, 102 bytes]"
    with pytest.raises(MCPError, match="the disk is on fire"):
        use(shared, "fail")


def test_a_server_can_ask_us_for_nothing(shared: MCPServer) -> None:
    """What it asks of our model is not answered; prints between messages do no harm."""
    assert use(shared, "ask_back") == "no answer"
    assert use(shared, "noise") == "said hello"
    assert use(shared, "add", a=1, b=1) == "2"


@pytest.mark.parametrize("line", [False, True])
def test_a_server_that_floods_is_ended_and_started_again_once(line: bool) -> None:
    """100 MB are never held: it is ended at the bound; the next call starts it again, but not for ever."""
    with by_pipes(max_bytes=4_000_000) as server:
        with pytest.raises(MCPError, match="4,000,000 bytes"):
            use(server, "flood", megabytes=100, line=line)
        assert use(server, "add", a=1, b=1) == "2"
        with pytest.raises(MCPError, match="4,000,000 bytes"):
            use(server, "flood", megabytes=100, line=line)
        with pytest.raises(MCPError, match="its server is gone: it wrote"):
            use(server, "add", a=1, b=1)


def test_a_server_that_dies_says_how() -> None:
    """Exit status and last words are in the agent's result; the run goes on."""
    with by_pipes(restarts=0) as server:
        with pytest.raises(MCPError, match="it ended with exit status 3: out of cheese"):
            use(server, "die")
        with pytest.raises(MCPError, match="its server is gone"):
            use(server, "add", a=1, b=1)


@pytest.mark.parametrize(("loudly", "recheck"), [(True, 1e9), (False, 0.0)])
def test_a_tool_that_changes_its_description_is_refused(loudly: bool, recheck: float) -> None:
    """Announced or found out: the new words never reach an agent, the tool is closed, others work."""
    with by_pipes(recheck_seconds=recheck) as server:
        before = tool_of(server, "add").description
        assert use(server, "turn_coat", loudly=loudly) == "done"
        with pytest.raises(MCPError, match="describes it otherwise"):
            use(server, "add", a=1, b=1)
        assert tool_of(server, "add").description == before
        assert use(server, "repeat", text="x", times=3) == "xxx"


def test_a_pinned_tool_must_be_what_it_was() -> None:
    """Pins of an earlier look choose the tools; another hash is an error at the start."""
    with by_pipes(only=["add"]) as server:
        pins = dict(server.fingerprints)
    assert list(pins) == ["add"]
    with by_pipes(pinned=pins) as server:
        assert [tool.name for tool in server.tools] == ["add"]
    with pytest.raises(ConfigError, match="'add' is not what was pinned"):
        by_pipes(pinned={"add": "0" * 64}).start()


def test_every_tool_is_irreversible_unless_somebody_we_trust_says_otherwise() -> None:
    """A server's own hints count only where the user believes them."""
    with by_pipes(prefix="odd_", only=["add", "fail"]) as plain:
        assert {tool.name: tool.irreversible for tool in plain.tools} == {"odd_add": True, "odd_fail": True}
        assert plain.skipped["hang"] == "not among those asked for"
    with by_pipes(only=["add", "fail"], trust_hints=True) as believed:
        assert {tool.name: tool.irreversible for tool in believed.tools} == {"add": False, "fail": True}
    with by_pipes(only=["add", "fail"], reversible=["fail"]) as named:
        assert {tool.name: tool.irreversible for tool in named.tools} == {"add": True, "fail": False}


def test_what_cannot_be_started_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program, a program that is no server, one that never answers, a tool that isn't there, no library."""
    with pytest.raises(ConfigError, match="'no-such-program' can't be used: 'no-such-program' can't be started"):
        MCPServer(command=["no-such-program"]).start()
    with pytest.raises(ConfigError, match="it ended with exit status 0"):
        MCPServer(command=[sys.executable, "-c", "print('hi')", "sk-secret"]).start()
    with pytest.raises(ConfigError, match=r"it did not answer within 0\.3 s"):
        MCPServer(command=[sys.executable, "-c", "import sys; sys.stdin.read()"], start_seconds=0.3).start()
    with pytest.raises(ConfigError, match=r"has no tool 'subtract'; it lists: add, ask_back"):
        by_pipes(only=["subtract"]).start()
    with pytest.raises(ConfigError, match="its command or by its url"):
        MCPServer()
    with pytest.raises(ConfigError, match="must be a list of the program and its arguments"):
        MCPServer(command="server --port 1")
    monkeypatch.setattr("crew_guard.tools.mcp.server.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"crew-guard\[mcp\]"):
        by_pipes().start()


def a_child_can_use(server: MCPServer) -> bool:
    """And closes it."""

    def uses() -> bool:
        told = use(server, "add", a=2, b=3)
        server.close()
        return told == "5"

    return forked(uses)


FORKS = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class TestForked:
    """A server that was opened before a fork."""

    pytestmark = FORKS

    def test_a_child_starts_it_anew_and_leaves_the_parents_alone(self) -> None:
        """However many children there are, and however often it was used before."""
        with by_pipes(restarts=0) as server:
            assert use(server, "add", a=2, b=3) == "5"
            assert a_child_can_use(server)
            assert a_child_can_use(server)
            assert use(server, "add", a=2, b=4) == "6"

    def test_over_http_too(self, address: str) -> None:
        """The child has connections of its own."""
        with MCPServer(url=address) as server:
            assert a_child_can_use(server)
            assert use(server, "add", a=2, b=4) == "6"

    def test_a_child_that_only_closes_it_closes_nothing_of_the_parents(self) -> None:
        """As its atexit does."""
        with by_pipes(restarts=0) as server:
            assert forked(lambda: server.close() is None)
            assert use(server, "add", a=2, b=4) == "6"


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_closed_server_over_http_leaves_no_stream_open(address: str) -> None:
    """The library leaves the one that is read from to its reader."""
    unclosed: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, unclosed.append
    try:
        with MCPServer(url=address) as server:
            assert use(server, "add", a=2, b=3) == "5"
        del server
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert [str(one.exc_value) for one in unclosed] == []


def test_a_closed_server_leaves_no_process_and_no_thread() -> None:
    """Both are gone when close returns; its tools fail with a reason."""
    before = set(threading.enumerate())
    server = by_pipes().start()
    pid = int(use(server, "process"))
    server.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not [thread for thread in set(threading.enumerate()) - before if "MCP server" in thread.name]
    with pytest.raises(MCPError, match="its server is closed"):
        use(server, "add", a=1, b=1)


def test_over_http(address: str) -> None:
    """The same by streamable HTTP, from async code; an answer beyond the bound fails its call only."""

    async def scenario() -> None:
        async with MCPServer(url=address, max_bytes=1_000_000, restarts=0) as server:
            tools = {tool.name: tool for tool in server.tools}
            assert await tools["add"].function(a=20, b=3) == "23"
            with pytest.raises(MCPError, match="longer than 1,000,000 bytes"):
                await tools["repeat"].function(text="x" * 1_000, times=5_000)
            assert await tools["ask_back"].function() == "no answer"
            hanging = asyncio.ensure_future(tools["hang"].function())
            assert await tools["hangs"].function() == "true"  # else it might be called off before it came
            hanging.cancel()
            await asyncio.wait({hanging})
            assert await tools["cancelled"].function(at_least=1) == "1"
            with pytest.raises(MCPError):
                await tools["die"].function()
            with pytest.raises(MCPError):
                await tools["add"].function(a=1, b=1)

    asyncio.run(scenario())


def test_an_address_where_nobody_listens_is_a_clear_error() -> None:
    """The address is named without its query and its user."""
    with pytest.raises(ConfigError, match=r"the MCP server '127\.0\.0\.1:9/mcp' can't be used: .*[Cc]onnect") as caught:
        MCPServer(url="http://user:hunter2@127.0.0.1:9/mcp?key=hunter2", start_seconds=20).start()
    assert "hunter2" not in str(caught.value)
