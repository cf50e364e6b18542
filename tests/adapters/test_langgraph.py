"""LangGraph's graphs and LangChain's agents under the gate, held to what their models served."""

import asyncio
import concurrent.futures
import gc
import threading

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool, tool
from langchain_openai import ChatOpenAI
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from pydantic import BaseModel

from crew_guard import Supervisor, guard
from crew_guard.adapters import langgraph
from crew_guard.adapters.langgraph import model_call
from crew_guard.core.content import PASSED, rejected
from crew_guard.core.events import Refused
from crew_guard.core.policy import Policy
from crew_guard.core.stream import TextDelta
from crew_guard.errors import ConfigError
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.clock import no_time_passes
from tests.adapters.guarding import ByteFacts, Guard, policy
from tests.adapters.langgraph_doubles import (
    SYSTEM,
    AsyncHungryChat,
    Findings,
    HungryChat,
    StreamedHungryChat,
    fan_out,
    hungry_agent,
    looker,
    one_node,
)
from tests.adapters.loopback import HungryServer

KINDS = [HungryChat, AsyncHungryChat, StreamedHungryChat]
LONG = "x" * 2_000
"""A prompt longer in tokens than the 1,000 that the doubles bill for one, counted in bytes."""


def openai(server, **options):
    return ChatOpenAI(**{"model": "gpt-4o", "api_key": "none", "base_url": server.url, **options})


# One agent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_is_exactly_as_many_model_calls(steps, kind):
    """The model served as many calls as the cap says, and the run says why it ended."""
    model = kind()
    result = Guard(langgraph, hungry_agent(model), policy(max_steps=steps)).run()
    assert model.served.calls == steps == result.usage.steps
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("calls", [0, 2])
def test_max_tool_calls_is_exactly_as_many_executions(calls, parallel):
    """Executions are counted one by one, also where the model asks for three at once."""
    executions = []
    agent = hungry_agent(HungryChat(parallel=parallel), executions)
    result = Guard(langgraph, agent, policy(max_tool_calls=calls, max_steps=20)).run()
    assert len(executions) == calls == result.usage.tool_calls
    assert result.stopped.limit == "max_tool_calls"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cap", [10_000, 8_001, 2_500, 300, 0])
def test_max_tokens_is_never_passed_and_hardly_left(cap, kind):
    """What was served stays below the cap; what is left is less than the refused call needed."""
    model = kind()
    model.served.completion = 3_000
    result = Guard(langgraph, hungry_agent(model), policy(max_tokens=cap)).run()
    assert model.served.tokens == result.usage.tokens <= cap
    assert cap - result.usage.tokens < result.stopped.asked
    assert result.overshoot.tokens == 0


def test_a_dollar_cap_holds():
    """$2 and $8 a million: each call is clamped to the dollars that are left."""
    model = HungryChat()
    result = Guard(langgraph, hungry_agent(model), policy(max_usd="0.025")).run()
    prompts = model.served.calls * 1000
    cost = (prompts * 2 + (model.served.tokens - prompts) * 8) / 1_000_000
    assert float(result.usage.usd) == pytest.approx(cost)
    assert cost <= 0.025
    assert result.stopped.limit == "max_usd"


def test_usage_that_is_not_reported_is_charged_as_reserved():
    """A provider that names no usage can't make a run endless."""
    model = HungryChat(reports=False)
    result = Guard(langgraph, hungry_agent(model), policy(max_tokens=10_000)).run()
    assert model.served.tokens <= result.usage.tokens <= 10_000
    assert result.unreported == model.served.calls > 0


def test_a_model_that_breaks_its_word_is_not_believed_again():
    """The overshoot is booked and shown, and from then on nothing is clamped that won't be."""
    model = HungryChat(obeys=False)
    model.served.completion = 2_000
    result = Guard(langgraph, hungry_agent(model), policy(max_tokens=4_900)).run()
    assert result.overshoot.tokens > 0
    assert model.served.tokens == result.usage.tokens
    assert model.served.calls == 2


