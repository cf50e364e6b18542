"""No interleaving of admits and settles passes a cap, loses a waiter or leaves an invalid prefix."""

import asyncio
import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crew_guard.core.actions import Grant, Handoff, ModelCall, Outcome, ToolCall
from crew_guard.core.run import RunState, replay
from crew_guard.core.usage import NANO, Rate, Rates, Usage
from crew_guard.errors import RefusedError
from tests.supervisor.gates import gate_for

RATES = Rates(Rate(1 * NANO), Rate(4 * NANO))
"""$1 and $4 a million tokens."""
AGENTS = st.sampled_from(["ann", "bob", "cy"])


class GateMachine(RuleBasedStateMachine):
    """Agents call models and tools, nested at will; providers use at most what was granted."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gate = gate_for(
            limits={"max_tokens": 6_000, "max_steps": 30, "max_tool_calls": 12, "max_usd": "0.02", "max_depth": 2},
            agents={"ann": {"max_tokens": 2_500}, "bob": {"max_steps": 6}, "cy": {"max_usd": "0.008"}},
            tools={"limits": {"dig": {"max_tool_calls": 4, "usd": "0.001"}}},
            completion_default=800,
            completion_min=100,
        )
        self.waiting: list[asyncio.Task[Grant]] = []
        self.held: dict[str, Grant] = {}
        self.refusals: dict[str, str] = {}

    def teardown(self) -> None:
        for task in self.waiting:
            task.cancel()
        self.turn()
        self.loop.close()

    def turn(self) -> None:
        """Let every task go as far as it can."""

        async def yields() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(yields())
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            with contextlib.suppress(RefusedError, asyncio.CancelledError):
                grant = task.result()
                self.held[grant.action_id] = grant

    def _ask(self, action: ModelCall | ToolCall | Handoff) -> None:
        self.waiting.append(self.loop.create_task(self.gate.admit(action)))
        self.turn()

    @rule(agent=AGENTS, prompt=st.integers(1, 1_500), wanted=st.integers(1, 1_500))
    def ask_model(self, agent: str, prompt: int, wanted: int) -> None:
        self._ask(ModelCall(agent, "m", prompt, wanted, rates=RATES))

    @precondition(lambda self: self.held)
    @rule(agent=AGENTS, prompt=st.integers(1, 1_500), data=st.data())
    def ask_model_inside(self, agent: str, prompt: int, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from(sorted(self.held)))
        self._ask(ModelCall(agent, "m", prompt, parent=parent, rates=RATES))

    @rule(agent=AGENTS, tool=st.sampled_from(["dig", "look"]), nano_usd=st.sampled_from([0, 1, 3_000_000]))
    def ask_tool(self, agent: str, tool: str, nano_usd: int) -> None:
        self._ask(ToolCall(agent, tool, nano_usd=nano_usd))

    @precondition(lambda self: self.held)
    @rule(agent=AGENTS, data=st.data())
    def ask_tool_inside(self, agent: str, data: st.DataObject) -> None:
        self._ask(ToolCall(agent, "dig", parent=data.draw(st.sampled_from(sorted(self.held)))))

    @rule(agent=AGENTS, to=AGENTS, data=st.data())
    def delegate(self, agent: str, to: str, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from([None, *sorted(self.held)]))
        self._ask(Handoff(agent, to, "go on", parent=parent))

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        share=st.floats(0, 1),
        status=st.sampled_from(["ok", "rejected", "failed", "cancelled", "withdrawn"]),
        reported=st.booleans(),
    )
    def settle(self, data: st.DataObject, share: float, status: str, reported: bool) -> None:
        grant = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        used = Usage(input_tokens=grant.reserved.input_tokens, output_tokens=int(grant.max_tokens * share))
        known = used if reported and status == "ok" else None
        self.gate.settle(grant, Outcome(status, known))  # type: ignore[arg-type]
        self.turn()

    @precondition(lambda self: self.waiting)
    @rule()
    def give_up_waiting(self) -> None:
        self.waiting[0].cancel()
        self.turn()

    @invariant()
    def no_cap_is_passed(self) -> None:
        within_caps(self.gate.keeper.state)

    @invariant()
    def no_delegation_nests_too_deep(self) -> None:
        state = self.gate.keeper.state
        for held in state.open.values():
            if held.event.kind == "handoff":
                above = [one for one in state._ancestors(held.event.parent) if one in state.open]
                assert sum(state.open[one].event.kind == "handoff" for one in above) < 2

    @invariant()
    def every_prefix_is_a_valid_state(self) -> None:
        events = list(self.gate.keeper.store.read("run1"))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        folded = RunState()
        for end in (len(events) // 2, len(events)):
            folded = replay(events[:end])
            within_caps(folded)
        assert folded.used("run") == self.gate.keeper.state.used("run")
        assert set(folded.open) == set(self.held) == set(self.gate.keeper.state.open)

    @invariant()
    def a_latched_scope_answers_only_its_latch(self) -> None:
        for scope, stop in self.gate.keeper.state.latches.items():
            known = self.refusals.setdefault(scope, str(stop))
            assert known == str(stop)
            if scope == "crew":
                assert not self.waiting

    @invariant()
    def whoever_waits_can_still_be_answered(self) -> None:
        """Some holder that nobody in line is a part of: its end brings the line forward."""
        state = self.gate.keeper.state
        if not self.waiting:
            return
        held_up = set().union(*(state._ancestors(queued.parent) for queued in state.queued.values()))
        assert any(held.event.kind == "model_call" for id_, held in state.open.items() if id_ not in held_up)


def within_caps(state: RunState) -> None:
    for ledger in state.ledgers.values():
        for limit, cap in ledger.caps._asdict().items():
            assert ledger.used.of(limit) + ledger.reserved.of(limit) <= cap, (ledger.scope, limit)
            assert ledger.reserved.of(limit) >= 0


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
