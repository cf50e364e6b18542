"""How guarded runs of CrewAI's end: what goes on, what there was, what is charged."""

import asyncio
import logging
import threading

import pytest
from crewai import Crew, Task
from crewai.flow.flow import Flow, listen, or_, start
from crewai.llms.providers.anthropic.completion import AnthropicCompletion
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tools import tool as as_tool
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from crew_guard.core.policy import Policy
from crew_guard.testing.clock import no_time_passes
from crew_guard.testing.crews import never, reason_of
from tests.adapters.crewai_doubles import ActingLLM, answering, hungry_agent, hungry_crew, request
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer
from tests.adapters.test_crewai_anthropic import MessagesServer
from tests.adapters.test_crewai_awaited import here, within_time


class CountingServer(MessagesServer):
    """Anthropic's, which notes what it is asked to count."""

    def __init__(self, **options):
        super().__init__(**options)
        self.counted = []

    def reply(self, handler, body):
        if "count_tokens" in handler.path:
            self.counted.append(body)
        super().reply(handler, body)


class Score(BaseModel):
    score: int


def three_tasks(llm):
    agent = hungry_agent(llm, tools=[])
    tasks = [Task(name=f"t{i}", description="Go on.", expected_output="it", agent=agent) for i in range(3)]
    return Crew(agents=[agent], tasks=tasks)


# A tool's time


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tools_time_by_the_policy_ends_one_execution(is_async):
    """It has failed, the agent reads why and goes on; a thread that is left behind is named."""
    go_on, read = threading.Event(), []

    @as_tool("slow")
    def slow(query: str) -> str:
        """Look something up."""
        go_on.wait(30)
        return "too late"

    @as_tool("slow")
    async def slow_async(query: str) -> str:
        """Look something up."""
        await never()

    def does(number, messages):
        if number == 1:
            return [request("slow", query="x")]
        read.append(str(messages[-1]["content"]) + str(messages[-2]["content"]))
        return "done"

    rules = Policy.model_validate({"tools": {"limits": {"slow": {"max_seconds": 0.2}}}})
    guard = Guard(adapter, hungry_crew(hungry_agent(ActingLLM(does), tools=[slow_async if is_async else slow])), rules)
    try:
        result = guard.run(topic="rivers")
    finally:
        go_on.set()
    assert (result.status, result.output, result.usage.tool_calls) == ("done", "done", 1), result
    assert "slow was ended after 0.2 s, its max_seconds" in read[0]
    assert [event.status for event in guard.events("Settled")] == ["ok", "ok", "failed", "ok"]
    assert not is_async or result.late == ()


# A thread that is left behind


def behind_a_guardrail(hold):
    def weigh(output):
        hold()
        return True, output.raw

    agent = hungry_agent(answering(), tools=[])
    task = Task(name="find", description="Go on.", expected_output="it", agent=agent, guardrail=weigh)
    return Crew(agents=[agent], tasks=[task])


def behind_a_callback_of_a_nameless_task(hold):
    agent = hungry_agent(answering(), tools=[])
    one, two = (Task(description="Go on.", expected_output="it", agent=agent) for _ in range(2))
    two.callback = lambda _: hold()
    return Crew(agents=[agent], tasks=[one, two])


def behind_a_callback_of_the_crew(hold):
    crew = hungry_crew(hungry_agent(answering(), tools=[]), name="finders")
    crew.after_kickoff_callbacks = [lambda output: hold() or output]
    return crew


@pytest.mark.filterwarnings("ignore:function callbacks cannot be serialized")
@pytest.mark.parametrize(
    ("made", "name"),
    [
        (behind_a_guardrail, "Seeker/find"),
        (behind_a_callback_of_a_nameless_task, "Seeker/task_2"),
        (behind_a_callback_of_the_crew, "finders/kickoff"),
    ],
)
@pytest.mark.parametrize("awaited", [False, True])
def test_a_thread_in_which_no_action_is_under_way_is_named_by_its_task(made, name, awaited):
    """Its next run is refused as long as it goes on; then it is free."""
    begun, go_on = threading.Event(), threading.Event()

    def hold():
        begun.set()
        go_on.wait(30)

    crew = made(hold)

    async def main():
        return await here(crew, policy(max_seconds=1), topic="rivers")[1].result()

    try:
        result = within_time(main()) if awaited else Guard(adapter, crew, policy(max_seconds=1)).run(topic="rivers")
    finally:
        go_on.set()
    assert begun.is_set()
    assert (reason_of(result), result.late) == ("deadline", (name,))