def test_an_agent_that_finishes_gives_its_answer():
    """Below its caps a guarded agent does what it did before, and what it used is its own."""
    model, executions = HungryChat(answer_after=2), []
    guarded = Guard(langgraph, hungry_agent(model, executions), policy(max_steps=10))
    result = guarded.run()
    assert (result.status, result.output) == ("done", "done")
    assert (model.served.calls, len(executions)) == (3, 2)
    assert (list(result.agents), guarded.runtime.members()) == (["seeker"], ["seeker"])
    assert result.agents["seeker"] == result.usage


def test_a_structured_response_is_the_output():
    """create_agent's response_format: the object, and not the message that held it."""

    class Answer(BaseModel):
        n: int

    with HungryServer(answer='{"n": 3}') as server:
        agent = create_agent(openai(server), [], response_format=Answer)
        result = Guard(langgraph, agent, policy(max_steps=3)).run()
        assert result.output == Answer(n=3)
        assert server.requests == 1 == result.usage.steps


def test_a_denied_tool_is_told_to_the_agent_and_the_agent_goes_on():
    """A denial refuses that action only: the agent reads why, and may answer without the tool."""
    executions = []
    agent = hungry_agent(HungryChat(answer_after=2), executions)
    guarded = Guard(langgraph, agent, Policy(tools={"deny": ["look"]}))
    result = guarded.run()
    assert (result.status, result.output, executions) == ("done", "done", [])
    assert len(guarded.events("Refused")) == 2


def test_a_rule_on_an_argument_refuses_what_the_user_did_not_give():
    """Of two calls the one whose argument stands in the task is carried out; the agent goes on after the other."""
    executions = []
    agent = hungry_agent(HungryChat(answer_after=2), executions)
    rules = {"look": [{"argument": "query", "seen_in": ("user",)}]}
    guarded = Guard(langgraph, agent, Policy.model_validate({"tools": {"rules": rules}}))
    result = guarded.run("Find 'q2.0'.")
    assert (result.status, executions) == ("done", ["q2.0"])
    assert [event.stop.limit for event in guarded.events("Refused")] == ["tools.rules.look.0"]


def test_arguments_that_do_not_fit_start_no_execution():
    """LangChain turns them down before the tool runs, so they count for nothing."""

    @tool
    def look(nonsense: int) -> str:
        """Look something up."""
        raise AssertionError

    result = Guard(langgraph, hungry_agent(HungryChat(), tools=[look]), policy(max_steps=4, max_tool_calls=1)).run()
    assert (result.usage.tool_calls, result.stopped.limit) == (0, "max_steps")


def test_a_tool_that_raises_was_an_execution():
    """It ends the graph, as it does unguarded; the start counts."""

    @tool
    def look(query: str) -> str:
        """Look something up."""
        raise KeyError("the index is gone")

    guarded = Guard(langgraph, hungry_agent(HungryChat(), tools=[look]), policy(max_tool_calls=2))
    result = guarded.run()
    assert (result.status, result.usage.tool_calls) == ("failed", 1)
    assert "the index is gone" in result.error
    assert [event.status for event in guarded.events("Settled") if "index is gone" in event.text] == ["failed"]


