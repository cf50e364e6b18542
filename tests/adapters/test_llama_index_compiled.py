"""Crews of ours on LlamaIndex: what holds in our own runtime holds there, and each call is the same."""

import asyncio
import functools

import pytest
from workflows import Workflow
from workflows.representation import get_workflow_representation

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, tool
from crew_guard.adapters import llama_index
from crew_guard.core.events import Settled
from crew_guard.core.processes import Turns
from crew_guard.supervisor.loop import engine_loop
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from crew_guard.testing.clock import no_time_passes
from tests.adapters import test_native, test_processes
from tests.adapters.test_native import *  # noqa: F403  the same expectations, of another runtime
from tests.adapters.test_processes import *  # noqa: F403
from tests.supervisor.gates import gate_for

# Its deadline of milliseconds is over before the host's first step gets to the tool on a busy machine.
del test_an_async_tool_that_blocks_the_loop_does_not_hold_the_result  # noqa: F821  it came with the star

ROLE = Role(name="writer", goal="Write.")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(scope="module", autouse=True)
def warm():
    """The host's first use takes longer than some of these tests' deadlines."""
    Supervisor(model=ScriptedModel(["x"]), runtime="llama-index", store=MemoryStore()).run(
        Crew([Agent(ROLE)], [Task("x")])
    )


@pytest.fixture(autouse=True)
def on_llama_index(monkeypatch):
    """Supervisors of the tests above run their crews on LlamaIndex."""
    for module in (test_native, test_processes):
        monkeypatch.setattr(module, "Supervisor", functools.partial(Supervisor, runtime="llama-index"))


def test_a_run_ended_at_its_deadline_hands_over_what_there_was():
    """The first task is done, the second one's provider never answers."""

    async def never():
        time_is_up()
        await asyncio.Event().wait()

    crew = Crew([Agent(ROLE)], [Task("Find", name="notes"), Task("Write")])
    with no_time_passes() as time_is_up:
        result, *_ = run("llama-index", ["notes on gzip", Reply("x", wait=never)], crew, max_seconds=9)
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_seconds", None)
    assert result.partial == {"notes": "notes on gzip"}


def run(runtime, script, crew, **limits):
    store = MemoryStore()
    model = ScriptedModel(script)
    policy = Policy.model_validate({"limits": limits})
    result = Supervisor(policy, model=model, runtime=runtime, store=store).run(crew, {"x": "y"}, run_id="run")
    settled = [(event.status, event.used) for event in store.read("run") if isinstance(event, Settled)]
    asked = [[(one.speaker, one.text, one.tool_requests) for one in call.messages] for call in model.calls]
    return result, settled, asked, model


PROCESSES = {
    "sequential": {"tasks": [Task("One {x}", "writer", name="one"), Task("Two", "critic", name="two")]},
    "parallel": {"tasks": [Task("One {x}", "writer", name="one"), Task("Two", "critic", name="two", context=["one"])]},
    "hierarchical": {"tasks": [Task("One {x}", name="one")]},
    "handoff": {"tasks": [Task("One {x}", "writer", name="one")]},
    "conversation": {"tasks": [Task("One {x}", "writer", name="one")], "turns": Turns(max_turns=3)},
}
CALLS = {
    "hierarchical": Reply(tools=(("delegate", '{"agent": "writer", "task": "write"}'),)),
    "handoff": Reply(tools=(("handoff", '{"agent": "critic", "reason": "knows"}'),)),
}


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("limits", [{}, {"max_steps": 3}, {"max_tool_calls": 1}, {"max_tokens": 900}])
def test_each_call_is_the_one_that_our_own_runtime_makes(process, limits):
    """Prompts, results, usage of each action, verdict of the run: all equal, also where a cap ends it."""
    crew = Crew(
        [Agent(ROLE, [add]), Agent(ROLE, [add], name="critic")], process=process, name="pair", **PROCESSES[process]
    )
    script = [
        Reply("let me see", tools=(("add", '{"a": 1, "b": 2}'), ("nope", "{}"), ("add", '{"a": "x"}'))),
        CALLS.get(process, "three"),
        Reply(tools=(("add", '{"a": 3, "b": 4}'),)),
        "seven",
        "",
        "at last",
        "and more",
    ]
    ours, theirs = run("native", script, crew, **limits), run("llama-index", script, crew, **limits)
    assert theirs[1:3] == ours[1:3]
    for part in ("status", "output", "usage", "agents", "partial", "stopped", "overshoot"):
        assert getattr(theirs[0], part) == getattr(ours[0], part), part
    assert theirs[3].billed == ours[3].billed


