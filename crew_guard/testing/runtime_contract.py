"""What every runtime must do with a crew and its caps, as pytest tests.

class TestMyHost(RuntimeContract):
    runtime = staticmethod(my_host.compiled)   # what Supervisor(runtime=...) takes: a function, or a name it knows
    processes = ("sequential", "parallel")   # those it has; every other must be refused by name
    def run_own(self, served, policy, *, stubborn=False): return guard(my_crew(served, stubborn), policy).run("go")
"""

# ruff: noqa: S101, PLR2004 - these are tests, though they ship in the package

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any, ClassVar

import pytest

from crew_guard.api import Supervisor
from crew_guard.core.policy import Policy
from crew_guard.core.processes import PROCESSES
from crew_guard.core.result import Result
from crew_guard.core.roles import Agent, Crew, Task, TaskContext, Verdict
from crew_guard.core.tools import tool
from crew_guard.core.usage import NANO, Rate, Rates, Usage
from crew_guard.errors import ConfigError, ModelError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.awaited_contract import AwaitedContract
from crew_guard.testing.clock import no_time_passes
from crew_guard.testing.crews import (
    ANN,
    LONG,
    SECONDS,
    Answer,
    Looking,
    Served,
    conversation,
    hungry,
    left_over,
    limit_of,
    limits,
    never,
    of_process,
    pair,
    reason_of,
    restless,
    searcher,
    secretive,
    told,
)
from crew_guard.testing.held import Kept
from crew_guard.testing.verdict_contract import VerdictContract
from crew_guard.workflows.graph import chain, node


