"""Flows of CrewAI that are awaited: on the caller's loop, as their own kickoff_async works there."""

import asyncio
import threading

import pytest
from crewai import Crew, Task
from crewai.flow.flow import Flow, listen, start

from crew_guard.adapters import crewai as adapter
from crew_guard.testing.clock import no_time_passes
from crew_guard.testing.crews import Session, left_over, never, reason_of
from tests.adapters.crewai_doubles import HungryLLM, answering, hungry_agent
from tests.adapters.guarding import Guard, policy


def within_time(work):
    return asyncio.run(asyncio.wait_for(work, 30))


def here(flow, rules=None, **inputs):
    """The run of a flow, awaited."""
    guard = Guard(adapter, flow, rules or policy())
    return guard, guard.start(inputs or {"id": "1"}, home=asyncio.get_running_loop())


@pytest.mark.parametrize("stream", [False, True])
def test_a_flow_uses_what_is_open_on_the_callers_loop(stream):
    """Its methods, and what listens to them; read as a stream of CrewAI's, too."""
    llm = answering("done")

    async def main():
        async with Session() as session:

            class Asking(Flow):
                @start()
                async def ask(self):
                    return await session.ask("rivers")

                @listen(ask)
                async def tell(self, answer):
                    return answer + ", " + await llm.acall("and now?")

            flow = Asking()
            flow.stream = stream
            _, running = here(flow)
            return await running.result()

    result = within_time(main())
    assert (result.status, result.output) == ("done", "answer to rivers, done"), result
    assert {name: usage.steps for name, usage in result.agents.items()} == {"tell": 1}


@pytest.mark.parametrize("how", ["deadline", "kill", "cancel"])
def test_an_awaited_flow_that_is_ended_leaves_no_task(how):
    """Whichever way it ends, in the middle of an async method."""
    reasons = {"deadline": "deadline", "kill": "killed", "cancel": "cancelled"}

    async def main():
        begun, before = asyncio.Event(), asyncio.all_tasks()

        class Waiting(Flow):
            @start()
            async def wait(self):
                begun.set()
                await never()

        with no_time_passes() as time_is_up:
            guard, running = here(Waiting(), policy(max_seconds=30))
            await begun.wait()
        if how == "deadline":
            time_is_up()
        elif how == "kill":
            assert guard.supervisor.kill(guard.run_id)
        elif how == "cancel":
            running.interrupt()
        result = await running.result()
        left = asyncio.all_tasks() - before
        if left:
            await asyncio.wait(left, timeout=5)
        return reason_of(result), [str(task.get_coro()) for task in left if not task.done()]

    assert within_time(main()) == (reasons[how], [])
    assert not left_over()


def test_a_method_that_blocks_a_thread_holds_up_no_deadline():
    """A sync method goes on in its thread, where whatever it asks for is refused."""
    llm = answering("too late")
    go_on = threading.Event()

    class Blocking(Flow):
        @start()
        def wait(self):
            time_is_up()
            go_on.wait(30)
            return llm.call("go")

    async def main():
        _, running = here(Blocking(), policy(max_seconds=9))
        try:
            return await running.result()
        finally:
            go_on.set()

    with no_time_passes() as time_is_up:
        result = within_time(main())
    assert reason_of(result) == "deadline"
    assert llm.served.calls == 0


def test_an_agents_time_ends_an_awaited_flow():
    """max_execution_time: at that time, and the result names the agent."""

    go_on = threading.Event()

    class Waiting(HungryLLM):
        def call(self, *args, **kwargs):
            go_on.wait(30)
            return "too late"

    agent = hungry_agent(Waiting(), tools=[], max_execution_time=1)

    class Asking(Flow):
        @start()
        async def ask(self):
            crew = Crew(agents=[agent], tasks=[Task(description="Wait.", expected_output="it", agent=agent)])
            return (await crew.akickoff()).raw

    async def main():
        before = asyncio.all_tasks()
        _, running = here(Asking(), policy(max_seconds=20))
        try:
            result = await running.result()
        finally:
            go_on.set()
        return result, await _going_on(asyncio.all_tasks() - before)

    result, left = within_time(main())
    assert (result.stopped.limit, result.stopped.scope, left) == ("max_execution_time", "agent:Seeker", [])


async def _going_on(tasks):
    """Those that don't end."""
    if tasks:
        await asyncio.wait(tasks, timeout=5)
    return [task for task in tasks if not task.done()]


@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff"])
def test_an_agents_time_holds_where_a_method_asks_it_by_itself(how, awaited):
    """Without a task: CrewAI lets it go on."""
    go_on = threading.Event()

    class Waiting(HungryLLM):
        async def acall(self, *args, **kwargs):
            await asyncio.Event().wait()

        def call(self, *args, **kwargs):
            go_on.wait(30)

    agent = hungry_agent(Waiting(), tools=[], max_execution_time=1)

    class Asking(Flow):
        @start()
        async def ask(self):
            return (await getattr(agent, how)("Wait.")).raw

    async def main():
        before = asyncio.all_tasks()
        try:
            if awaited:
                result = await here(Asking(), policy(max_seconds=20))[1].result()
            else:
                result = await asyncio.to_thread(Guard(adapter, Asking(), policy(max_seconds=20)).run, id="1")
        finally:
            go_on.set()
        return result, await _going_on(asyncio.all_tasks() - before)

    result, left = within_time(main())
    assert (result.stopped.limit, result.stopped.scope, left) == ("max_execution_time", "agent:Seeker", []), result


@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff", "a task"])
def test_an_agent_that_keeps_to_its_time_answers(how):
    """And a TimeoutError of its model's own is an error, not its time."""

    class Raising(HungryLLM):
        async def acall(self, *args, **kwargs):
            raise TimeoutError("the model is asleep")

        def call(self, *args, **kwargs):
            raise TimeoutError("the model is asleep")

    def asking(llm):
        agent = hungry_agent(llm, tools=[], max_execution_time=20)

        class Asking(Flow):
            @start()
            async def ask(self):
                if how != "a task":
                    return (await getattr(agent, how)("Tell.")).raw
                task = Task(description="Tell.", expected_output="it", agent=agent)
                return (await Crew(agents=[agent], tasks=[task]).akickoff()).raw

        return Asking()

    async def main():
        _, well = here(asking(answering("done")))
        _, ill = here(asking(Raising()))
        return await well.result(), await ill.result()

    well, ill = within_time(main())
    assert (well.status, well.output) == ("done", "done"), well
    assert (ill.status, ill.stopped) == ("failed", None), ill
    assert "the model is asleep" in str(ill.error)


def test_a_flow_is_free_again_when_it_has_ended():
    """And in one run at a time meanwhile."""

    async def main():
        begun, go_on = asyncio.Event(), asyncio.Event()

        class Waiting(Flow):
            @start()
            async def wait(self):
                begun.set()
                await go_on.wait()
                return "done"

        flow = Waiting()
        _, first = here(flow)
        await begun.wait()
        _, second = here(flow)
        refused = await second.result()
        go_on.set()
        return refused, await first.result(), await here(flow)[1].result()

    refused, first, again = within_time(main())
    assert "is in a guarded run already" in refused.error
    assert (first.output, again.output) == ("done", "done")