# Flows that are awaited


def test_a_flow_whose_method_still_works_in_its_thread_is_not_free():
    """The result comes on time and names the method; once the thread has ended the flow is free, its state its own."""
    go_on, over = threading.Event(), threading.Event()

    class Slow(Flow):
        @start()
        def work(self):
            if self.state["who"] == "ann":
                time_is_up()
                go_on.wait(30)
                over.set()
            return self.state["who"]

    async def main():
        flow = Slow()
        _, first = here(flow, policy(max_seconds=9), who="ann")
        try:
            stopped = await first.result()
            refused = await here(flow, who="bob")[1].result()
        finally:
            go_on.set()
        await asyncio.to_thread(over.wait, 30)
        again = await here(flow, who="bob")[1].result()
        while again.error and "still works on it" in again.error:  # the thread has a line or two to go
            again = await here(flow, who="bob")[1].result()
        return stopped, refused, again

    with no_time_passes() as time_is_up:
        stopped, refused, again = within_time(main())
    assert (reason_of(stopped), stopped.late) == ("deadline", ("Slow/work",))
    assert "still works on it" in refused.error
    assert (again.status, again.output) == ("done", "bob"), again


def racing(act, acted):
    class Racing(Flow):
        @start()
        async def go(self):
            return 1

        @listen(go)
        async def by_mail(self):
            await act("mail")

        @listen(go)
        async def by_phone(self):
            await act("phone")

        @listen(or_(by_mail, by_phone))
        async def done(self):
            acted.append("done")

    return Racing(), ["mail", "phone"]


def beginning(act, acted):
    class Beginning(Flow):
        @start()
        async def go(self):
            self.mine = asyncio.create_task(act("mine"))
            await act("method")

    return Beginning(), ["method", "mine"]


@pytest.mark.parametrize(
    ("made", "end"),
    [(racing, "kill"), (racing, "cancel"), (beginning, "kill"), (beginning, "cancel"), (beginning, "error")],
)
def test_an_ended_flow_leaves_no_task_that_goes_on_acting(made, end):
    """Listeners that race for an or_, and tasks that a method begins by itself."""

    async def main():
        begun, ended, before = asyncio.Event(), [], asyncio.all_tasks()

        async def act(name):
            acting.append(name)
            if len(acting) == len(names):
                begun.set()
            try:
                if end == "error" and name == "method":
                    await begun.wait()
                    raise ValueError("no")
                await never()
            finally:
                ended.append(name)

        acting, acted = [], []
        flow, names = made(act, acted)
        guard, running = here(flow, policy(max_seconds=20))
        await begun.wait()
        if end == "cancel":
            running.interrupt()
        elif end == "kill":
            assert guard.supervisor.kill(guard.run_id)
        result = await running.result()
        left = asyncio.all_tasks() - before
        if left:
            await asyncio.wait(left, timeout=5)
        return result, acted, sorted(ended) == names, [str(task.get_coro()) for task in left if not task.done()]

    result, *rest = within_time(main())
    assert result.status == ("failed" if end == "error" else "stopped")
    assert rest == [[], True, []]


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()])
def test_a_method_that_exits_fails_its_run_and_not_the_callers_loop(raised):
    """As in a run that has a loop of its own."""

    class Exiting(Flow):
        @start()
        async def leave(self):
            raise raised

    async def main():
        result = await here(Exiting())[1].result()
        await asyncio.sleep(0)
        return result

    result = within_time(main())
    assert (result.status, f"raised {type(raised).__name__}" in result.error) == ("failed", True), result


# What a stopped run hands over


def test_a_stopped_crew_hands_over_what_its_tasks_gave():
    """By task."""
    result = Guard(adapter, three_tasks(answering()), policy(max_steps=2)).run(id="1")
    assert (result.status, result.partial) == ("stopped", {"t0": "done", "t1": "done"}), result


def test_a_stopped_for_each_hands_over_what_each_gave():
    """By the number of the inputs, as a whole run's outputs are."""
    rules = policy(max_steps=4)
    result = Guard(adapter, three_tasks(answering()), rules).run(for_each=[{}, {}])
    assert result.partial == {"1.t0": "done", "1.t1": "done", "1.t2": "done", "2.t0": "done"}, result


