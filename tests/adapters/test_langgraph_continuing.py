"""A thread of a graph that runs go on with has one budget: an interrupt refills nothing."""

import asyncio
import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from crew_guard import Policy
from crew_guard.adapters import langgraph
from crew_guard.api import Supervisor
from crew_guard.api.continuing import Spent, left_of
from crew_guard.api.guarding import Guarded
from crew_guard.core.events import Latched, Refused
from crew_guard.core.limits import NO_CAP
from crew_guard.core.result import Result
from crew_guard.core.usage import Usage
from crew_guard.errors import ConfigError
from crew_guard.store.memory import MemoryStore
from tests.adapters.guarding import ByteFacts, policy
from tests.adapters.langgraph_doubles import Findings, HungryChat, hungry_agent, looker

LONG = "x" * 2_000
ONE, TWO = ({"configurable": {"thread_id": name}} for name in ("one", "two"))


def asking(model, saver=None, **options):
    """Asks its model and its tool, then a person, and goes on while the person says yes."""
    tool = looker([])

    def work(_):
        model.invoke(LONG)
        tool.invoke({"query": "x"})
        return {"found": ["worked"]}

    graph = StateGraph(Findings)
    graph.add_node("work", work)
    graph.add_node("ask", lambda _: {"found": [interrupt("more?")]})
    graph.add_edge(START, "work")
    graph.add_edge("work", "ask")
    graph.add_conditional_edges("ask", lambda state: "work" if state["found"][-1] == "yes" else END)
    return graph.compile(checkpointer=saver or InMemorySaver(), **options)


def guarded(graph, rules):
    runtime = langgraph.runtime_for(graph, lambda _: ByteFacts())
    return Guarded(runtime, Supervisor(rules, store=MemoryStore()), "graph")


def test_an_interrupt_ends_the_run_with_what_there_is():
    """It says what the graph waits for; the state so far is the partial."""
    result = guarded(asking(HungryChat()), policy(max_steps=3)).run({"found": [], "config": ONE})
    assert (result.status, result.stopped.reason, result.output) == ("stopped", "cancelled", None)
    assert "more?" in str(result.stopped)
    assert result.partial == {"found": ["worked"]}


RULES = [
    {"limits": {"max_steps": 3}},
    {"limits": {"max_tool_calls": 3}},
    {"limits": {"max_tokens": 8_000}},
    {"limits": {"max_usd": "0.045"}},
    {"agents": {"work": {"max_steps": 3}}},
    {"per_agent": {"max_steps": 3}},
    {"tools": {"limits": {"look": {"max_tool_calls": 3}}}},
]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_going_on_after_an_interrupt_refills_no_budget(rules):
    """Resumed until it is refused: all runs together used what one run would have been let."""
    model = HungryChat()
    guard = guarded(asking(model), Policy.model_validate(rules))
    results = [guard.run({"found": [], "config": ONE})]
    while len(results) < 9 and results[-1].stopped.reason == "cancelled":
        results.append(guard.run({"resume": "yes", "config": ONE}))
    assert results[-1].stopped.reason == "limit"
    assert 3 <= model.served.calls <= 4
    assert 3 <= sum(result.usage.tool_calls for result in results) <= model.served.calls
    assert sum(result.usage.tokens for result in results) == model.served.tokens <= 8_000
    assert sum(result.usage.usd for result in results) <= Decimal("0.045")
    assert sum(result.usage.steps for result in results) == model.served.calls


def test_a_command_goes_on_too():
    """LangGraph's own words for it."""
    guard = guarded(asking(HungryChat()), policy(max_steps=1))
    guard.run({"found": [], "config": ONE})
    result = guard.run({"command": Command(resume="no"), "config": ONE})
    assert (result.status, result.output, result.caps.steps) == ("done", {"found": ["worked", "no"]}, 0)


def test_each_thread_has_a_budget_of_its_own_and_one_that_is_done_begins_afresh():
    """What one thread used is nothing to another; after its end a thread may be used anew."""
    guard = guarded(asking(HungryChat()), policy(max_steps=2))
    guard.run({"found": [], "config": ONE})
    assert guard.run({"found": [], "config": TWO}).caps.steps == 2
    assert guard.run({"resume": "no", "config": ONE}).caps.steps == 1
    assert guard.run({"found": [], "config": ONE}).caps.steps == 2


