"""A crew of ours on LangGraph: the same conversation, and to the token the same account, as on our own runtime."""

import json

import pytest
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.messages import HumanMessage
from langchain_core.tracers.context import register_configure_hook
from pydantic import BaseModel

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Verdict, tool
from crew_guard.adapters.compiling import Seat
from crew_guard.adapters.langgraph.bridges import seated_chat, seated_tool
from crew_guard.adapters.langgraph.crew import crew_graph
from crew_guard.core.processes import Turns
from crew_guard.core.usage import Rate, Rates
from crew_guard.errors import ModelError
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from tests.adapters import test_processes

RATES = Rates(Rate(2_000_000_000), Rate(8_000_000_000))

globals().update({name: test for name, test in vars(test_processes).items() if name.startswith("test_")})


@pytest.fixture(autouse=True)
def _on_langgraph(monkeypatch):
    """Every test of our processes runs here once more, on LangGraph."""

    def supervisor(*args, **options):
        return Supervisor(*args, **{"runtime": "langgraph", **options})

    monkeypatch.setattr(test_processes, "Supervisor", supervisor)


class Finding(BaseModel):
    """What the writer makes of it."""

    n: int


@tool
def look(query: str) -> str:
    """Look something up."""
    if query == "boom":
        raise RuntimeError("the index is gone")
    return f"{query} is there"


def asks(*calls):
    return Reply(tools=tuple(("look", json.dumps({"query": query})) for query in calls))


SCRIPT = (
    asks("a", "boom"),
    Reply(tools=(("look", '{"bad": 1}'), ("nope", "{}"), ("look", "{{"))),
    "found it",
    "not JSON",
    '{"n": 4}',
)


def two_tasks(process="sequential", **options):
    agents = [Agent(Role(name="seeker", goal="seek"), [look]), Agent(Role(name="writer", goal="write"), [look])]
    tasks = [
        Task("Find {topic}", "seeker", name="find"),
        Task("Write", "writer", output=Finding, name="write", context=["find"], verify=lambda out, _: out.n == 4),
    ]
    return Crew(agents, tasks, process=process, **options)


def on(runtime, crew, script, **policy):
    model = ScriptedModel(script, rates=RATES)
    supervisor = Supervisor(Policy.model_validate(policy), model=model, store=MemoryStore(), runtime=runtime)
    result = supervisor.run(crew, {"topic": "gzip"}, run_id="run")
    asked = [[(one.speaker, one.text) for one in call.messages] for call in model.calls]
    return result, asked, [type(event).__name__ for event in supervisor.store.read("run")]


def account(result):
    return (
        result.status, result.output, result.partial, result.usage, dict(result.agents), result.stopped, result.error,
        [(one.agent, one.task, one.passed) for one in result.verdicts],
    )  # fmt: skip


LIMITS = [
    {}, {"max_steps": 3}, {"max_steps": 0}, {"max_tool_calls": 1}, {"max_tokens": 1_200}, {"max_usd": "0.002"},
    {"max_agents": 1},
]  # fmt: skip


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("process", ["sequential", "parallel"])
def test_a_scripted_crew_is_the_same_on_both(process, limits):
    """Requests, tool calls, tokens, dollars, stops, verdicts and the journal's events, whatever the cap."""
    native, langgraph = (on(where, two_tasks(process), SCRIPT, limits=limits) for where in ("native", "langgraph"))
    assert account(langgraph[0]) == account(native[0])
    assert langgraph[1:] == native[1:]
    assert len(langgraph[1]) <= limits.get("max_steps", 5)


LED = {
    "hierarchical": [Reply(tools=(("delegate", '{"agent": "seeker", "task": "x"}'),)), asks("a"), "seen", "one",
                     "{}", '{"n": 4}'],
    "handoff": [Reply(tools=(("handoff", '{"agent": "writer", "reason": "x"}'),)), asks("a"), "one", '{"n": 4}'],
    "conversation": ["hello", "DONE one", '{"n": 4}', "DONE", '{"n": 4}'],
}  # fmt: skip


@pytest.mark.parametrize("steps", [2, 20])
@pytest.mark.parametrize("process", LED)
def test_the_other_processes_are_the_same_on_both(process, steps):
    """A manager's delegation, a handoff and a conversation: what was asked, and what it cost."""
    options = {"turns": Turns(until="DONE", max_turns=4)} if process == "conversation" else {}
    both = [
        on(where, two_tasks(process, **options), LED[process], limits={"max_steps": steps})
        for where in ("native", "langgraph")
    ]
    assert account(both[1][0]) == account(both[0][0])
    assert both[1][1] == both[0][1]
    assert len(both[1][1]) >= 2


def test_a_verifier_that_says_no_ends_the_crew():
    """The reason and what there is are those of our own runtime; the task after it isn't begun."""

    def crew():
        tasks = [Task("x", name="first", verify=lambda *_: Verdict(passed=False, reason="thin")), Task("y")]
        return Crew([Agent(Role(name="seeker", goal="seek"))], tasks)

    native, langgraph = (on(where, crew(), ["one", "two"]) for where in ("native", "langgraph"))
    assert account(langgraph[0]) == account(native[0])
    assert (langgraph[0].partial, len(langgraph[1])) == ("one", 1)
    assert "thin" in langgraph[0].error