def test_what_a_guardrail_rejects_the_agent_does_not_read():
    """A tool's result passes the guardrails on its way to the model."""

    class Secret:
        name, runs, reads = "secret", "here", False

        def check(self, content):
            return rejected("secret", "it holds a secret") if "q1" in content.text else PASSED

    read = []

    class Reading(HungryChat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            read.extend(message.text for message in messages if message.type == "tool")
            return super()._generate(messages, stop, run_manager, **kwargs)

    guarded = Guard(langgraph, hungry_agent(Reading(answer_after=2)), policy(max_steps=5))
    guarded.supervisor = with_guardrail(guarded.supervisor, Secret())
    assert guarded.run().status == "done"
    assert "q1.0 is there" not in " ".join(read)
    assert "q2.0 is there" in read


def with_guardrail(supervisor, guardrail):
    from crew_guard.ports import Guards

    kind = type("WithGuardrail", (type(supervisor),), {"_guards": lambda *_: Guards(tool_results=(guardrail,))})
    return kind(supervisor.policy, store=supervisor.store)


def test_a_swallowed_refusal_buys_nothing_more():
    """A node that catches our error fifty times: the latch answers each try, whatever the node says it made."""
    model, caught = HungryChat(), []

    def node(_):
        for _ in range(50):
            try:
                model.invoke(LONG)
            except Exception as error:
                caught.append(error)
        return {"found": ["made up"]}

    result = Guard(langgraph, one_node(node), policy(max_steps=3)).run(found=[])
    assert (model.served.calls, len(caught)) == (3, 47)
    assert (result.status, result.output) == ("stopped", None)


def test_each_message_is_counted_once():
    """20 turns of one conversation are 20 times the new messages, not the history."""
    facts = ByteFacts()
    Guard(langgraph, hungry_agent(HungryChat()), policy(max_steps=20), facts).run()
    assert facts.counted <= 3 + 2 * 20


# Graphs


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("limits", [{"max_steps": 3}, {"max_tokens": 10_000}, {"max_usd": "0.03"}], ids=str)
def test_a_fan_out_holds_one_cap(limits, way):
    """Eight branches at once: exactly what one after the other would have been let."""
    model = AsyncHungryChat()
    begun = threading.Barrier(2, timeout=10)  # two at least are under way at the same time

    def node(state):
        if state["found"] == ["wait"]:
            begun.wait()
        model.invoke(LONG)
        return {"found": [1]}

    async def anode(_):
        await model.ainvoke(LONG)
        return {"found": [1]}

    result = Guard(langgraph, fan_out(node if way == "sync" else anode), policy(**limits)).run(found=[])
    assert model.served.calls == result.usage.steps <= limits.get("max_steps", 8)
    assert model.served.tokens == result.usage.tokens <= limits.get("max_tokens", 16_000)
    assert result.usage.usd <= 0.03 or "max_usd" not in limits
    assert (result.status, result.overshoot.tokens) == ("stopped", 0)
    assert model.served.calls >= 3


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_is_in_flight_when_a_branch_is_refused_is_served_and_paid(way):
    """LangGraph ends the other branches then: their calls land first, so that the account is what the model served."""

    class Meeting(AsyncHungryChat):
        """Answers only when somebody was refused, which the third caller sees to."""

        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.to_thread(refused.wait, 10)
            return await super()._agenerate(messages, stop, run_manager, **kwargs)

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            refused.wait(10)
            return super()._generate(messages, stop, run_manager, **kwargs)

    refused = threading.Event()
    model = Meeting()

    def watch(_, event):
        if isinstance(event, Refused):
            refused.set()

    def node(_):
        model.invoke(LONG)

    async def anode(_):
        await model.ainvoke(LONG)

    guarded = Guard(langgraph, fan_out(node if way == "sync" else anode), policy(max_steps=2))
    guarded.supervisor.observers = (watch,)
    result = guarded.run(found=[])
    assert (model.served.calls, result.usage.steps, result.unreported) == (2, 2, 0)
    assert model.served.tokens == result.usage.tokens == 4_000


def test_a_fan_out_below_its_caps_is_done():
    """All eight branches are heard, and what they used is the node's."""
    model = HungryChat()

    def node(_):
        model.invoke(LONG)
        return {"found": [1]}

    result = Guard(langgraph, fan_out(node), policy(max_steps=8, max_agents=1)).run(found=[])
    assert result.output == {"found": [1] * 8}
    assert result.agents["worker"].steps == 8


def test_usage_lands_on_nodes_and_agents_by_their_names():
    """A node, an agent in a node, one without a name, and one behind a tool of another, on one model object."""
    model = HungryChat(answer_after=0)
    boss_model = HungryChat(answer_after=1, tool="ask")
    inner = create_agent(model, [], system_prompt=SYSTEM, name="researcher")

    @tool
    def ask(query: str) -> str:
        """Ask the researcher."""
        return inner.invoke({"messages": [("user", query)]})["messages"][-1].text

    async def writer(_):
        await model.ainvoke(LONG)
        return {}

    graph = StateGraph(inner.builder.state_schema)
    graph.add_node("first", create_agent(boss_model, [ask], system_prompt=SYSTEM, name="boss"))
    graph.add_node("second", create_agent(model, [], system_prompt=SYSTEM))
    graph.add_node("writer", writer)
    for edge in ((START, "first"), ("first", "second"), ("second", "writer")):
        graph.add_edge(*edge)
    result = Guard(langgraph, graph.compile(), policy(max_steps=9)).run()
    assert result.status == "done"
    assert {name: usage.steps for name, usage in result.agents.items()} == {
        "boss": 2,
        "researcher": 1,
        "second": 1,
        "writer": 1,
    }
    assert result.agents["boss"].tool_calls == 1
    assert sum(usage.tokens for usage in result.agents.values()) == result.usage.tokens == 5 * 2000


def test_a_tool_is_charged_to_whoever_asked_for_it():
    """In a graph of one's own the tools run in a node of theirs: the model's node has asked."""
    from langgraph.prebuilt import ToolNode, tools_condition

    executions = []
    model = HungryChat(answer_after=2)
    graph = StateGraph(hungry_agent(model).builder.state_schema)
    graph.add_node("thinker", lambda state: {"messages": [model.bind_tools([looker([])]).invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([looker(executions)]))
    graph.add_edge(START, "thinker")
    graph.add_conditional_edges("thinker", tools_condition)
    graph.add_edge("tools", "thinker")
    result = Guard(langgraph, graph.compile(), policy(max_steps=5)).run(LONG)
    assert (result.output, len(executions)) == ("done", 2)
    assert {name: (used.steps, used.tool_calls) for name, used in result.agents.items()} == {"thinker": (3, 2)}


def test_two_agents_may_have_tools_of_one_name():
    """Executions are counted on each agent; the tool's own cap is one for both."""
    ones, twos = [], []
    graph = StateGraph(hungry_agent(HungryChat()).builder.state_schema)
    graph.add_node("a", hungry_agent(HungryChat(answer_after=2), ones, name="ann"))
    graph.add_node("b", hungry_agent(HungryChat(answer_after=2), twos, name="bob"))
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    limits = Policy.model_validate({"tools": {"limits": {"look": {"max_tool_calls": 3}}}})
    result = Guard(langgraph, graph.compile(), limits).run()
    assert (len(ones), len(twos), result.status) == (2, 1, "done")
    assert (result.agents["ann"].tool_calls, result.agents["bob"].tool_calls) == (2, 1)


@pytest.mark.parametrize("how", ["threads", "pool"])
def test_threads_that_a_node_starts_by_hand_belong_to_the_run(how):
    """Python's threads inherit no context; in a guarded run they do."""
    model = HungryChat()

    def tried():
        with pytest.raises(RuntimeError) if model.served.calls >= 3 else _nothing():
            model.invoke(LONG)

    def node(_):
        for _ in range(5):
            if how == "pool":
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    pool.submit(tried).result()
            else:
                thread = threading.Thread(target=tried)
                thread.start()
                thread.join()
        return {}

    result = Guard(langgraph, one_node(node), policy(max_steps=3)).run(found=[])
    assert (model.served.calls, result.usage.steps, result.agents["writer"].steps) == (3, 3, 3)


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_a_pool_that_outlives_the_run_is_free_again():
    """Its threads were started in a guarded run and serve others after it."""
    model = HungryChat()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def node(_):
            pool.submit(model.invoke, LONG).result()
            return {}

        Guard(langgraph, one_node(node), policy(max_steps=1)).run(found=[])
        pool.submit(model.invoke, LONG).result()
    assert model.served.calls == 2


def test_a_model_around_another_is_one_attempt():
    """What a wrapper asks is the inner model's step; the wrapper has sent nothing."""

    class Around(BaseChatModel):
        inner: HungryChat

        @property
        def _llm_type(self):
            return "around"

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])

    model = Around(inner=HungryChat())

    def node(_):
        for _ in range(5):
            model.invoke(LONG)

    result = Guard(langgraph, one_node(node), policy(max_steps=3)).run(found=[])
    assert model.inner.served.calls == 3 == result.usage.steps
    assert result.usage.tokens == model.inner.served.tokens


def test_an_answer_from_the_cache_is_no_call():
    """Five times the same question: one attempt."""
    model = HungryChat(cache=InMemoryCache())

    def node(_):
        return {"found": [model.invoke(LONG).id for _ in range(5)]}

    result = Guard(langgraph, one_node(node), policy(max_steps=1)).run(found=[])
    assert (result.status, model.served.calls, result.usage.steps) == ("done", 1, 1)


def test_an_entrypoint_of_the_functional_api_is_a_graph_too():
    """Its answer is the output."""
    model = HungryChat(answer_after=0)

    @entrypoint()
    def workflow(question: dict) -> str:
        return model.invoke(question["task"] + LONG).text

    result = Guard(langgraph, workflow, policy(max_steps=1)).run()
    assert (result.output, result.usage.steps) == ("done", 1)


def test_a_request_that_is_sent_by_hand_is_gated_by_its_wrapper():
    """Another SDK in a node: model_call admits, says how long the answer may be, and takes what was used."""
    lengths = []

    def node(_):
        for _ in range(9):
            with model_call("openai:gpt-4o", LONG, 3_000) as call:
                lengths.append(call.max_tokens)
                call.used(1_000, min(call.max_tokens, 3_000))
        return {}

    result = Guard(langgraph, one_node(node), policy(max_tokens=10_000)).run(found=[])
    assert result.usage.tokens == sum(1_000 + length for length in lengths) <= 10_000
    assert (result.stopped.limit, result.agents["writer"].steps) == ("max_tokens", len(lengths))
    with model_call("openai:gpt-4o", LONG, 3_000) as call:
        assert call.max_tokens == 3_000  # no run, no guard


def test_outside_of_a_run_nothing_is_gated():
    """The patch is inert: the same objects, beside a guarded run and after it."""
    model = HungryChat()
    aside = []

    def node(_):
        thread = concurrent.futures.Future()
        outside.put((lambda: model.invoke(LONG), thread))
        aside.append(thread.result(10))
        model.invoke(LONG)
        return {}

    import queue

    outside = queue.SimpleQueue()

    def serve():
        work, answer = outside.get()
        answer.set_result(work())

    server = threading.Thread(target=serve)
    server.start()
    result = Guard(langgraph, one_node(node), policy(max_steps=1)).run(found=[])
    server.join()
    model.invoke(LONG)
    assert (result.status, result.usage.steps, model.served.calls, len(aside)) == ("done", 1, 3, 1)
    assert type(model) is HungryChat


def test_one_model_in_two_guarded_graphs_at_once():
    """Each run is charged for its own calls."""
    model = HungryChat()
    guards = [Guard(langgraph, hungry_agent(model), policy(max_steps=steps)) for steps in (2, 4)]
    running = [one.start({"task": "go"}) for one in guards]
    assert [one.future.result(20).usage.steps for one in running] == [2, 4]
    assert model.served.calls == 6


# How runs end


def test_a_deadline_ends_a_coroutine_in_flight():
    """The result comes on time and nothing of the graph goes on."""
    ended = threading.Event()

    async def look(query: str) -> str:
        """Look something up."""
        time_is_up()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    agent = hungry_agent(HungryChat(), tools=[StructuredTool.from_function(coroutine=look)])
    with no_time_passes() as time_is_up:
        result = Guard(langgraph, agent, policy(max_seconds=9)).run()
    assert ended.wait(30)
    assert (result.status, result.stopped.limit, result.usage.tool_calls) == ("stopped", "max_seconds", 1)
    assert result.late == ()
    gc.collect()


def test_a_deadline_leaves_no_task_behind():
    """Eight branches that wait for ever: all of them are gone from the loop."""
    from crew_guard.supervisor.loop import engine_loop

    begun = []

    async def forever(_):
        begun.append("branch")
        if len(begun) == 8:
            time_is_up()
        await asyncio.Event().wait()

    async def others():
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    with no_time_passes() as time_is_up:
        result = Guard(langgraph, fan_out(forever), policy(max_seconds=9)).run(found=[])
    assert (result.status, result.late) == ("stopped", ())
    assert engine_loop().submit(others()).result(30) == []


@pytest.mark.parametrize("what", ["tool", "model"])
def test_a_thread_that_blocks_is_named(what):
    """A thread can't be ended: the result comes on time all the same, and says what is stuck."""
    go_on, over = threading.Event(), threading.Event()

    def stuck():
        time_is_up()
        go_on.wait(60)
        over.set()

    def look(query: str) -> str:
        """Look something up."""
        stuck()
        return "late"

    class Stuck(HungryChat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            stuck()
            return super()._generate(messages, stop, run_manager, **kwargs)

    model = HungryChat() if what == "tool" else Stuck()
    agent = hungry_agent(model, tools=[StructuredTool.from_function(look)])
    with no_time_passes() as time_is_up:
        result = Guard(langgraph, agent, policy(max_seconds=9)).run()
    assert not over.is_set()
    go_on.set()
    assert (result.status, result.late) == ("stopped", (f"seeker/{'look' if what == 'tool' else 'custom:Stuck'}",))


def test_a_kill_ends_the_run():
    """From another thread, while the model is asked."""
    begun, never = threading.Event(), asyncio.Event()

    class Waiting(HungryChat):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            begun.set()
            await never.wait()

    guarded = Guard(langgraph, hungry_agent(Waiting()), policy(max_steps=3))
    running = guarded.start({"task": "go"})
    assert begun.wait(10)
    assert guarded.supervisor.kill(guarded.run_id)
    result = running.future.result(10)
    assert (result.status, result.stopped.reason, result.late) == ("stopped", "killed", ())


def test_what_there_is_so_far_is_the_partial():
    """A graph that is stopped in its second node hands over the state of its first."""
    model = HungryChat()

    def first(_):
        return {"found": ["one"]}

    def second(_):
        model.invoke(LONG)

    graph = StateGraph(Findings)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    result = Guard(langgraph, graph.compile(), policy(max_steps=0)).run(found=[])
    assert (result.status, result.partial) == ("stopped", {"found": ["one"]})


# The real client against a server


@pytest.mark.parametrize("streaming", [False, True])
def test_the_real_client_is_clamped_and_asked_for_its_usage(streaming):
    """What the server billed is what the run says, streamed or not."""
    with HungryServer() as server:
        model = openai(server, streaming=streaming)
        result = Guard(langgraph, hungry_agent(model), policy(max_tokens=10_000)).run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert (result.unreported, result.stopped.limit) == (0, "max_tokens")
        assert all(body["max_completion_tokens"] <= 4096 for body in server.bodies)
        assert all(body.get("stream") is True for body in server.bodies) is streaming


@pytest.mark.filterwarnings("ignore:Parameters")
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("bound", [{}, {"max_tokens": 9_000}, {"max_completion_tokens": 9_000}], ids=str)
def test_every_way_to_ask_is_clamped(way, bound):
    """A length that is bound to the model, or is in its model_kwargs, doesn't outweigh the grant."""
    with HungryServer(answer="done") as server:
        model = openai(server, model_kwargs={"max_completion_tokens": 9_000}).bind(**bound)

        async def node(_):
            if way == "ainvoke":
                await model.ainvoke(LONG)
            elif way == "astream":
                [chunk async for chunk in model.astream(LONG)]
            else:
                await asyncio.to_thread(lambda: model.invoke(LONG) if way == "invoke" else list(model.stream(LONG)))
            return {}

        result = Guard(langgraph, one_node(node), policy(max_tokens=3_500, max_steps=5)).run(found=[])
        length = server.bodies[0]["max_completion_tokens"]
        assert 256 <= length <= 3_500 - 1_000
        assert "max_tokens" not in server.bodies[0]
        assert (server.requests, result.usage.steps, result.unreported) == (1, 1, 0)


def test_a_guarded_agent_can_be_read_as_a_stream():
    """The texts that the model streams are told as they come, and sum up to its answers."""
    model = StreamedHungryChat(streaming=True, answer_after=1)
    runtime = langgraph.runtime_for(hungry_agent(model), lambda _: ByteFacts())
    supervisor = Supervisor(policy(max_steps=5), store=MemoryStore())
    stream = supervisor.stream_runtime(runtime, {"task": "go"}, name="hosted")
    texts = [item.text for item in stream if isinstance(item, TextDelta)]
    assert "".join(texts) == "looloodone"
    assert stream.result.output == "loodone"


@pytest.mark.filterwarnings("ignore:The method")
@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_model_that_is_read_as_events_is_an_attempt(version):
    """LangChain's own stream of events, in both of its versions."""
    with HungryServer(answer="done") as server:
        model = openai(server)

        async def node(_):
            events = model.astream_events(LONG, version=version)
            events = await events if version == "v3" else events
            return {"found": [str(type(event)) async for event in events][:0]}

        result = Guard(langgraph, one_node(node), policy(max_steps=3, max_tokens=9_000)).run(found=[])
        assert (result.status, server.requests, result.usage.steps) == ("done", 1, 1)
        assert result.usage.tokens == server.served.tokens


def test_a_lower_length_of_the_users_own_is_kept():
    """Only what is longer than the grant is cut."""
    with HungryServer() as server:
        Guard(langgraph, hungry_agent(openai(server, max_tokens=50)), policy(max_tokens=10_000, max_steps=2)).run()
        assert [body["max_completion_tokens"] for body in server.bodies] == [50, 50]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 500])