def test_a_breakpoint_is_an_interrupt_too():
    """interrupt_before names no value: the node that comes next is told."""
    guard = guarded(asking(HungryChat(), interrupt_before=["work"]), policy(max_steps=2))
    result = guard.run({"found": [], "config": ONE})
    assert "before work" in str(result.stopped)
    assert guard.run({"config": ONE}).usage.steps == 1


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "async"])
@pytest.mark.parametrize(
    "rules", [policy(max_tool_calls=1), Policy.model_validate({"tools": {"limits": {"look": {"max_tool_calls": 1}}}})]
)
def test_a_tool_that_asks_a_person_is_executed_once(rules, is_async):
    """To ask is no execution: what it does with the answer is the only one that there may be."""
    done = []

    def look(query: str) -> str:
        """Look something up."""
        done.append(interrupt(query))
        return done[-1]

    async def look_async(query: str) -> str:
        """Look something up."""
        return look(query)

    tool = StructuredTool.from_function(None if is_async else look, look_async if is_async else None, name="look")
    guard = guarded(hungry_agent(HungryChat(answer_after=1), tools=[tool], checkpointer=InMemorySaver()), rules)
    first = guard.run({"task": "go", "config": ONE})
    assert "q1.0" in str(first.stopped)
    second = guard.run({"resume": "found", "config": ONE})
    assert (second.status, second.output, done) == ("done", "done", ["found"])
    assert (first.usage.tool_calls, second.usage.tool_calls) == (0, 1)
    assert (first.usage.steps, second.usage.steps) == (1, 1)


def test_a_checkpointer_without_coroutines_works():
    """LangGraph's SQLite saver knows only threads: the graph runs on one."""

    class Blocking(InMemorySaver):
        from langgraph.checkpoint.base import BaseCheckpointSaver as Base

        aget_tuple, aput, aput_writes, alist = Base.aget_tuple, Base.aput, Base.aput_writes, Base.alist

    guard = guarded(asking(HungryChat(), Blocking()), policy(max_steps=2))
    assert guard.run({"found": [], "config": ONE}).usage.steps == 1
    assert guard.run({"resume": "yes", "config": ONE}).usage.steps == 1
    assert guard.run({"resume": "yes", "config": ONE}).stopped.limit == "max_steps"


def test_a_checkpointer_whose_coroutines_only_refuse_works():
    """As the current SQLite saver's do: it is found out before anything is paid."""

    class Refusing(InMemorySaver):
        async def aget_tuple(self, config):
            raise NotImplementedError("use the async one")

        aput = aput_writes = aget_tuple

    guard = guarded(asking(HungryChat(), Refusing()), policy(max_steps=2))
    first = guard.run({"found": [], "config": ONE})
    assert (first.error, first.usage.steps, first.partial) == ("", 1, {"found": ["worked"]})
    assert guard.run({"resume": "no", "config": ONE}).output == {"found": ["worked", "no"]}


@pytest.mark.parametrize("own", [{}, {"configurable": {"tenant": "a"}}])
def test_a_thread_that_the_config_names_at_its_top_is_the_same_thread(own):
    """LangGraph takes {"thread_id": …} as well: one budget, whichever way it is written."""
    model = HungryChat()
    guard = guarded(asking(model).with_config(own), policy(max_steps=2))
    top = {"thread_id": "one"}
    assert "more?" in str(guard.run({"found": [], "config": top}).stopped)
    assert guard.run({"resume": "yes", "config": ONE}).caps.steps == 1
    assert guard.run({"resume": "yes", "config": top}).stopped.limit == "max_steps"
    assert model.served.calls == 2
    done = guarded(hungry_agent(HungryChat(answer_after=0), checkpointer=InMemorySaver()), policy())
    assert done.run({"task": "go", "config": top}).output == "done"


