"""Functions of a user's that are left behind in their thread: the run's result names each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Workflow, agent_node, chain, node
from crew_guard.store.memory import MemoryStore
from crew_guard.testing import ScriptedModel

Blocks = Callable[[Any, Any], bool]


@pytest.fixture
def blocks() -> Iterator[Blocks]:
    over = threading.Event()
    yield lambda _output, _context: over.wait(30)
    over.set()


def crew(task: Blocks | None = None, whole: Blocks | None = None) -> Crew:
    return Crew(
        name="desk",
        agents=[Agent(Role(name="ann", goal="write"))],
        tasks=[Task("write", "ann", verify=task)],
        verify=whole,
    )


def late(work: Crew | Workflow) -> tuple[str, ...]:
    policy = Policy.model_validate({"name": "p", "limits": {"max_seconds": 0.5}})
    model = ScriptedModel(lambda _: "good")
    with Supervisor(policy=policy, model=model, store=MemoryStore()) as supervisor:
        result = supervisor.run(work, {})
    assert result.stopped is not None
    return result.late


def test_the_verifier_of_a_task_is_its_agents(blocks: Blocks):
    assert late(crew(task=blocks)) == ("ann/verify",)


def test_the_verifier_of_a_crew_is_the_crews(blocks: Blocks):
    assert late(crew(whole=blocks)) == ("desk/verify",)


def test_the_verifier_of_a_node_is_the_nodes(blocks: Blocks):
    assert late(chain(node(lambda _: "x", name="one", verify=blocks))) == ("node:one/verify",)


def test_verifiers_of_a_crew_inside_of_a_node_are_named_with_it(blocks: Blocks):
    assert late(chain(agent_node(crew(task=blocks), name="one", caps={"max_steps": 3}))) == ("one/ann/verify",)
    assert late(chain(agent_node(crew(whole=blocks), name="one", caps={"max_steps": 3}))) == ("one/desk/verify",)


def test_an_approver_is_the_nodes(blocks: Blocks):
    """Time stands still for a person, but a kill doesn't wait for one."""
    asked = threading.Event()

    def approve(given: Any) -> bool:
        asked.set()
        return blocks(given, None)

    policy = Policy.model_validate({"name": "p", "limits": {"max_seconds": 5}})
    with Supervisor(policy=policy, model=ScriptedModel([]), store=MemoryStore()) as supervisor:
        flow = chain(node(lambda _: "x", name="send", irreversible=True, approve=approve))
        threading.Thread(target=lambda: asked.wait(5) and supervisor.kill("run1"), daemon=True).start()
        assert supervisor.run(flow, {}, run_id="run1").late == ("node:send",)


def test_what_undoes_a_node_is_the_nodes(blocks: Blocks):
    def boom(_: Any) -> None:
        raise OSError("boom")

    booked = node(lambda _: "x", name="book", compensate=lambda output: blocks(output, None), timeout=0.1)
    policy = Policy.model_validate({"name": "p", "limits": {"max_seconds": 5}})
    with Supervisor(policy=policy, model=ScriptedModel([]), store=MemoryStore()) as supervisor:
        assert supervisor.run(chain(booked, node(boom, name="boom")), {}).late == ("node:book",)


def test_a_verifier_that_ends_is_not_named():
    with Supervisor(policy="strict", model=ScriptedModel(lambda _: "good"), store=MemoryStore()) as supervisor:
        result = supervisor.run(crew(task=lambda *_: True, whole=lambda *_: True), {})
    assert (result.status, result.late) == ("done", ())
