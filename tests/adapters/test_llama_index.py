"""Workflows of LlamaIndex under the gate, held to what their models served."""

import asyncio
import re
import sys
import textwrap
import threading
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata, ToolCallBlock
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import AsyncBaseTool, ToolMetadata, ToolOutput
from llama_index.llms.openai import OpenAI, OpenAIResponses
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.resource import Resource
from workflows.retry_policy import ConstantDelayRetryPolicy

from crew_guard import guard
from crew_guard.adapters import llama_index
from crew_guard.adapters.llama_index import StepGate, host_loop, step_gate
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError, RefusedError
from crew_guard.supervisor import life
from crew_guard.testing.clock import no_time_passes
from tests.adapters.guarding import Guard, installed, policy
from tests.adapters.llama_index_doubles import (
    SYSTEM,
    AskingWorkflow,
    HungryLLM,
    hungry_agent,
    openai_like,
    side_by_side,
)
from tests.adapters.loopback import HungryServer, Served

METHODS = (
    "chat",
    "complete",
    "stream_chat",
    "stream_complete",
    "achat",
    "acomplete",
    "astream_chat",
    "astream_complete",
)


@pytest.mark.parametrize("method", METHODS)
def test_the_real_client_in_a_step_is_clamped_and_asked_for_its_usage(method):
    """What the server billed is what the run says, in each of the eight ways to ask; nothing is over."""
    with HungryServer(answer="more") as server:
        flow = AskingWorkflow(openai_like(server), method)
        result = Guard(llama_index, flow, policy(max_tokens=10_000)).run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert server.requests == result.usage.steps > 3
        assert (result.status, result.stopped.limit) == ("stopped", "max_tokens")
        assert (result.unreported, result.overshoot.tokens) == (0, 0)
        assert all(body["max_tokens"] <= 4096 for body in server.bodies)
        assert list(result.agents) == ["ask"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_is_exactly_as_many_model_calls(steps, method):
    """A method that is made of others is one call all the same."""
    llm = HungryLLM()
    result = Guard(llama_index, AskingWorkflow(llm, method), policy(max_steps=steps)).run()
    assert llm.served.calls == llm.calls == steps == result.usage.steps
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_of_an_agent_is_exactly_as_many_model_calls(steps, streaming):
    """The agent's own name stands beside what it used."""
    llm = HungryLLM()
    agent, _ = hungry_agent(llm, streaming=streaming)
    result = Guard(llama_index, agent, policy(max_steps=steps)).run()
    assert llm.served.calls == steps == result.usage.steps
    assert (result.status, result.stopped.limit) == ("stopped", "max_steps")
    assert list(result.agents) == ["seeker"]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("calls", [0, 2])
def test_max_tool_calls_is_exactly_as_many_executions(calls, parallel):
    """Executions are counted one by one, also where the model asks for three at once."""
    agent, executions = hungry_agent(HungryLLM(parallel=parallel))
    result = Guard(llama_index, agent, policy(max_tool_calls=calls, max_steps=20)).run()
    assert len(executions) == calls == result.usage.tool_calls
    assert result.stopped.limit == "max_tool_calls"


@pytest.mark.parametrize("cap", [10_000, 8_001, 2_500, 300, 0])
@pytest.mark.parametrize("streaming", [False, True])
def test_max_tokens_is_never_passed_and_hardly_left(cap, streaming):
    """What was served stays below the cap; what is left is less than the refused call needed."""
    llm = HungryLLM()
    llm.served.completion = 3_000  # longer than what is left at the end
    agent, _ = hungry_agent(llm, streaming=streaming)
    result = Guard(llama_index, agent, policy(max_tokens=cap)).run()
    assert llm.served.tokens == result.usage.tokens <= cap
    assert cap - result.usage.tokens < result.stopped.asked
    assert result.overshoot.tokens == 0


def test_a_dollar_cap_holds():
    """$2 and $8 a million: each call is clamped to the dollars that are left."""
    llm = HungryLLM()
    agent, _ = hungry_agent(llm)
    result = Guard(llama_index, agent, policy(max_usd="0.025")).run()
    served = llm.served.calls * 1000
    cost = (served * 2 + (llm.served.tokens - served) * 8) / 1_000_000
    assert float(result.usage.usd) == pytest.approx(cost)
    assert cost <= 0.025
    assert result.stopped.limit == "max_usd"


def test_usage_that_is_not_reported_is_charged_as_reserved():
    """A provider that names no usage can't make a run endless."""
    llm = HungryLLM(reports=False)
    result = Guard(llama_index, AskingWorkflow(llm), policy(max_tokens=10_000)).run()
    assert llm.served.tokens <= result.usage.tokens <= 10_000
    assert result.unreported == llm.served.calls > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_swallows_our_error_50_times_buys_nothing_more(monkeypatch, method):
    """The latch answers each try; the run is stopped whatever the workflow says it made."""
    monkeypatch.setattr(life, "_GRACE_AFTER_A_LIMIT", 20.0)  # for 47 tries on any machine
    llm = HungryLLM()
    flow = AskingWorkflow(llm, method, swallow=True)
    result = Guard(llama_index, flow, policy(max_steps=3)).run()
    assert (llm.served.calls, flow.caught) == (3, 47)
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)