def test_a_run_from_an_earlier_place_is_done_when_its_graph_is():
    """A config with a checkpoint_id: what the thread waited for there is over."""
    graph = asking(HungryChat())
    guard = guarded(graph, policy(max_steps=2))
    guard.run({"found": [], "config": ONE})
    guard.run({"resume": "no", "config": ONE})
    before = next(state.config for state in graph.get_state_history(ONE) if state.next == ("work",))
    again = guard.run({"config": before})
    assert "more?" in str(again.stopped)
    asked = next(state.config for state in graph.get_state_history(ONE) if state.next == ("ask",))
    result = guard.run({"resume": "no", "config": asked})
    assert (result.status, result.output) == ("done", {"found": ["worked", "no"]})
    assert guard.run({"found": [], "config": ONE}).caps.steps == 2


def test_a_thread_that_is_done_leaves_nothing_behind():
    """However many there were."""
    graph = hungry_agent(HungryChat(answer_after=0), checkpointer=InMemorySaver())
    guard = guarded(graph, policy())
    for number in range(3):
        config = {"configurable": {"thread_id": f"thread {number}"}}
        assert guard.run({"task": "go", "config": config}).done
    assert not guard.runtime._executions


def test_two_runs_of_one_thread_at_once_are_refused():
    """Both would begin with what is left for one."""
    holding, go = threading.Event(), threading.Event()

    class Holding(HungryChat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            holding.set()
            go.wait(10)
            return super()._generate(messages, stop, run_manager, **kwargs)

    guard = guarded(asking(Holding()), policy(max_steps=2))
    with guard.stream({"found": [], "config": ONE}) as stream:
        assert holding.wait(10)
        with pytest.raises(ConfigError, match="'one' is in a guarded run already"):
            guard.run({"resume": "yes", "config": ONE})
        go.set()
        for _ in stream:
            pass
        assert stream.result.usage.steps == 1
    assert guard.run({"resume": "yes", "config": ONE}).caps.steps == 1


class FailingChat(HungryChat):
    """Fails as long as it is told to."""

    fails: bool = True

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.fails:
            raise ValueError("the provider said 400")
        return super()._generate(messages, stop, run_manager, **kwargs)


def test_turns_that_fail_leave_a_thread_as_it_was():
    """A chat has a run a turn: what failed is over, and the next turn has its whole budget."""
    model = FailingChat(answer_after=0)
    guard = guarded(hungry_agent(model, checkpointer=InMemorySaver()), policy(max_steps=2))
    turns = [guard.run({"task": "hi", "config": ONE}) for _ in range(4)]
    assert {(turn.status, turn.usage.steps, turn.caps.steps) for turn in turns} == {("failed", 1, 2)}
    model.fails = False
    assert guard.run({"task": "hi", "config": ONE}).output == "done"


def test_a_failure_after_a_stop_refills_nothing():
    """Otherwise whoever is out of budget would only have to fail."""
    model = FailingChat(fails=False)
    guard = guarded(asking(model), policy(max_steps=2))
    guard.run({"found": [], "config": ONE})
    model.fails = True
    failed = guard.run({"resume": "yes", "config": ONE})
    assert (failed.status, failed.usage.steps) == ("failed", 1)
    assert guard.run({"config": ONE}).stopped.limit == "max_steps"


SPENT = [
    ({"limits": {"max_steps": 1}}, "max_steps of run: the cap is 0, 0 used, 1 more needed. Of 1, 1 were used"),
    (
        {"per_agent": {"max_steps": 1}},
        "max_steps of agent:work: the cap is 0, 0 used, 1 more needed. Of 1, 1 were",
    ),
    ({"limits": {"max_usd": "0.015"}}, "Of $0.015, $0.0"),
    ({"tools": {"limits": {"look": {"max_tool_calls": 1}}}}, "Of 1, 1 were used by earlier runs on the thread 'one'"),
    ({"limits": {"max_seconds": 1.5}}, "max_seconds of run: the cap is "),
]


@pytest.mark.parametrize(("rules", "words"), SPENT, ids=str)
def test_a_stop_says_what_earlier_runs_used_and_how_to_begin_afresh(rules, words):
    """In the result and in the journal; begin_afresh gives the whole budget once more."""

    let_go = threading.Event()

    class Stuck(HungryChat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            if self.served.calls == 1 and "max_seconds" in rules.get("limits", ()):
                let_go.wait(30)
            return super()._generate(messages, stop, run_manager, **kwargs)

    guard = guarded(asking(Stuck()), Policy.model_validate(rules))
    first = guard.run({"found": [], "config": ONE})
    assert first.stopped.reason == "cancelled"
    second = guard.run({"resume": "yes", "config": ONE})
    assert second.stopped.reason in ("limit", "deadline")
    assert words in str(second.stopped)
    assert "by earlier runs on the thread 'one'; begin_afresh('one') gives" in str(second.stopped)
    refused = [event for event in guard.supervisor.store.read(second.run_id) if isinstance(event, Refused | Latched)]
    assert "by earlier runs on the thread 'one'" in str(refused[0].stop)
    let_go.set()
    guard.begin_afresh("one")
    assert guard.run({"found": [], "config": ONE}).stopped.reason == "cancelled"


def held(began):
    """Waits in its first run until that is ended, and not after that."""

    async def wait(_):
        if not began.is_set():
            began.set()
            await asyncio.Event().wait()
        return {"found": ["waited"]}

    graph = StateGraph(Findings)
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    return guarded(graph.compile(checkpointer=InMemorySaver()), policy(max_steps=2))


def test_whoever_left_a_stream_may_come_back_at_once():
    """The run that they left is being ended: the next one waits for that."""
    began = threading.Event()
    guard = held(began)

    async def leaves():
        async for _ in guard.astream({"found": [], "config": ONE}):
            await asyncio.to_thread(began.wait, 10)
            break
        return await guard.arun({"found": [], "config": ONE})

    assert asyncio.run(leaves()).status == "done"


@pytest.mark.parametrize("again", [Guarded.run, lambda guard, given: list(guard.stream(given))], ids=["run", "stream"])
def test_so_may_whoever_left_a_blocking_one(again):
    """By run or by another stream."""
    began = threading.Event()
    guard = held(began)
    for _ in guard.stream({"found": [], "config": ONE}):
        began.wait(10)
        break
    assert again(guard, {"found": [], "config": ONE})
    assert guard.run({"found": [], "config": ONE}).status == "done"


def test_where_nobody_can_wait_the_way_out_is_told():
    """astream begins its run at once; `async with` waits for the end of the first."""
    began = threading.Event()
    guard = held(began)

    async def leaves():
        async with guard.astream({"found": [], "config": TWO}) as stream:
            async for _ in stream:
                await asyncio.to_thread(began.wait, 10)
                break
        async with guard.astream({"found": [], "config": TWO}) as stream:
            assert len([item async for item in stream]) > 1
        began.clear()
        async for _ in guard.astream({"found": [], "config": ONE}):
            await asyncio.to_thread(began.wait, 10)
            break
        with pytest.raises(ConfigError, match=r"'one' is in a guarded run that is being ended: .*`async with stream:`"):
            guard.astream({"found": [], "config": ONE})

    asyncio.run(leaves())


def test_a_graph_without_a_checkpointer_stands_alone():
    """Nothing goes on there, whatever the config names."""
    runtime = langgraph.runtime_for(hungry_agent(HungryChat()), lambda _: ByteFacts())
    assert runtime.job_of({"task": "x", "config": ONE}) is None


counts = st.integers(0, 100)


@given(caps=st.tuples(counts, counts, counts, counts), used=st.tuples(counts, counts, counts, counts))
def test_what_is_left_is_the_cap_less_what_was_used(caps, used):
    """For each limit by itself, never below nothing; what has no limit gets none."""
    steps, tools, tokens, cents = used
    usage = Usage(steps=steps, tool_calls=tools, input_tokens=tokens, nano_usd=cents * 10_000_000)
    spent = Spent().plus(Result("r", "stopped", usage=usage, scopes={"agent:a": usage}, seconds=2.0), {"look": tools})
    names = ("max_steps", "max_tool_calls", "max_tokens", "max_usd")
    limits = dict(zip(names, (*caps[:3], Decimal(caps[3]) / 100), strict=True))
    rules = {
        "limits": {**limits, "max_seconds": 3},
        "per_agent": limits,
        "tools": {"limits": {"look": {"max_tool_calls": caps[1], "max_seconds": 4}}},
    }
    left = left_of(Policy.model_validate(rules), spent, "one")
    wanted = [max(0, cap - one) for cap, one in zip(caps, used, strict=True)]
    wanted[3] = Decimal(wanted[3]) / 100
    assert [getattr(left.limits, name) for name in names] == wanted
    assert [getattr(left.limits_in("agent:a"), name) for name in names] == wanted
    assert left.per_agent.max_steps == caps[0]
    assert (left.limits.max_seconds, left.limits.max_agents) == (1.0, None)
    assert (left.tools.limits["look"].max_tool_calls, left.tools.limits["look"].max_seconds) == (wanted[1], 4)
    assert left_of(Policy(), spent, "one").limits == Policy().limits


def test_what_an_agent_inside_of_a_node_used_is_taken_off_either_name():
    """The thread's next run has what is left of the cap, and its refusal says what earlier ones used."""
    spent = Spent().plus(Result("r", "stopped", scopes={"node:read/ann": Usage(steps=2)}), {})
    for name in ("ann", "read/ann"):
        left = left_of(Policy.model_validate({"agents": {name: {"max_steps": 3}}}), spent, "one")
        assert (left.caps_of("node:read/ann").steps, left.caps_of("agent:ann").steps == 3) == (1, name == "ann")
        assert "Of 3, 2 were used" in left.earlier["node:read/ann", "max_steps"]


def test_what_one_agent_used_is_taken_off_no_other_ones_cap():
    """An agent of the graph, and one inside of a node of its fallback, may go by one name in the policy."""
    rules = Policy.model_validate({"agents": {"ann": {"max_steps": 3}}})
    spent = Spent()
    for _ in range(2):
        used = {"agent:ann": Usage(steps=1), "node:read/ann": Usage(steps=1), "agent:read/ann": Usage(steps=5)}
        spent = spent.plus(Result("r", "stopped", scopes={**used, "run": Usage(steps=7)}), {})
    spent = spent.plus(Result("r", "stopped", scopes={"agent:ann": Usage(steps=1)}), {})
    left = left_of(rules, spent, "one")
    scopes = ("agent:ann", "node:read/ann", "node:write/ann", "agent:read/ann")
    assert [left.caps_of(scope).steps for scope in scopes] == [0, 1, 3, NO_CAP]
    words = {scope: text.partition(" were")[0] for (scope, _), text in left.earlier.items()}
    assert words == {"agent:ann": "Of 3, 3", "node:read/ann": "Of 3, 2"}
    assert left.agents == rules.agents


def test_what_is_said_of_a_scope_before_is_the_cap_that_is_less():
    """Such as the steps of a role."""
    rules = Policy.model_validate({"per_agent": {"max_tokens": 9}}).with_steps({"ann": 4})
    spent = Spent().plus(Result("r", "stopped", scopes={"agent:ann": Usage(steps=1, input_tokens=2)}), {})
    caps = left_of(rules, spent, "one").caps_of("agent:ann")
    assert (caps.steps, caps.tokens) == (3, 7)


def test_a_node_whose_name_has_a_slash_is_held_by_its_whole_name():
    """In the first run of a thread as in later ones."""
    model = HungryChat()

    def work(_):
        model.invoke("x")
        return {"found": ["worked"]}

    graph = StateGraph(Findings)
    graph.add_node("qa/engineer", work)
    graph.add_node("ask", lambda _: {"found": [interrupt("more?")]})
    graph.add_edge(START, "qa/engineer")
    graph.add_edge("qa/engineer", "ask")
    graph.add_edge("ask", "qa/engineer")

    def ends(rules):
        guard = guarded(graph.compile(checkpointer=InMemorySaver()), Policy.model_validate({"agents": rules}))
        runs = [guard.run({"found": [], "config": ONE}), *(guard.run({"resume": "y", "config": ONE}) for _ in range(2))]
        return [str(run.stopped.limit or run.stopped.reason) for run in runs]

    assert ends({"engineer": {"max_steps": 1}}) == ["cancelled"] * 3
    assert ends({"qa/engineer": {"max_steps": 2}}) == ["cancelled", "cancelled", "max_steps"]
    assert ends({"engineer": {"max_usd": "1"}}) == ["cancelled"] * 3
