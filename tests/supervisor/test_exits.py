"""Code of users that would end the process: it ends its own run's part, and no other run of the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, agent_node, chain, node
from crew_guard.core.messages import ModelReply
from crew_guard.core.result import Result
from crew_guard.core.verdicts import Verify
from crew_guard.ports import RuntimeResult
from crew_guard.supervisor import loop
from crew_guard.supervisor.loop import EngineLoop
from crew_guard.testing import MemoryStore, ScriptedModel

PATIENCE = 10
"""Seconds that a run may take before a test calls it stuck."""


def leave(_output: Any, _context: Any) -> bool:
    raise SystemExit(3)


async def leave_later(_output: Any, _context: Any) -> bool:
    await asyncio.sleep(0)
    raise KeyboardInterrupt


def agent(name: str) -> Agent:
    return Agent(Role(name=name, goal="work"))


def by_hand(_: Any) -> str:
    return "by hand"


def sequential(verify: Verify | None) -> Crew:
    return Crew([agent("ann")], [Task("Do it.", name="a", verify=verify)], fallback=chain(node(by_hand)))


def side_by_side(verify: Verify | None) -> Crew:
    tasks = [Task("Do it.", name="a", agent="ann", verify=verify), Task("Do it.", name="b", agent="bob")]
    return Crew([agent("ann"), agent("bob")], tasks, process="parallel", fallback=chain(node(by_hand)))


def inside(verify: Verify | None) -> Any:
    """A node that delegates to a crew of its own."""
    crew = Crew([agent("ann")], [Task("Do it.", name="a", verify=verify)], name="crew")
    return agent_node(crew, caps={"max_steps": 3})


def beside_an_innocent(job: Any, model: Any = None) -> tuple[Result, Result]:
    """The results of a job and of a run that is under way on the same loop from before it until after it."""
    begun, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def waits(_: Any) -> str:
        loops.append(asyncio.get_running_loop())
        begun.set()
        await over.wait()
        return "unharmed"

    supervisor = Supervisor(Policy(), model=model or ScriptedModel(lambda _: "good"), store=MemoryStore())
    found: dict[str, Result] = {}
    innocent = threading.Thread(target=lambda: found.update(innocent=supervisor.run(chain(node(waits)))), daemon=True)
    innocent.start()
    assert begun.wait(PATIENCE)
    guilty = threading.Thread(target=lambda: found.update(guilty=supervisor.run(job)), daemon=True)
    guilty.start()
    guilty.join(PATIENCE)
    loops[0].call_soon_threadsafe(over.set)
    innocent.join(PATIENCE)
    assert sorted(found) == ["guilty", "innocent"], "a run never ended"
    return found["guilty"], found["innocent"]


@pytest.mark.parametrize("verify", [leave, leave_later])
@pytest.mark.parametrize("crew", [sequential, side_by_side])
def test_a_verifier_that_would_end_the_process_has_not_said_yes(crew: Any, verify: Verify):
    """The crew falls back, the verdict says what was raised, and another run of the loop goes on."""
    guilty, innocent = beside_an_innocent(crew(verify))
    assert (guilty.output, guilty.via) == ("by hand", "workflow")
    raised = "SystemExit: 3" if verify is leave else "KeyboardInterrupt"
    assert [(one.passed, one.reason) for one in guilty.verdicts if not one.passed] == [
        (False, f"the verifier raised {raised}")
    ]
    assert innocent.output == "unharmed"


def test_a_verifier_of_the_whole_is_heard_alike():
    """Of the crew and of its workflow."""
    crew = Crew([agent("ann")], [Task("Do it.", name="a")], verify=leave, fallback=chain(node(by_hand)))
    guilty, innocent = beside_an_innocent(crew)
    assert guilty.status == "failed"
    assert [one.reason for one in guilty.verdicts] == ["the verifier raised SystemExit: 3"] * 2
    assert innocent.output == "unharmed"


def test_a_verifier_inside_of_a_node_fails_the_node():
    """And not the loop."""
    guilty, innocent = beside_an_innocent(chain(inside(leave)))
    assert guilty.status == "failed"
    assert "the verifier of a said no: the verifier raised SystemExit: 3" in guilty.error
    assert innocent.output == "unharmed"


def test_a_nodes_own_verifier_is_heard_alike():
    """In the same words."""
    guilty, innocent = beside_an_innocent(chain(node(by_hand, verify=lambda _: leave(None, None))))
    assert "the verifier raised SystemExit: 3" in guilty.error
    assert innocent.output == "unharmed"


class Leaving(ScriptedModel):
    """A model whose client would end the process."""

    async def complete(self, *given: Any) -> ModelReply:
        raise SystemExit(4)


@pytest.mark.parametrize("job", [sequential, side_by_side])
def test_a_models_client_that_would_end_the_process_ends_its_call(job: Any):
    """What it had begun is settled as failed, and the crew falls back."""
    guilty, innocent = beside_an_innocent(job(None), Leaving([]))
    assert (guilty.output, guilty.via) == ("by hand", "workflow")
    assert "raised SystemExit: 4" in guilty.fell_back
    assert (guilty.late, innocent.output) == ((), "unharmed")


def test_what_was_done_is_undone_where_a_node_would_end_the_process():
    """Like after any other failure."""
    undone: list[str] = []
    flow = chain(node(by_hand, name="book", compensate=undone.append), inside(None))
    guilty, _ = beside_an_innocent(flow, Leaving([]))
    assert (guilty.status, undone) == ("failed", ["by hand"])


class Host:
    """A host that makes tasks of its own on the run's loop."""

    name = "host"

    def members(self) -> tuple[str, ...]:
        return ()

    async def run(self, inputs: Any, gate: Any) -> RuntimeResult:
        async def lost() -> None:
            raise SystemExit(5)

        task = asyncio.ensure_future(lost())
        await asyncio.wait([task])
        assert isinstance(task.exception(), SystemExit)
        return RuntimeResult("done all the same")


def test_a_task_of_a_hosts_own_ends_alone():
    """The loop turns on: who waits for the task has its error, and nobody else."""
    supervisor = Supervisor(Policy(), store=MemoryStore())
    running = supervisor.run_runtime(Host(), {}, name="host")
    assert running.future.result(PATIENCE).output == "done all the same"


def test_the_loop_turns_on_after_a_callback_that_would_end_the_process():
    """What else was ready is called."""
    engine = EngineLoop()
    heard = threading.Event()

    def out() -> None:
        raise SystemExit(6)

    engine.loop.call_soon_threadsafe(out)
    engine.loop.call_soon_threadsafe(heard.set)
    assert heard.wait(PATIENCE)
    assert engine.alive
    engine.loop.call_soon_threadsafe(engine.loop.stop)


def test_a_loop_that_was_taken_for_blocked_ends_when_it_turns_again(monkeypatch: pytest.MonkeyPatch):
    """Later runs have another one; its thread and its files are let go of."""
    monkeypatch.setattr(loop, "_LOOK", 0.01)
    go = threading.Event()

    async def blocks() -> bool:
        await asyncio.to_thread(int)  # in its pool
        return go.wait(PATIENCE)

    stuck = loop.engine_loop()
    blocked = stuck.submit(blocks())
    loop.abandon(stuck)
    assert loop.engine_loop() is not stuck
    go.set()
    assert blocked.result(PATIENCE)
    stuck._thread.join(PATIENCE)
    assert stuck.loop.is_closed()
    assert not stuck.alive