@pytest.mark.parametrize("method", [method for method in METHODS if not method.startswith("a")])
def test_a_step_that_goes_on_after_the_result_buys_nothing_more(monkeypatch, method):
    """One that blocks can't be cancelled, and a slow one is not waited for: it is refused as often as it tries."""
    monkeypatch.setattr(life, "_GRACE_AFTER_A_LIMIT", 0.0)
    told, over = threading.Event(), threading.Event()

    class Slow(AskingWorkflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            try:
                return await super().ask(ev)
            finally:
                over.set()

        async def asked(self, method):
            if self.caught == 1:
                assert told.wait(30)
            return await super().asked(method)

    llm = HungryLLM()
    flow = Slow(llm, method, swallow=True)
    result = Guard(llama_index, flow, policy(max_steps=3)).run()
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)
    assert not over.is_set()
    told.set()
    assert over.wait(30)
    assert (llm.served.calls, flow.caught) == (3, 47)


def test_a_model_that_breaks_its_word_is_not_believed_again():
    """The overshoot is booked and shown, and from then on nothing is clamped that won't be."""
    llm = HungryLLM(obeys=False)
    llm.served.completion = 2000
    result = Guard(llama_index, AskingWorkflow(llm), policy(max_tokens=4_900)).run()
    assert result.overshoot.tokens > 0
    assert llm.served.tokens == result.usage.tokens
    assert llm.served.calls == 2


def test_a_model_without_a_length_reserves_the_longest_that_it_declares():
    """Its code knows no max_tokens, so all of metadata.num_output is reserved, and the cap still holds."""

    class Mute(CustomLLM):
        served: ClassVar[Served] = Served()

        @property
        def metadata(self):
            return LLMMetadata(num_output=1000, model_name="mute")

        def complete(self, prompt, formatted=False, **kwargs):
            assert not kwargs
            _, completion = self.served.bill(None)
            counts = {"prompt_tokens": 1000, "completion_tokens": completion}
            return CompletionResponse(text="more", additional_kwargs=counts)

        def stream_complete(self, prompt, formatted=False, **kwargs):
            yield self.complete(prompt, formatted, **kwargs)

    for method in METHODS:
        Mute.served = Served()
        result = Guard(llama_index, AskingWorkflow(Mute(), method), policy(max_tokens=9_000)).run()
        assert Mute.served.tokens == result.usage.tokens <= 9_000
        assert Mute.served.calls == result.usage.steps == 4
        assert result.overshoot.tokens == 0


def test_a_class_that_retries_by_itself_pays_a_step_each_time():
    """Each of its requests is one more attempt: exactly max_steps leave, though one call of the host asks 50 times."""

    class Stubborn(HungryLLM):
        async def achat(self, messages, **kwargs):
            for _ in range(50):
                await super().achat(messages, **kwargs)
            return await super().achat(messages, **kwargs)

    llm = Stubborn()
    result = Guard(llama_index, AskingWorkflow(llm, "achat"), policy(max_steps=4)).run()
    assert llm.served.calls == 4 == result.usage.steps
    assert llm.served.tokens == result.usage.tokens