def test_the_workflow_has_the_tasks_as_its_steps():
    """The host's own tools see them by name, also a name that a Workflow has for something else."""
    tasks = [Task("a", name="find out"), Task("b", name="run")]
    workflow = llama_index.compiled(Crew([Agent(ROLE)], tasks, name="pair"), ScriptedModel(["x"])).workflow
    assert issubclass(workflow, Workflow)
    assert workflow.__name__ == "pair"
    assert steps_of(workflow) == {"begin", "find out", "task run"}


def steps_of(workflow):
    return {node.id for node in get_workflow_representation(workflow()).nodes if node.node_type == "step"}


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (("done", "do", "tasks", "error", "ended", "begun"), ("done", "do", "tasks", "error", "ended", "begun")),
        (("_under_way", "_course"), ("task _under_way", "task _course")),
        (("runtime", "_runtime", "course"), ("task runtime", "task _runtime", "task course")),
        (("__init__", "__slots__", "mro"), ("task __init__", "task __slots__", "task mro")),
        (("begin", "task begin"), ("task begin 2", "task begin")),
        (("run", "task run 2", "task run"), ("task run 3", "task run 2", "task run")),
        (("<locals>.x", "<locals>", "a.<locals>.b"), ("<locals>.x", "<locals>", "a.<locals>.b")),
    ],
)
@pytest.mark.parametrize("process", ["sequential", "parallel"])
def test_a_task_may_have_any_name(names, steps, process):
    """Its step is called the same, unless a Workflow has something else by that name."""
    crew = Crew([Agent(ROLE)], [Task("x", name=name) for name in names], process=process)
    assert steps_of(llama_index.compiled(crew, ScriptedModel(["x"])).workflow) == {"begin", *steps}
    result = run("llama-index", ["well"] * len(names), crew)[0]
    assert result.status == "done", result.error
    if process == "parallel":
        assert result.output == dict.fromkeys(names, "well")


def test_a_crew_that_is_ended_leaves_no_task_behind():
    """Two tasks wait for their models inside of agents inside of steps: the deadline ends them all."""
    waiting = []

    async def never():
        waiting.append(asyncio.current_task())
        if len(waiting) == 2:
            time_is_up()
        await asyncio.Event().wait()

    crew = Crew(
        [Agent(ROLE), Agent(ROLE, name="critic")],
        [Task("One", "writer", name="one"), Task("Two", "critic", name="two")],
        process="parallel",
    )
    with no_time_passes() as time_is_up:
        result, *_ = run("llama-index", [Reply("x", wait=never), Reply("x", wait=never)], crew, max_seconds=9)
    assert (result.status, result.stopped.reason, result.late) == ("stopped", "deadline", ())

    async def left():
        me = asyncio.current_task()
        ending = [task for task in asyncio.all_tasks() if task is not me and "orkflow" in repr(task)]
        if ending:  # the host's own end comes behind the result
            await asyncio.wait(ending, timeout=10)
        return [task for task in ending if not task.done()]

    assert not asyncio.run_coroutine_threadsafe(left(), engine_loop().loop).result(20)
    assert all(task.done() for task in waiting)


@pytest.mark.parametrize("process", ["sequential", "parallel", "hierarchical"])
def test_what_there_is_is_handed_over_within_a_few_turns_of_the_loop(process):
    """Whoever ends the run waits milliseconds for it: the host's own end, some thirty turns, comes behind."""

    async def ended():
        entered = asyncio.Event()

        async def never():
            entered.set()
            await asyncio.Event().wait()

        later = {"context": ["notes"]} if process == "parallel" else {}
        crew = Crew(
            [Agent(ROLE, [add])], [Task("Find", name="notes"), Task("Write", name="text", **later)], process=process
        )
        asks = Reply("let me see", tools=(("add", '{"a": 1, "b": 2}'),))
        model = ScriptedModel(["notes on gzip", asks, Reply("x", wait=never)])
        before = asyncio.all_tasks()
        work = asyncio.ensure_future(llama_index.compiled(crew, lambda _: model).run({}, gate_for()))
        await entered.wait()
        work.cancel()
        turns = await turns_until(work.done)
        await turns_until(lambda: not asyncio.all_tasks() - before)
        return turns, work.result()

    turns, result = asyncio.run(ended())
    assert turns < 10
    assert result.partial
    assert dict(result.outputs) == {"notes": "notes on gzip"}
    assert result.output == {"notes": "notes on gzip"} if process == "parallel" else result.output


async def turns_until(happened):
    """Turns of the loop until then; at most a thousand."""
    for turn in range(1000):
        if happened():
            return turn
        await asyncio.sleep(0)
    raise AssertionError("it never happened")