def test_an_attempt_is_a_step_also_where_the_client_would_retry(status, streaming):
    """The openai client retries twice by itself: under the guard one step is one request."""
    with HungryServer(status=status) as server:
        model = openai(server, streaming=streaming)
        result = Guard(langgraph, hungry_agent(model), policy(max_steps=5)).run()
        assert server.requests == 1 == result.usage.steps
        assert (model.root_client.max_retries, model.root_async_client.max_retries) == (2, 2)
    assert (result.usage.tokens == 0) is (status == 429)
    assert result.status == "failed"


@pytest.mark.parametrize("who", ["with_retry", "RetryPolicy"])
def test_a_host_that_retries_pays_a_step_each_time(who):
    """LangChain's and LangGraph's own retries against a server that turns them down: exactly max_steps requests."""
    with HungryServer(status=429) as server:
        model = openai(server)
        asked = (
            model.with_retry(
                stop_after_attempt=9,
                wait_exponential_jitter=False,
                exponential_jitter_params={"initial": 0.001, "max": 0.001},
            )
            if who == "with_retry"
            else model
        )
        policy_of_node = RetryPolicy(
            max_attempts=9, initial_interval=0.001, jitter=False, backoff_factor=1, retry_on=lambda _: True
        )
        graph = one_node(lambda _: asked.invoke(LONG), retry_policy=policy_of_node if who == "RetryPolicy" else None)
        result = Guard(langgraph, graph, policy(max_steps=4)).run(found=[])
        assert server.requests == 4 == result.usage.steps
    assert (result.status, result.usage.tokens) == ("stopped", 0)