def test_a_model_that_asks_another_is_no_attempt_of_its_own():
    """A router's grant is given back, and each of those that it asks is counted: two for each of its calls."""
    first, second = HungryLLM(), HungryLLM()

    class Router(HungryLLM):
        async def acomplete(self, prompt, formatted=False, **kwargs):
            await first.acomplete(prompt)
            return await second.acomplete(prompt)

    router = Router()
    result = Guard(llama_index, AskingWorkflow(router), policy(max_steps=5)).run()
    assert first.served.calls + second.served.calls == 5 == result.usage.steps
    assert first.served.tokens + second.served.tokens == result.usage.tokens
    assert router.served.calls == 0


def test_a_structured_model_is_counted_once():
    """as_structured_llm wraps a model that is gated itself."""
    with HungryServer(answer='{"text": "x"}') as server:
        llm = openai_like(server, is_function_calling_model=False).as_structured_llm(Said)
        result = Guard(llama_index, AskingWorkflow(llm, "achat"), policy(max_steps=3)).run()
        assert server.requests == 3 == result.usage.steps


@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("method", ["chat", "achat", "astream_chat"])
def test_an_attempt_is_a_step_also_where_the_client_would_retry(status, method):
    """Both the class and its SDK retry three times: under the guard one step is one request."""
    with HungryServer(status=status) as server:
        llm = openai_like(server)
        result = Guard(llama_index, AskingWorkflow(llm, method), policy(max_steps=5)).run()
        assert server.requests == 1 == result.usage.steps
        assert llm.max_retries == 3
        assert (llm._client or llm._aclient).max_retries == 3
    assert (result.usage.tokens == 0) is (status == 429)
    assert result.status == "failed"


def test_a_step_that_the_host_retries_pays_each_time():
    """A retry policy of the workflow runs the step again: exactly max_steps requests leave."""

    class Retrying(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(delay=0, maximum_attempts=50))
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete(SYSTEM)))

    with HungryServer(status=429) as server:
        llm = openai_like(server)
        result = Guard(llama_index, Retrying(), policy(max_steps=4)).run()
        assert server.requests == 4 == result.usage.steps
    assert (result.status, result.stopped.limit) == ("stopped", "max_steps")


@pytest.mark.parametrize("limits", [{"max_steps": 5}, {"max_tokens": 10_000}])
def test_eight_workers_at_one_cap_do_not_pass_it(limits):
    """Eight events, eight workers of a step, one budget."""
    llm = HungryLLM()
    result = Guard(llama_index, side_by_side(llm), policy(**limits)).run()
    assert llm.served.tokens == result.usage.tokens <= limits.get("max_tokens", 10_000)
    assert llm.served.calls == result.usage.steps == 5
    assert result.stopped.limit == next(iter(limits))
    assert list(result.agents) == ["work"]


def test_a_workflow_that_ends_gives_its_result():
    """What the StopEvent carries is the output; nothing of the model is changed but what it changed itself."""
    llm = HungryLLM()
    result = Guard(llama_index, AskingWorkflow(llm, "achat", times=2), policy(max_steps=3)).run()
    assert (result.status, result.usage.steps) == ("done", 2)
    assert type(llm) is HungryLLM
    assert llm.calls == 2


def test_an_agent_that_finishes_gives_its_answer():
    """Below its caps a guarded agent does what it did before."""
    llm = HungryLLM(answer_after=2)
    agent, executions = hungry_agent(llm)
    result = Guard(llama_index, agent, policy(max_steps=10)).run()
    assert (result.status, result.output) == ("done", "done")
    assert (llm.served.calls, len(executions)) == (3, 2)


def test_outside_of_a_run_nothing_is_gated():
    """The patch is inert: the same objects run unguarded, beside a guarded run and after it."""
    llm = HungryLLM()
    Guard(llama_index, AskingWorkflow(llm), policy(max_steps=1)).run()
    assert asyncio.run(_unguarded(AskingWorkflow(llm, times=9))) == "more"
    assert llm.served.calls == 10


