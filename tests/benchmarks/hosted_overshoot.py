"""Do caps hold inside CrewAI, AutoGen, LangGraph and LlamaIndex? What their models served, guarded and on their own.

Unguarded, each host is given its own nearest cap. `over` is what was served beyond the cap,
`unused` what a guarded run left of it, `needed` what the refused call asked for at the least.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from crew_guard import Policy, Result, guard
from crew_guard.core.limits import Limits
from crew_guard.store.memory import MemoryStore

CAPS = (10_000, 8_001)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    cap: int
    calls: int
    served: int
    """Tokens, as the model counted them."""
    needed: int | None = None
    """For a guarded run: what the refused call needed at the least."""
    charged: int | None = None

    @property
    def over(self) -> int:
        return max(0, self.served - self.cap)

    @property
    def unused(self) -> int:
        return max(0, self.cap - self.served)

    @property
    def holds(self) -> bool:
        """Whether a guarded run kept its cap and left less than the refused call needed."""
        return self.over == 0 and self.charged == self.served and self.unused < (self.needed or 0)


def rows() -> Iterator[Row]:
    """Every host at every cap, guarded and on its own."""
    for cap in CAPS:
        yield from _autogen(cap)
        yield from _autogen_teams(cap)
        yield from _crewai(cap)
        yield from _langgraph(cap)
        yield from _llama_index(cap)


def _guarded(what: str, host: object, served: Callable[[], tuple[int, int]], cap: int) -> Row:
    rules = Policy(limits=Limits(max_tokens=cap))
    result: Result = guard(host, rules, store=MemoryStore()).run({"task": "Find everything."})
    stop = result.stopped
    needed = int(stop.asked) if stop and stop.asked else None
    calls, tokens = served()
    return Row(what, cap, calls, tokens, needed, result.usage.tokens)


def _autogen(cap: int) -> Iterator[Row]:
    from autogen_agentchat.conditions import TokenUsageTermination
    from autogen_agentchat.teams import RoundRobinGroupChat

    from tests.adapters.autogen_doubles import HungryClient, SwallowingAgent, hungry_agent

    def counted(client: HungryClient) -> Callable[[], tuple[int, int]]:
        return lambda: (client.served.calls, client.served.tokens)

    streamed, swallows = {"model_client_stream": True}, {"kind": SwallowingAgent}
    for what, options in (("", {}), (", streamed", streamed), (", swallows", swallows)):
        client = HungryClient()
        yield _guarded(f"AutoGen guarded{what}", hungry_agent(client, **options), counted(client), cap)
    for iterations in (10, 50):
        client = HungryClient()
        agent = hungry_agent(client, max_tool_iterations=iterations)
        team = RoundRobinGroupChat([agent], termination_condition=TokenUsageTermination(max_total_token=cap))
        asyncio.run(team.run(task="Find everything."))
        what = f"AutoGen TokenUsageTermination({cap}), max_tool_iterations={iterations}"
        yield Row(what, cap, *counted(client)())


def _autogen_teams(cap: int) -> Iterator[Row]:
    """Teams, guarded and under the nearest of AutoGen's own: parallel speakers, a selector, a team in a team."""
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.conditions import MaxMessageTermination, TokenUsageTermination
    from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, RoundRobinGroupChat, SelectorGroupChat

    from tests.adapters.autogen_doubles import SYSTEM, HungryClient, WrittenClient, look

    def counted(client: HungryClient) -> Callable[[], tuple[int, int]]:
        return lambda: (client.served.calls, client.served.tokens)

    def talker(name: str, client: HungryClient) -> AssistantAgent:
        return AssistantAgent(name, client, system_message=SYSTEM)

    def parallel(client: HungryClient, limits: TokenUsageTermination | None) -> GraphFlow:
        graph = DiGraphBuilder()
        for i in range(8):
            graph.add_node(
                AssistantAgent(f"agent_{i}", client, tools=[look], system_message=SYSTEM, max_tool_iterations=10)
            )
        return GraphFlow(graph.get_participants(), graph.build(), termination_condition=limits)

    def selected(client: HungryClient, limits: TokenUsageTermination | None) -> SelectorGroupChat:
        agents = [talker(name, client) for name in ("ann", "ben", "cat")]
        choices = WrittenClient(["ann", "ben", "cat"], repeat=True)
        choices.served = client.served
        return SelectorGroupChat(list(agents), choices, termination_condition=limits)

    def nested(client: HungryClient, limits: TokenUsageTermination | None) -> RoundRobinGroupChat:
        agents = [talker(name, client) for name in ("ann", "ben")]
        inner = RoundRobinGroupChat(list(agents), name="inner", termination_condition=MaxMessageTermination(30))
        return RoundRobinGroupChat([inner], termination_condition=limits)

    shapes = (
        ("8 parallel speakers", parallel, None),
        ("SelectorGroupChat", selected, 0),
        ("team in a team", nested, 0),
    )
    for what, make, answers in shapes:
        client = HungryClient(answer_after=answers)
        yield _guarded(f"AutoGen guarded, {what}", make(client, None), counted(client), cap)
        alone = HungryClient(answer_after=answers)
        asyncio.run(make(alone, TokenUsageTermination(max_total_token=cap)).run(task="Find everything."))
        yield Row(f"AutoGen TokenUsageTermination({cap}), {what}", cap, *counted(alone)())