def test_a_refusal_is_nothing_that_langgraph_retries():
    """Its default RetryPolicy tries most errors again, and ours not."""
    from langgraph._internal._retry import default_retry_on

    model, caught = HungryChat(), []

    def node(_):
        try:
            model.invoke(LONG)
        except Exception as error:
            caught.append(error)
            raise

    graph = one_node(node, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    Guard(langgraph, graph, policy(max_steps=0)).run(found=[])
    assert len(caught) == 1
    assert not default_retry_on(caught[0])


def test_structured_output_is_gated():
    """with_structured_output binds and parses: the attempt beneath is a step like any other."""

    class Answer(BaseModel):
        n: int

    with HungryServer(answer='{"n": 3}') as server:
        asked = openai(server).with_structured_output(Answer)
        graph = one_node(lambda _: {"found": [asked.invoke(LONG).n for _ in range(3)]})
        result = Guard(langgraph, graph, policy(max_steps=3, max_tokens=9_000)).run(found=[])
        assert (result.output, server.requests) == ({"found": [3, 3, 3]}, 3)
        assert server.served.tokens == result.usage.tokens


def test_models_go_by_the_names_that_policies_know():
    """provider:name, also where the name is bound to the call."""
    with HungryServer(answer="done") as server:
        model = openai(server)

        def node(_):
            model.invoke(LONG)
            model.bind(model="gpt-4o-mini").invoke(LONG)
            return {}

        graph = one_node(node)
        guarded = Guard(langgraph, graph, policy(max_steps=3))
        guarded.run(found=[])
    assert guarded.names == ["openai:gpt-4o", "openai:gpt-4o-mini"]


# What is refused


@pytest.mark.parametrize(
    ("options", "named"),
    [({"n": 2}, "n=2"), ({"extra_body": {"max_tokens": 9}}, "extra_body sets max_tokens")],
)
def test_a_model_that_can_not_be_bounded_is_refused_by_name(options, named):
    """Before anything leaves."""
    with HungryServer() as server:
        result = Guard(langgraph, hungry_agent(openai(server, **options)), policy(max_steps=3)).run()
        assert server.requests == 0
    assert result.status == "failed"
    assert "openai:gpt-4o" in result.error
    assert named in result.error


def test_a_model_that_retries_unseen_is_refused():
    """An integration with retries of its own, and no client to switch them off in."""

    class Persistent(HungryChat):
        max_retries: int = 6

    model = Persistent()
    result = Guard(langgraph, hungry_agent(model), policy(max_steps=3)).run()
    assert (result.status, model.served.calls) == ("failed", 0)
    assert "max_retries=1" in result.error


def test_a_model_that_completes_text_is_refused():
    """It reports no usage in a form that all share."""
    model = FakeListLLM(responses=["x"])
    result = Guard(langgraph, one_node(lambda _: model.invoke("x")), policy(max_steps=3)).run(found=[])
    assert result.status == "failed"
    assert "FakeListLLM completes text" in result.error


def test_a_graph_that_is_not_compiled_is_refused():
    """The error says what to do."""
    graph = StateGraph(Findings)
    assert langgraph.accepts(graph)
    with pytest.raises(ConfigError, match=r"not a StateGraph: compile\(\) it first"):
        guard(graph, policy())


def test_a_graph_that_runs_elsewhere_is_refused():
    """Its models can't be reached from here."""
    from langgraph.pregel.remote import RemoteGraph

    with pytest.raises(ConfigError, match="another process"):
        guard(RemoteGraph("x", url="http://127.0.0.1:9"), policy())


def test_a_guarded_graph_inside_of_a_guarded_run_is_refused():
    """The inner run would spend on another account than the one around it."""
    model = HungryChat(answer_after=0)
    inner = guard(hungry_agent(model), policy(max_steps=3), store=MemoryStore())

    def node(_):
        return {"found": [inner.run("x").error]}

    result = Guard(langgraph, one_node(node), policy(max_steps=3)).run(found=[])
    assert "guards it already" in result.output["found"][0]
    assert model.served.calls == 0


def test_what_is_guarded_already_is_no_host():
    """guard() of what guard() gave."""
    with pytest.raises(ConfigError, match="guarded already"):
        guard(guard(hungry_agent(HungryChat()), policy(), store=MemoryStore()), policy())


def test_a_text_that_a_graph_has_no_place_for_is_refused():
    """The error names the channels."""
    result = Guard(langgraph, fan_out(lambda _: {}), policy()).run("x")
    assert result.status == "failed"
    assert "found" in result.error