def test_agents_of_a_workflow_are_charged_each_for_its_own():
    """A shared model object, and two agents with a tool of one name: attribution is by agent."""
    llm = HungryLLM(answer_after=99)
    first, found_first = hungry_agent(llm, "first")
    second, found_second = hungry_agent(llm, "second")
    script = iter(["handoff", "look", "look"])

    class Passing(HungryLLM):
        def chat(self, messages, **kwargs):
            super().chat(messages, **kwargs)
            name = next(script, None)
            raw = {"usage": {"prompt_tokens": 1000, "completion_tokens": 1000}}
            if name is None:
                return ChatResponse(message=ChatMessage("done", role="assistant"), raw=raw)
            asked = {"to_agent": "second", "reason": "it knows"} if name == "handoff" else {"query": "q"}
            block = ToolCallBlock(tool_call_id=f"{name}{self.calls}", tool_name=name, tool_kwargs=asked)
            return ChatResponse(message=ChatMessage(role="assistant", blocks=[block]), raw=raw)

    first.llm = second.llm = passing = Passing()
    guard = Guard(llama_index, AgentWorkflow([first, second], root_agent="first"), policy(max_steps=10))
    result = guard.run()
    assert (result.status, result.output) == ("done", "done")
    assert (len(found_first), len(found_second)) == (0, 2)
    assert {name: used.steps for name, used in result.agents.items()} == {"first": 1, "second": 3}
    assert {name: used.tool_calls for name, used in result.agents.items()} == {"first": 0, "second": 2}
    assert passing.served.calls == 4 == result.usage.steps
    assert [(event.agent, event.target) for event in guard.events("Admitted") if event.kind == "handoff"] == [
        ("first", "second")
    ]


def test_a_denied_tool_is_told_to_the_agent_and_the_agent_goes_on():
    """A denial refuses that action only: the agent reads why, and may answer without the tool."""
    agent, executions = hungry_agent(HungryLLM(answer_after=2))
    guard = Guard(llama_index, agent, Policy(tools={"deny": ["look"]}))
    result = guard.run()
    assert (result.status, result.output, executions) == ("done", "done", [])
    assert len(guard.events("Refused")) == 2


def test_arguments_that_do_not_fit_start_no_execution():
    """The function never runs, so they count for nothing."""

    def other(nonsense: str) -> str:
        """Something else."""
        raise AssertionError("never")

    tool = FunctionTool.from_defaults(other, name="look")
    agent, _ = hungry_agent(HungryLLM(answer_after=2), tools=[tool])
    result = Guard(llama_index, agent, policy(max_steps=10)).run()
    assert (result.status, result.usage.tool_calls) == ("done", 0)


def test_a_tool_that_raises_is_a_call_that_failed():
    """The agent reads the error; the call counts."""

    def look(query: str) -> str:
        """Look."""
        raise ValueError("no such thing")

    guard = Guard(
        llama_index,
        hungry_agent(HungryLLM(answer_after=1), tools=[FunctionTool.from_defaults(look)])[0],
        policy(max_steps=10),
    )
    result = guard.run()
    assert (result.status, result.usage.tool_calls) == ("done", 1)
    assert [event.status for event in guard.events("Settled")].count("failed") == 1


# Stopping


def test_the_deadline_ends_steps_in_flight_without_orphans():
    """Eight workers wait for ever, one of them in a task of its own: all are ended, and the loop has no task left."""
    ended, waiting = [], []

    class Waiting(Workflow):
        @step
        async def wait(self, ev: StartEvent) -> StopEvent:
            beside = asyncio.ensure_future(self.for_ever("beside"))
            await self.for_ever("step")
            await beside
            return StopEvent()

        async def for_ever(self, who):
            waiting.append(who)
            if len(waiting) == 2:
                time_is_up()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(who)

    with no_time_passes() as time_is_up:
        result = Guard(llama_index, Waiting(timeout=None), policy(max_seconds=9)).run()
    assert (result.status, result.stopped.reason, result.late) == ("stopped", "deadline", ())
    _settle_down()
    assert sorted(ended) == ["beside", "step"]
    assert not _tasks_left()


