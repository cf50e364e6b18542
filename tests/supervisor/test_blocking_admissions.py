"""Blocking admissions: a thread waits its turn, but the thread of an event loop can't wait for that very loop."""

import asyncio
import threading

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, chain, node, tool
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.errors import LimitExceededError
from crew_guard.store.memory import MemoryStore
from crew_guard.testing import Reply, ScriptedModel
from tests.supervisor.gates import gate_for

ONE = ModelCall("ann", "m:x", 1_000, 1_000, 1_000)
"""Two don't fit below the cap at once."""
CAP = {"limits": {"max_tokens": 3_000}}


def test_a_thread_waits_for_budget_that_another_gives_back():
    """The first call is settled with less than it held: then the second may begin."""
    gate = gate_for(**CAP)
    held = gate.admit_blocking(ONE)
    waiting: list[object] = []
    thread = threading.Thread(target=lambda: waiting.append(gate.admit_blocking(ONE)))
    thread.start()
    while not gate.keeper.waiting:
        pass
    gate.settle(held, Outcome("rejected"))
    thread.join(20)
    assert len(waiting) == 1


def test_the_thread_of_a_loop_is_refused_and_told_what_to_do():
    """Whoever could give budget back may be on that loop: to wait there would be for ever."""

    async def main() -> None:
        gate = gate_for(**CAP)
        held = await gate.admit(ONE)
        with pytest.raises(LimitExceededError, match="await the async method of the model there") as caught:
            gate.admit_blocking(ONE)
        assert (caught.value.stop.limit, caught.value.stop.scope) == ("max_tokens", "run")
        assert not gate.keeper.waiting
        gate.settle(held, Outcome("rejected"))
        assert gate.admit_blocking(ONE)  # the others' budget was theirs: nothing is stopped for good

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_tool_that_is_stuck_is_named_once():
    """Though both parts of the run, its crew and its workflow, end while it is there."""
    go_on = threading.Event()

    @tool
    def stuck(query: str) -> str:
        """Never come back."""
        go_on.wait(30)
        return query

    crew = Crew(
        [Agent(Role(name="ann", goal="work"), [stuck])],
        [Task("go")],
        fallback=chain(node(lambda _: "from the workflow", name="path")),
    )
    model = ScriptedModel([Reply(tools=(("stuck", '{"query": "x"}'),))])
    policy = Policy.model_validate({"limits": {"max_seconds": 0.8}, "reserve": {"seconds": 0.5}})
    try:
        result = Supervisor(policy, model=model, store=MemoryStore()).run(crew)
    finally:
        go_on.set()
    assert (result.output, result.late) == ("from the workflow", ("ann/stuck",))