class RuntimeContract(VerdictContract, AwaitedContract):
    """Subclass it; the class's name must start with Test."""

    runtime: ClassVar[Any]
    """What Supervisor(runtime=...) takes; a function as a staticmethod."""
    processes: ClassVar[tuple[str, ...]] = PROCESSES
    """How its crews may go about their tasks."""

    @abstractmethod
    def run_own(self, served: Served, policy: Policy, *, stubborn: bool = False) -> Result:
        """Run a crew of the host's own under guard().

        Args:
            served: whose `bill` its model calls at each call; it always asks for another tool call
            policy: what it is guarded by
            stubborn: whether its code catches whatever a model call raises, and asks again 50 times
        """

    def run(self, crew: Crew, model: ScriptedModel, rules: Policy | None = None, **inputs: Any) -> Result:
        """Run a crew of ours on this runtime."""
        return self.supervisor(model, rules).run(crew, inputs)

    def supervisor(self, model: ScriptedModel, rules: Policy | None = None) -> Supervisor:
        """A supervisor that runs crews here, its journals in memory."""
        return Supervisor(rules or limits(), model=model, store=MemoryStore(), runtime=self.runtime)

    # A cap is exactly that

    @pytest.mark.parametrize("cap", [1, 3])
    def test_max_steps_is_that_many_model_calls(self, cap: int) -> None:
        """Not one more to sum up, and none for the host itself."""
        model = ScriptedModel(hungry())
        result = self.run(searcher(), model, limits(max_steps=cap))
        assert (len(model.calls), result.usage.steps) == (cap, cap)
        assert limit_of(result) == "max_steps"

    def test_an_agents_own_steps_are_that_many_of_its_model_calls(self) -> None:
        """The run's cap is far away."""
        model = ScriptedModel(hungry())
        result = self.run(searcher(), model, limits(max_steps=20, per_agent={"max_steps": 2}))
        assert len(model.calls) == 2
        assert limit_of(result) == "max_steps"

    def test_max_tool_calls_is_that_many_executions(self) -> None:
        """The third is not begun."""
        look = Looking()
        result = self.run(searcher(look.tool), ScriptedModel(hungry()), limits(max_tool_calls=2))
        assert (len(look.seen), result.usage.tool_calls) == (2, 2)
        assert limit_of(result) == "max_tool_calls"

    @pytest.mark.parametrize("cap", [8_001, 10_000])
    def test_tokens_never_pass_their_cap(self, cap: int) -> None:
        """Nothing over; what is left would not have been enough for the call that was refused."""
        model = ScriptedModel(hungry(tokens=LONG))
        result = self.run(searcher(), model, limits(max_tokens=cap))
        assert model.billed.tokens == result.usage.tokens <= cap
        assert limit_of(result) == "max_tokens"
        assert result.stopped is not None
        assert cap - result.usage.tokens < (result.stopped.asked or 0)

    def test_dollars_never_pass_their_cap(self) -> None:
        """Charged at the model's rates, to the nano-dollar."""
        rates = Rates(Rate(2 * NANO), Rate(8 * NANO))
        model = ScriptedModel(hungry(tokens=LONG), rates=rates)
        result = self.run(searcher(), model, limits(max_usd="0.05"))
        assert result.usage.nano_usd <= NANO // 20
        assert result.usage.nano_usd > NANO // 40
        assert limit_of(result) == "max_usd"

    def test_a_crew_over_its_size_does_nothing(self) -> None:
        """Refused before the first model call."""
        model = ScriptedModel(hungry())
        result = self.run(pair(), model, limits(max_agents=1), topic="rivers")
        assert not model.calls
        assert limit_of(result) == "max_agents"

    def test_a_stalled_model_ends_at_the_deadline(self) -> None:
        """And nothing of the run goes on afterwards."""
        with no_time_passes() as time_is_up:

            async def stall() -> None:
                time_is_up()
                await never()

            model = ScriptedModel(hungry(), wait=stall)
            result = self.run(searcher(), model, limits(max_seconds=SECONDS))
        assert reason_of(result) == "deadline"
        assert len(model.calls) == 1
        assert not left_over()

    def test_a_kill_ends_what_is_in_flight(self) -> None:
        """From another thread, while the model is asked."""
        asked = threading.Event()

        async def stall() -> None:
            asked.set()
            await never()

        supervisor = self.supervisor(ScriptedModel(hungry(), wait=stall))
        found: list[Result] = []
        thread = threading.Thread(target=lambda: found.append(supervisor.run(searcher(), run_id="killed")))
        thread.start()
        assert asked.wait(SECONDS)
        assert supervisor.kill("killed")
        thread.join(SECONDS)
        assert reason_of(found[0]) == "killed"
        assert not left_over()

    def test_a_tool_that_is_stuck_in_a_thread_is_named(self) -> None:
        """The result comes all the same; what the thread does later changes nothing."""
        begun, over = threading.Event(), threading.Event()

        @tool
        def stuck(query: str) -> str:
            """Look it up."""
            begun.set()
            over.wait(SECONDS)
            return query

        supervisor = self.supervisor(ScriptedModel([Reply(tools=(("stuck", '{"query": "x"}'),)), "late"]))
        found: list[Result] = []
        thread = threading.Thread(target=lambda: found.append(supervisor.run(searcher(stuck), run_id="stuck")))
        thread.start()
        try:
            assert begun.wait(SECONDS)
            assert supervisor.kill("stuck")
            thread.join(SECONDS)
            assert reason_of(found[0]) == "killed"
            assert "ann/stuck" in found[0].late
        finally:
            over.set()

    # What a crew does

    def test_the_same_conversation_costs_the_same_as_at_home(self) -> None:
        """Steps, tool calls, tokens, dollars, by agent, and the answer."""
        results: list[Result] = []
        runtimes: list[Any] = ["native", self.runtime]
        for runtime in runtimes:
            model = ScriptedModel(conversation(), rates=Rates(Rate(2 * NANO), Rate(8 * NANO)))
            supervisor = Supervisor(limits(), model=model, store=MemoryStore(), runtime=runtime)
            result = supervisor.run(pair(), {"topic": "rivers"})
            assert result.usage.tokens == model.billed.tokens
            results.append(result)
        at_home, here = results
        assert here.done, here
        assert here.output == at_home.output == "all about rivers"
        assert (here.usage, here.agents) == (at_home.usage, at_home.agents)

    def test_usage_lands_on_the_agent_that_caused_it(self) -> None:
        """The sums of the agents are the run's."""
        result = self.run(pair(), ScriptedModel(conversation()), topic="rivers")
        assert result.agents["ann"].steps == 2
        assert result.agents["bob"].steps == 1
        assert sum(result.agents.values(), Usage()) == result.usage

    def test_a_task_sees_what_those_before_it_made(self) -> None:
        """The second agent's prompt holds the first one's answer, and the inputs."""
        model = ScriptedModel(conversation())
        self.run(pair(), model, topic="rivers")
        first, last = told(model, 0), told(model, -1)
        assert "rivers" in first
        assert "notes on rivers" in last

    def test_a_tool_that_raises_is_told_to_its_agent(self) -> None:
        """The run goes on."""

        @tool
        def broken(query: str) -> str:
            """Look it up."""
            raise RuntimeError(f"the index of {query} is gone")

        model = ScriptedModel([Reply(tools=(("broken", '{"query": "x"}'),)), "never mind"])
        result = self.run(searcher(broken), model)
        assert result.output == "never mind"
        assert "the index of x is gone" in told(model, -1)

    def test_an_answer_follows_its_tasks_model(self) -> None:
        """The output is an instance."""
        crew = Crew([Agent(ANN)], [Task("How big is it?", output=Answer)])
        result = self.run(crew, ScriptedModel(['{"city": "Ulm", "people": 129000}']))
        assert result.output == Answer(city="Ulm", people=129_000)
        assert result.usage.steps == 1

    def test_a_verifier_that_says_no_fails_the_crew(self) -> None:
        """Its verdict is on record, and its words are the reason."""

        def too_short(output: Any, _context: TaskContext) -> Verdict:
            return Verdict(passed=len(output) > 100, reason="too short")

        crew = Crew([Agent(ANN)], [Task("Tell all.", verify=too_short)])
        result = self.run(crew, ScriptedModel(["little"]))
        assert not result.done
        assert "too short" in result.error
        assert [verdict.passed for verdict in result.verdicts] == [False]

    def test_a_failing_provider_is_tried_again_and_each_attempt_is_a_step(self) -> None:
        """Two attempts, one answer."""
        model = ScriptedModel([ModelError("busy", kind="throttled", retry_after=0), "answer"])
        result = self.run(Crew([Agent(ANN)], [Task("Say.")]), model)
        assert (result.output, result.usage.steps, len(model.calls)) == ("answer", 2, 2)

    def test_the_workflow_takes_over_where_a_cap_ends_the_crew(self) -> None:
        """Inside what was kept back for it."""

        def fixed(_: Any) -> str:
            return "from the workflow"

        crew = Crew([Agent(ANN, [Looking().tool])], [Task("Find out.")], fallback=chain(node(fixed)))
        result = self.run(crew, ScriptedModel(hungry()), limits(max_steps=2))
        assert (result.output, result.via) == ("from the workflow", "workflow")

    def test_a_stream_tells_what_happens(self) -> None:
        """Admissions, the text, the end, and the same result."""
        supervisor = self.supervisor(ScriptedModel(conversation(), streams=True))
        stream = supervisor.stream(pair(), {"topic": "rivers"})
        names = [type(item).__name__ for item in stream]
        assert names.count("Admitted") == 6  # two agents join, three model calls, one tool call
        assert "TextDelta" in names
        assert stream.result.output == "all about rivers"

    def test_a_run_that_is_over_keeps_nothing_of_its_crew(self) -> None:
        """What its tools hold, a connection say, is let go of with the crew, while its supervisor stays."""
        supervisor = self.supervisor(ScriptedModel(lambda _: "done"))

        kept = Kept()

        def run() -> None:
            held = Looking()

            @tool
            def look(query: str) -> str:
                """Look it up."""
                held.seen.append(query)
                return query

            assert supervisor.run(searcher(look)).done
            kept.add(held)

        for _ in range(3):
            run()
        left = kept.left()
        assert not left, left

    # Ways to go about the tasks

    @pytest.mark.parametrize("process", PROCESSES)
    def test_no_process_passes_a_cap(self, process: str) -> None:
        """Agents side by side or one after the other: nothing over. What the host can't express it refuses by name."""
        model = ScriptedModel(restless(), rates=Rates(Rate(2 * NANO), Rate(8 * NANO)))
        rules = limits(max_tokens=9_000, max_steps=60, max_agents=10)
        if process not in self.processes:
            with pytest.raises(ConfigError, match=process):
                self.run(of_process(process), model, rules)
            return
        result = self.run(of_process(process), model, rules)
        assert model.billed.tokens == result.usage.tokens <= 9_000
        assert limit_of(result) == "max_tokens", result

    @pytest.mark.parametrize("process", ["sequential", "conversation"])
    def test_what_a_guardrail_fixed_is_what_the_others_read(self, process: str) -> None:
        """Only who said it knows more of it, and it costs what it costs at home."""
        if process not in self.processes:
            return
        rules = Policy.model_validate({"content": {"outputs": [{"topics": {"forbid": ["hunter2+"], "action": "fix"}}]}})
        models = [ScriptedModel(["ann's is hunter2", "bob's is hunter22", "THE END"]) for _ in range(2)]
        result = self.run(secretive(process), models[0], rules)
        at_home = Supervisor(rules, model=models[1], store=MemoryStore()).run(secretive(process))
        assert (result.output, result.agents) == (at_home.output, at_home.agents)
        for call, own in enumerate((0, 0, 1)[: len(models[0].calls)]):
            assert told(models[0], call).count("hunter2") == own
        assert "ann's is " in told(models[0], 1)

    # The host's own crews under guard()

    def test_a_crew_of_the_hosts_makes_as_many_calls_as_it_may(self) -> None:
        """max_steps=3 is three calls, as its model counts them."""
        served = Served()
        result = self.run_own(served, limits(max_steps=3))
        assert (served.calls, result.usage.steps) == (3, 3)
        assert limit_of(result) == "max_steps"

    @pytest.mark.parametrize("cap", [8_001, 10_000])
    def test_a_crew_of_the_hosts_never_passes_its_tokens(self, cap: int) -> None:
        """What its model served is what the ledger says."""
        served = Served()
        result = self.run_own(served, limits(max_tokens=cap))
        assert served.tokens == result.usage.tokens <= cap
        assert limit_of(result) == "max_tokens"

    def test_code_that_catches_every_refusal_gets_nothing_by_it(self) -> None:
        """Fifty times: no request leaves, and the result says what stopped it."""
        served = Served()
        result = self.run_own(served, limits(max_steps=3), stubborn=True)
        assert served.calls == 3
        assert limit_of(result) == "max_steps"