def test_a_blocked_step_is_left_behind_and_others_run_on():
    """An async step that blocks its thread can't be ended: the result comes on time, and the next run works."""
    go, over = threading.Event(), threading.Event()

    class Blocking(Workflow):
        @step
        async def block(self, ev: StartEvent) -> StopEvent:
            time_is_up()
            go.wait(60)
            over.set()
            return StopEvent()

    with no_time_passes() as time_is_up:
        result = Guard(llama_index, Blocking(timeout=None), policy(max_seconds=9)).run()
    assert (result.status, result.stopped.reason) == ("stopped", "deadline")
    assert not over.is_set()
    llm = HungryLLM()
    assert Guard(llama_index, AskingWorkflow(llm, times=2), policy(max_steps=5)).run().status == "done"
    go.set()


def test_the_workflows_own_timeout_ends_it_too():
    """What is shorter counts: 0.2 s of the workflow's own."""

    class Waiting(Workflow):
        @step
        async def wait(self, ev: StartEvent) -> StopEvent:
            await asyncio.Event().wait()
            return StopEvent()

    result = Guard(llama_index, Waiting(timeout=0.2), policy(max_seconds=10)).run()
    assert result.status == "failed"
    assert "WorkflowTimeoutError" in result.error
    _settle_down()
    assert not _tasks_left()


# What is refused, and the gate by hand


@pytest.mark.parametrize("options", [{"n": 2}, {"extra_body": {"max_tokens": 9}}])
def test_a_model_that_would_go_around_the_guard_is_refused(options):
    """By name, before anything runs where the guard can see it, else before the request leaves."""
    with HungryServer() as server:
        llm = openai_like(server, additional_kwargs=options)
        agent, _ = hungry_agent(llm)
        with pytest.raises(ConfigError, match="agent 'seeker' .*" + next(iter(options))):
            Guard(llama_index, agent, policy())
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_steps=3)).run()
        assert next(iter(options)) in result.error
        assert server.requests == 0


def test_a_provider_whose_retries_are_unknown_is_refused():
    """OpenAI's other class keeps the conversation on its server, where no prompt can be bounded."""
    agent, _ = hungry_agent(OpenAIResponses(model="gpt-4o", api_key="none"))
    with pytest.raises(ConfigError, match=r"OpenAIResponses.*use OpenAI or OpenAILike"):
        Guard(llama_index, agent, policy())


class ByHand(Workflow):
    """Calls an SDK that nothing knows of."""

    @step
    async def ask(self, ev: StartEvent, gate: Annotated[StepGate, Resource(step_gate)]) -> StopEvent:
        """Five requests, each bounded by hand."""
        for _ in range(5):
            async with gate.model("openai:gpt-4o", "x" * 100, max_tokens=500) as use:
                BY_HAND.append(use.max_tokens)
                use.used(100, use.max_tokens)
        with gate.tool("search", {"query": "x"}):
            pass
        return StopEvent(result=gate.guarded)


BY_HAND = []


def test_a_step_may_gate_what_it_does_by_hand():
    """The resource admits, clamps and settles; outside of a run it lets everything through."""
    BY_HAND.clear()
    result = Guard(llama_index, ByHand(), policy(max_steps=9)).run()
    assert (result.status, result.output) == ("done", True)
    assert (result.usage.steps, result.usage.tool_calls, result.usage.tokens) == (5, 1, 3000)
    result = Guard(llama_index, ByHand(), policy(max_tokens=1_500)).run()
    assert result.stopped.limit == "max_tokens"
    assert result.usage.tokens <= 1_500
    assert len(BY_HAND) in (7, 8)
    assert asyncio.run(_unguarded(ByHand())) is False


class AgainByHand(Workflow):
    """One Use for two requests, of which only the first is told of."""

    def __init__(self, *, nested=False):
        super().__init__(timeout=None)
        self.nested = nested

    @step
    async def ask(self, ev: StartEvent, gate: Annotated[StepGate, Resource(step_gate)]) -> StopEvent:
        """Enter it again, or while it is under way."""
        use = gate.model("openai:gpt-4o", "x", max_tokens=500)
        async with use:
            if self.nested:
                with use:
                    pass
            use.used(100, 100)
        with use:
            return StopEvent()