def test_a_crew_that_fails_hands_over_what_there_was():
    """Its error stays the run's."""

    def does(number, messages):
        if number > 1:
            raise ValueError("the second is one too many")
        return "first"

    result = Guard(adapter, three_tasks(ActingLLM(does)), policy()).run(id="1")
    assert (result.status, result.partial) == ("failed", {"t0": "first"}), result
    assert "the second is one too many" in result.error


@pytest.mark.parametrize("awaited", [False, True])
def test_a_stopped_flow_hands_over_what_its_methods_gave(awaited):
    """Of this run: what an earlier one gave is not handed over."""
    llm = answering()

    class Two(Flow):
        @start()
        def first(self):
            return llm.call("go")

        @listen(first)
        def second(self):
            return llm.call("go")

    flow = Two()

    def run(steps):
        if not awaited:
            return Guard(adapter, flow, policy(max_steps=steps)).run(id="1")

        async def main():
            return await here(flow, policy(max_steps=steps))[1].result()

        return within_time(main())

    one, none = run(1), run(0)
    assert (one.status, one.partial) == ("stopped", {"first": "done"}), one
    assert (none.status, none.partial) == ("stopped", None), none


def test_an_ordinary_stop_prints_no_error_of_a_listener(caplog):
    """A user's own error in a listener is printed as ever."""
    llm = answering()

    class Failing(Flow):
        @start()
        def first(self):
            return llm.call("go")

        @listen(first)
        def second(self):
            if llm.served.calls > 1:
                raise ValueError("mine")
            return llm.call("go")

    with caplog.at_level(logging.ERROR):
        Guard(adapter, Failing(), policy(max_steps=1)).run(id="1")
        assert "Error executing listener" not in caplog.text
        llm.served.calls = 2
        Guard(adapter, Failing(), policy()).run(id="1")
    assert "Error executing listener second: mine" in caplog.text


# Requests, and what they cost


@pytest.mark.parametrize("rules", [policy(max_steps=0), Policy.model_validate({"models": {"deny": ["*:claude-*"]}})])
def test_a_prompt_that_may_not_be_sent_is_not_sent_to_be_counted(rules):
    """CrewAI counts a prompt beside the call; on what the policy denies, and when all is allowed, too."""
    with CountingServer(answer="done") as server:
        llm = AnthropicCompletion(
            model="claude-3-5-haiku-latest", api_key="none", base_url=server.url.removesuffix("/v1")
        )
        crew = hungry_crew(hungry_agent(llm, tools=[]))
        refused = Guard(adapter, crew, rules).run(topic="rivers")
        assert (refused.status != "done", server.counted, server.requests) == (True, [], 0)
        allowed = Guard(adapter, crew, policy()).run(topic="rivers")
        assert (allowed.output, allowed.usage.steps, server.counted, server.requests) == ("done", 1, [], 1)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", [OpenAICompletion, AnthropicCompletion])
def test_a_call_whose_client_cannot_be_built_costs_nothing(monkeypatch, kind, is_async):
    """No key: nothing was sent."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    llm = kind(model="gpt-4o" if kind is OpenAICompletion else "claude-3-5-haiku-latest")

    class Asking(Flow):
        @start()
        async def ask(self):
            return await llm.acall("go") if is_async else llm.call("go")

    result = Guard(adapter, Asking(), policy()).run(id="1")
    assert (result.status, "API_KEY is required" in result.error) == ("failed", True), result
    assert (result.usage.steps, result.usage.tokens, result.unreported) == (0, 0, 0)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_that_does_not_fit_its_schema_costs_what_was_reported(is_async):
    """OpenAI's client raises before CrewAI counts; the tokens were named all the same."""
    with HungryServer(answer='{"score": "high"}') as server:
        llm = OpenAICompletion(model="gpt-4o", api_key="none", base_url=server.url)

        class Scoring(Flow):
            @start()
            async def ask(self):
                for _ in range(2):
                    with pytest.raises(ValueError, match="score"):
                        await self.once()
                server.answer = '{"score": 3}'
                return (await self.once()).score

            async def once(self):
                if is_async:
                    return await llm.acall("Rate it.", response_model=Score)
                return llm.call("Rate it.", response_model=Score)

        result = Guard(adapter, Scoring(), policy()).run(id="1")
        assert (result.output, result.usage.steps, server.requests) == (3, 3, 3), result
        assert (result.usage.tokens, result.unreported) == (server.served.tokens, 0)