def test_a_provider_that_fails_is_tried_again_and_each_attempt_is_a_step():
    """Attempts are the gate's, LangGraph adds none."""
    script = [ModelError("busy", kind="unavailable", retry_after=0.0), "one"]
    crew = Crew([Agent(Role(name="seeker", goal="seek"))], [Task("x")])
    result, asked, _ = on("langgraph", crew, script, attempts=2)
    assert (result.output, result.usage.steps, len(asked)) == ("one", 2, 2)


class Heard(BaseCallbackHandler):
    """A user's own callback handler."""

    def __init__(self):
        self.models, self.tools, self.nodes = [], [], []

    def on_chat_model_start(self, serialized, messages, *, metadata=None, **kwargs):
        self.models.append((metadata["langgraph_node"], metadata["langgraph_checkpoint_ns"].split(":")[0]))

    def on_tool_start(self, serialized, input_str, *, name=None, **kwargs):
        self.tools.append(serialized["name"])


def test_callbacks_of_the_user_see_agents_tasks_and_tools():
    """A handler that was set around the run hears each turn: its node is the agent's, inside of the task's."""
    from contextvars import ContextVar

    handler = Heard()
    hook = ContextVar("heard", default=None)
    register_configure_hook(hook, inheritable=True)
    hook.set(handler)
    with get_usage_metadata_callback() as told:
        result, _, _ = on("langgraph", two_tasks(), SCRIPT)
    hook.set(None)
    assert handler.models == [("seeker", "find")] * 3 + [("writer", "write")] * 2
    assert handler.tools == ["look"] * 4  # two of them were turned down by the tool itself, and are no executions
    assert result.usage.tool_calls == 2
    assert told.usage_metadata["scripted:test"]["total_tokens"] == result.usage.tokens


def test_names_that_langgraph_reserves_are_no_matter():
    """A task may be called what its state is called, or hold a colon."""
    tasks = [Task("x", name="task_outputs"), Task("y", name="a:b|c")]
    crew = Crew([Agent(Role(name="agent_answer", goal="seek"))], tasks, name="x")
    assert on("langgraph", crew, ["one", "two"])[0].output == "two"


@pytest.mark.parametrize(
    ("names", "nodes"),
    [
        (("a:b", "a|b", "a-b"), ("a-b 2", "a-b 3", "a-b")),
        (("task_outputs", "task task_outputs"), ("task task_outputs 2", "task task_outputs")),
        (("a:b", "a-b 2", "a-b"), ("a-b 3", "a-b 2", "a-b")),
    ],
)
@pytest.mark.parametrize("process", ["sequential", "parallel"])
def test_names_that_langgraph_would_take_for_one_are_told_apart(names, nodes, process):
    """Whichever can be a node's name stays as it is; the others have a number."""
    tasks = [Task("x", name=name, context=names[:place] or None) for place, name in enumerate(names)]
    crew = Crew([Agent(Role(name="seeker", goal="seek"))], tasks, process=process)
    result = on("langgraph", crew, [f"{number}" for number in range(len(names))])[0]
    assert (result.status, result.output) == ("done", f"{len(names) - 1}"), result.error
    drawn = crew_graph(crew, None, {name: names[:place] for place, name in enumerate(names)}).get_graph()
    assert tuple(node for node in drawn.nodes if not node.startswith("__")) == nodes


def test_the_bridges_speak_langchain_too():
    """An agent's model and tool, asked with LangChain's own messages: the gate counts, the answer is a message."""
    seen = []

    class Runtime:
        name = "langgraph"

        def members(self):
            return ["seeker"]

        async def run(self, inputs, gate):
            import asyncio

            from crew_guard.ports import RuntimeResult

            agent = Agent(Role(name="seeker", goal="seek"), [look])
            model = ScriptedModel([asks("a"), "done"])
            seat = Seat(agent, model, gate, asyncio.get_running_loop())
            chat, tools = seated_chat(seat), [seated_tool(seat, look)]
            reply = await chat.bind_tools(tools).ainvoke([HumanMessage("go")])
            result = await tools[0].ainvoke(reply.tool_calls[0])
            last = await asyncio.to_thread(chat.invoke, [HumanMessage("go"), reply, result])
            seen.extend([reply.usage_metadata["input_tokens"], result.content, last.text, model.calls[1].messages])
            return RuntimeResult(last.text)

    result = Supervisor(Policy(), store=MemoryStore()).run_runtime(Runtime(), {}, name="x").wait()
    assert (result.output, result.usage.steps, result.usage.tool_calls) == ("done", 2, 1)
    assert (seen[0] > 0, seen[1], seen[2]) == (True, "a is there", "done")
    assert [message.speaker for message in seen[3]] == ["user", "assistant", "tool"]