def test_a_use_that_is_entered_again_is_another_request():
    """Nobody tells what the second used: it is charged what was reserved for it, and not what the first one used."""
    guard = Guard(llama_index, AgainByHand(), policy())
    assert guard.run().status == "done"
    one, two = (event.used.input_tokens + event.used.output_tokens for event in guard.events("Settled"))
    assert one == 200
    assert two > 500


class RefusedByHand(Workflow):
    """One Use that is refused, and is entered again all the same."""

    @step
    async def ask(self, ev: StartEvent, gate: Annotated[StepGate, Resource(step_gate)]) -> StopEvent:
        """A tool, and another one: the agent may go on."""
        use = gate.tool("closed", {})
        for _ in range(2):
            with pytest.raises(RefusedError):
                async with use:
                    pass
        return StopEvent()


def test_a_use_that_was_refused_may_be_entered_again():
    """It isn't under way: the guard is asked once more, and says the same."""
    rules = Policy.model_validate({"tools": {"deny": ["closed"]}})
    guard = Guard(llama_index, RefusedByHand(), rules)
    guard.run()
    assert len(guard.events("Refused")) == 2


class ShorterByHand(Workflow):
    """One Use that is entered in a guarded run, and then where nothing is guarded."""

    def __init__(self):
        super().__init__(timeout=None)
        self.use = None
        self.let = 0

    @step
    async def ask(self, ev: StartEvent, gate: Annotated[StepGate, Resource(step_gate)]) -> StopEvent:
        """One request, cut by the policy."""
        self.use = gate.model("openai:gpt-4o", "x", max_tokens=500)
        async with self.use as use:
            self.let = use.max_tokens
        return StopEvent()


def test_a_use_that_is_entered_again_asks_for_what_it_wished():
    """And not for what was left of it the time before."""
    flow = ShorterByHand()
    Guard(llama_index, flow, policy(max_tokens=300)).run()
    assert 0 < flow.let < 300
    with flow.use as use:
        assert use.max_tokens == 500


def test_a_use_that_is_under_way_is_not_entered():
    """Neither in a run nor outside of one: only one of both could be settled."""
    result = Guard(llama_index, AgainByHand(nested=True), policy()).run()
    assert result.status == "failed"
    assert "this use is under way" in result.error
    with pytest.raises(ConfigError, match="this use is under way"):
        asyncio.run(_unguarded(AgainByHand(nested=True)))


def test_workflows_alone_can_be_guarded(monkeypatch):
    """Where llama-index-core is not installed nothing is patched, and the gate by hand still holds."""
    installed(monkeypatch, "llama-index-core", None)
    monkeypatch.setitem(sys.modules, "crew_guard.adapters.llama_index.patches", None)
    result = Guard(llama_index, ByHand(), policy(max_steps=2)).run()
    assert (result.usage.steps, result.stopped.limit) == (2, "max_steps")


class Said(BaseModel):
    text: str


async def _unguarded(flow):
    return await flow.run(task="x")


class _Busy(Workflow):
    """Begins a task that would never end, and a thousand that do."""

    @step
    async def begin(self, ev: StartEvent) -> StopEvent:
        self.waiting = asyncio.ensure_future(asyncio.Event().wait())
        for _ in range(1_000):
            await asyncio.ensure_future(asyncio.sleep(0))
        return StopEvent(result="done")


def test_a_task_that_was_begun_long_ago_is_ended_with_its_run():
    """Tasks that are done are let go of on the way; one that isn't is found however many came after it."""
    flow = _Busy(timeout=None)
    assert Guard(llama_index, flow, policy()).run().done
    _settle_down()
    assert flow.waiting.cancelled()
    assert not _tasks_left()


def _settle_down():
    """Until what was cancelled on the host's loop has ended."""

    async def ended():
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)

    asyncio.run_coroutine_threadsafe(ended(), host_loop.host_loop().loop).result(10)


def _tasks_left():
    loop = host_loop.host_loop().loop

    async def others():
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    return asyncio.run_coroutine_threadsafe(others(), loop).result(30)