def _crewai(cap: int) -> Iterator[Row]:
    from tests.adapters.crewai_doubles import HungryLLM, hungry_agent

    def counted(llm: HungryLLM) -> Callable[[], tuple[int, int]]:
        return lambda: (llm.served.calls, llm.served.tokens)

    from crewai.events.event_bus import crewai_event_bus

    for native, how in ((True, "native tool calls"), (False, "tools in text")):
        llm = HungryLLM(native=native)
        yield _guarded(f"CrewAI guarded, {how}", hungry_agent(llm), counted(llm), cap)
        llm = HungryLLM(native=native)
        hungry_agent(llm, max_iter=5).kickoff("Find everything.")
        yield Row(f"CrewAI max_iter=5, {how}", cap, *counted(llm)())
    yield from _crewai_at_once(cap)
    crewai_event_bus.flush()  # it prints from threads of its own


def _langgraph(cap: int) -> Iterator[Row]:
    from langchain.agents.middleware import ModelCallLimitMiddleware
    from langgraph.errors import GraphRecursionError

    from tests.adapters.langgraph_doubles import (
        AsyncHungryChat,
        HungryChat,
        StreamedHungryChat,
        fan_out_of_agents,
        hungry_agent,
    )

    def counted(model: HungryChat) -> Callable[[], tuple[int, int]]:
        return lambda: (model.served.calls, model.served.tokens)

    task = {"messages": [("user", "Find everything.")]}
    for kind, options in ((HungryChat, {}), (AsyncHungryChat, {}), (StreamedHungryChat, {"streaming": True})):
        model = kind(**options)
        yield _guarded(f"LangChain create_agent guarded, {kind.__name__}", hungry_agent(model), counted(model), cap)
    model = HungryChat()
    calls = -(-cap // 2_000)  # what fits into the cap: a call is 2,000 tokens
    limit = ModelCallLimitMiddleware(run_limit=calls)
    hungry_agent(model, middleware=[limit]).invoke(task)
    yield Row(f"LangChain ModelCallLimit(run_limit={calls})", cap, *counted(model)())
    for guarded in (True, False):
        model = AsyncHungryChat()
        graph = fan_out_of_agents(model, 8, [] if guarded else [limit])
        if guarded:
            yield _guarded("LangGraph guarded, Send to 8 agents at once", graph, counted(model), cap)
            continue
        asyncio.run(graph.ainvoke(task))
        yield Row("LangGraph, 8 agents at once, each with that limit", cap, *counted(model)())
    model = HungryChat()
    with contextlib.suppress(GraphRecursionError):
        hungry_agent(model).invoke(task, {"recursion_limit": 20})
    yield Row("LangGraph recursion_limit=20 instead of 10,007", cap, *counted(model)())


def _llama_index(cap: int) -> Iterator[Row]:
    from tests.adapters.llama_index_doubles import AskingWorkflow, HungryLLM, eight_agents, hungry_agent, side_by_side

    def counted(llm: HungryLLM) -> Callable[[], tuple[int, int]]:
        return lambda: (llm.served.calls, llm.served.tokens)

    for what, streaming in (("", False), (", streamed", True)):
        llm = HungryLLM()
        yield _guarded(f"LlamaIndex guarded{what}", hungry_agent(llm, streaming=streaming)[0], counted(llm), cap)
    for what, swallow in (("", False), (", swallows", True)):
        llm = HungryLLM()
        yield _guarded(f"LlamaIndex step guarded{what}", AskingWorkflow(llm, swallow=swallow), counted(llm), cap)
    for what, make in (("8 workers of a step", side_by_side), ("8 agents in parallel", eight_agents)):
        llm = HungryLLM()
        yield _guarded(f"LlamaIndex guarded, {what}", make(llm), counted(llm), cap)

    async def alone(host: Any) -> None:
        with contextlib.suppress(Exception):  # at max_iterations it raises
            await host.run(user_msg="Find everything.", max_iterations=5)

    llm = HungryLLM()
    asyncio.run(alone(hungry_agent(llm)[0]))
    yield Row("LlamaIndex max_iterations=5", cap, *counted(llm)())
    llm = HungryLLM()
    asyncio.run(alone(eight_agents(llm, max_iterations=5)))
    yield Row("LlamaIndex max_iterations=5, 8 agents in parallel", cap, *counted(llm)())


def _crewai_at_once(cap: int) -> Iterator[Row]:
    """Eight async tasks of one crew; a manager and its worker."""
    from crewai import Crew, Process, Task

    from tests.adapters.crewai_doubles import HungryLLM, hungry_agent

    def counted(llms: list[HungryLLM]) -> Callable[[], tuple[int, int]]:
        return lambda: (sum(llm.served.calls for llm in llms), sum(llm.served.tokens for llm in llms))

    def parallel(**options: int) -> tuple[Crew, list[HungryLLM]]:
        llms = [HungryLLM() for _ in range(9)]
        agents = [hungry_agent(llm, role=f"Seeker {i}", **options) for i, llm in enumerate(llms)]
        tasks = [
            Task(description="Find all.", expected_output="all", agent=one, async_execution=one is not agents[-1])
            for one in agents
        ]
        return Crew(agents=agents, tasks=tasks), llms

    def managed(**options: int) -> tuple[Crew, list[HungryLLM]]:
        llms = [HungryLLM(tool="delegate_work_to_coworker"), HungryLLM()]
        worker = hungry_agent(llms[1], role="Worker", **options)
        boss = hungry_agent(llms[0], role="Boss", tools=[], **options)
        task = Task(description="Find all.", expected_output="all")
        return Crew(agents=[worker], tasks=[task], process=Process.hierarchical, manager_agent=boss), llms

    for make, what in ((parallel, "8 async tasks"), (managed, "manager and worker")):
        crew, llms = make()
        yield _guarded(f"CrewAI guarded, {what}", crew, counted(llms), cap)
        crew, llms = make(max_iter=5)
        with contextlib.suppress(Exception):  # its own error at max_iter
            crew.kickoff()
        yield Row(f"CrewAI max_iter=5, {what}", cap, *counted(llms)())


def crewai_time() -> Iterator[str]:
    """An agent with max_execution_time=1 in a tool that takes 3 seconds: when it had ended."""
    from crewai import Crew, Task

    from tests.adapters.crewai_doubles import HungryLLM, Look, hungry_agent

    class Slow(Look):
        def _run(self, query: str) -> str:
            time.sleep(3)
            return query

    def crew() -> Crew:
        agent = hungry_agent(HungryLLM(), tools=[Slow()], max_execution_time=1, max_iter=2)
        return Crew(agents=[agent], tasks=[Task(description="Find.", expected_output="all", agent=agent)])

    for guarded in (True, False):
        made, began = crew(), time.perf_counter()
        with contextlib.suppress(TimeoutError):
            guard(made, Policy(), store=MemoryStore()).run() if guarded else made.kickoff()
        took, how = time.perf_counter() - began, "guarded, " if guarded else ""
        yield f"CrewAI {how}max_execution_time=1, a tool of 3 s, max_iter=2: ended after {took:.2f} s"


def line(row: Row) -> str:
    """One line of the table."""
    verdict = "" if row.needed is None else "  holds" if row.holds else "  FAILS"
    unused = "-" if row.needed is None else f"{row.unused:,} < {row.needed:,}"
    over = f"{row.over:,}" + (f" (+{100 * row.over // row.cap} %)" if row.over else "")
    return f"{row.what:62} {row.cap:>7,} {row.calls:>6} {row.served:>8,}  {over:>16}  {unused:>15}{verdict}"


def main() -> int:
    """Print the table; 1 if a cap did not hold."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # CrewAI's panels
        table, times = list(rows()), list(crewai_time())
    print(f"{'hosted agent':62} {'cap':>7} {'calls':>6} {'served':>8}  {'over':>16}  {'unused < needed':>15}")
    for row in sorted(table, key=lambda row: -row.cap):
        print(line(row))
    print(*times, sep="\n")
    return 0 if all(row.holds for row in table if row.needed is not None) else 1


if __name__ == "__main__":
    raise SystemExit(main())