# LlamaIndex's own agents with the real client


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", [FunctionAgent, ReActAgent])
def test_agents_on_the_real_client_are_bounded(kind, streaming):
    """What the server billed is what the run says; the agent's tools are counted."""
    found = []

    def look(query: str) -> str:
        """Look something up."""
        found.append(query)
        return "more"

    thought = None if kind is FunctionAgent else 'Thought: look\nAction: look\nAction Input: {"query": "x"}'
    with HungryServer(answer=thought) as server:
        agent = kind(name="seeker", tools=[look], llm=openai_like(server), streaming=streaming, system_prompt=SYSTEM)
        result = Guard(llama_index, agent, policy(max_tokens=20_000)).run()
        assert server.served.tokens == result.usage.tokens <= 20_000
        assert server.requests == result.usage.steps
        assert result.unreported == 0
    assert len(found) == result.usage.tool_calls > 3
    assert list(result.agents) == ["seeker"]


def test_code_that_a_model_wrote_is_an_irreversible_action():
    """A CodeActAgent's executions are tool calls that a policy may ask a person about."""
    ran = []

    def run_code(code: str) -> str:
        """Run it."""
        ran.append(code)
        return "1"

    with HungryServer(answer="<execute>print(1)</execute>") as server:
        agent = CodeActAgent(code_execute_fn=run_code, llm=openai_like(server), name="coder", streaming=False)
        guard = Guard(llama_index, agent, policy(max_tool_calls=2, max_steps=9))
        result = guard.run()
    assert len(ran) == 2 == result.usage.tool_calls
    admitted = [event for event in guard.events("Admitted") if event.kind == "tool_call"]
    assert [(event.agent, event.target) for event in admitted] == [("coder", "execute")] * 2


def test_a_client_that_was_used_unguarded_before_goes_on_under_the_guard():
    """Its connections belong to the caller's loop; the guarded run, and the next one, have their own."""
    with HungryServer(answer="more") as server:
        llm = openai_like(server)
        asyncio.run(_unguarded(AskingWorkflow(llm, times=2)))
        for _ in range(2):
            result = Guard(llama_index, AskingWorkflow(llm, times=2), policy(max_steps=5)).run()
            assert (result.status, result.usage.steps) == ("done", 2)
        assert server.requests == 6


def test_one_model_in_two_guarded_runs_at_once_is_charged_to_each():
    """The object is shared, the grants are not."""
    llm = HungryLLM()
    guards = [Guard(llama_index, AskingWorkflow(llm), policy(max_steps=n)) for n in (2, 4)]
    running = [guard.start({"task": "go"}) for guard in guards]
    assert [one.future.result(10).usage.steps for one in running] == [2, 4]
    assert llm.served.calls == 6


def test_a_workflow_inside_of_a_workflow_is_the_same_run():
    """An agent that a step runs is charged by its own name, at the same caps."""
    agent, _ = hungry_agent(HungryLLM())

    class Outer(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await agent.run(user_msg="go")))

    result = Guard(llama_index, Outer(timeout=None), policy(max_steps=3)).run()
    assert (result.usage.steps, list(result.agents)) == (3, ["seeker"])


def test_a_guard_on_a_workflow_needs_what_its_start_event_needs():
    """A missing field is a ConfigError that names the workflow, the field and what was given, but no value."""

    class Topic(StartEvent):
        topic: str

    class Needs(Workflow):
        @step
        async def begin(self, ev: Topic) -> StopEvent:
            return StopEvent(result=ev.topic)

    assert Guard(llama_index, Needs(), policy()).run(topic="gzip").output == "gzip"
    error = Guard(llama_index, Needs(), policy()).run(topik="s3cret").error
    assert "workflow Needs: the inputs don't make its Topic: topic: Field required. It was given topik;" in error
    assert "s3cret" not in error


def test_a_call_whose_client_can_not_be_made_costs_nothing(monkeypatch):
    """Without an API key no request leaves, in none of the eight ways: no step, no tokens."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for method in METHODS:
        result = Guard(llama_index, AskingWorkflow(OpenAI("gpt-4o-mini"), method), policy()).run()
        assert (result.status, result.usage.steps, result.usage.tokens, result.unreported) == ("failed", 0, 0, 0), (
            method
        )


def _counting(limit, runs):
    """A workflow that counts how many of its runs there are at once, and ends none before all have begun."""

    class Counting(Workflow):
        under_way = most = begun = 0
        all_begun = asyncio.Event()

        def run(self, **given):
            self.begun += 1
            if self.begun == runs:
                self.all_begun.set()
            return super().run(**given)

        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await self.all_begun.wait()
            for _ in range(50):
                await asyncio.sleep(0)
            self.under_way -= 1
            return StopEvent(result=self.most)

    return Counting(timeout=None, num_concurrent_runs=limit)


@pytest.mark.parametrize("limit", [1, 2])
def test_as_many_runs_of_a_workflow_overlap_on_one_loop_as_it_lets(limit):
    """None is refused, and all come to their end."""
    flow = _counting(limit, runs=4)

    async def all_of_them():
        guarded = guard(flow)
        return await asyncio.gather(*(guarded.arun({}) for _ in range(4)))

    assert all(result.done for result in asyncio.run(asyncio.wait_for(all_of_them(), 30)))
    assert flow.most == limit
    assert guard(flow).run({}).done


def test_a_workflow_that_counts_its_runs_is_on_one_loop_at_a_time():
    """What runs on another one is refused by name, and runs when the first is over."""
    begun, over = threading.Event(), threading.Event()

    class Counted(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            begun.set()
            await asyncio.to_thread(over.wait, 30)
            return StopEvent(result="done")

    flow = Counted(timeout=None, num_concurrent_runs=2)
    first = Guard(llama_index, flow, policy()).start({})
    assert begun.wait(30)
    refused = asyncio.run(guard(flow).arun({}))
    assert "workflow Counted has num_concurrent_runs and is in a guarded run on another event loop" in refused.error
    over.set()
    assert first.future.result(30).done
    assert asyncio.run(guard(flow).arun({})).done


def test_a_person_answers_as_the_guide_says():
    """The example of docs/hosts.md, word for word."""
    text = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text()
    (example,) = re.findall(r"  ```python\n(  class Review.*?)  ```", text, re.DOTALL)
    used = (Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, guard, step)
    names = {**{one.__name__: one for one in used}, "asyncio": asyncio, "questions": asyncio.Queue(), "__name__": "doc"}
    exec(compile(textwrap.dedent(example), "hosts.md", "exec", dont_inherit=True), names)  # noqa: S102  our own text
    assert asyncio.run(names["review"]()).output == "yes"


@pytest.mark.parametrize("key", ["task", "input", "user_msg"])
def test_an_agents_task_is_a_text(key):
    """Anything else is a ConfigError that says what was given and what is expected."""
    agent, _ = hungry_agent(HungryLLM())
    result = Guard(llama_index, agent, policy()).run(**{key: 5})
    assert "agent 'seeker' takes its task as a text or a ChatMessage, and was given int: run('…')" in result.error
    agent, _ = hungry_agent(HungryLLM(answer_after=0))
    assert Guard(llama_index, agent, policy()).run(**{key: ChatMessage("Find it.")}).done


def test_a_tool_of_a_class_of_ones_own_is_gated_in_the_agent_that_it_asks():
    """It hands its task on to an agent that has the same tool, and so on."""
    executions = []

    class Passing(AsyncBaseTool):
        @property
        def metadata(self):
            return ToolMetadata("Hand it on.", name="look")

        def call(self, query):
            raise NotImplementedError

        async def acall(self, query):
            executions.append(query)
            said = str(await hungry_agent(HungryLLM(answer_after=1), tools=[self])[0].run(user_msg=query))
            return ToolOutput(content=said, tool_name="look", raw_input={}, raw_output=said)

    agent, _ = hungry_agent(HungryLLM(answer_after=1), tools=[Passing()])
    result = Guard(llama_index, agent, policy(max_tool_calls=3)).run()
    assert (result.stopped.limit, result.usage.tool_calls, len(executions)) == ("max_tool_calls", 3, 3)
