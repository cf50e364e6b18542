"""Flows of CrewAI under the gate: what their methods build and call is gated where it acts."""

import asyncio
import threading

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.flow import human_feedback
from crewai.flow.async_feedback.types import HumanFeedbackPending
from crewai.flow.flow import Flow, and_, listen, start
from crewai.flow.persistence import SQLiteFlowPersistence

from crew_guard.adapters import crewai as adapter
from crew_guard.errors import ConfigError
from tests.adapters.crewai_doubles import ActingLLM, HungryLLM, Look, answering, hungry_agent
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer


def writing(llm, tools=()):
    """A crew as a flow's method builds it."""
    agent = Agent(role="Writer", goal="write", backstory="You write. " * 200, llm=llm, tools=list(tools))
    return Crew(agents=[agent], tasks=[Task(description="Write it.", expected_output="a page", agent=agent)])


def flow_of(llm, tools=()):
    class Page(Flow):
        @start()
        def outline(self):
            return llm.call("outline " * 500)

        @listen(outline)
        async def write(self, outline):
            return (await writing(llm, tools).kickoff_async()).raw

        @listen(write)
        async def polish(self, page):
            return await llm.acall(f"polish {page}" * 300)

    return Page()


def test_a_flow_is_charged_to_its_methods_and_agents():
    """A model in a closure is a step of the method that calls it; inside of a crew it is the agent's."""
    llm = answering("done")
    guard = Guard(adapter, flow_of(llm), policy(max_steps=9))
    result = guard.run(id="1")
    assert (result.status, result.output) == ("done", "done")
    assert {name: usage.steps for name, usage in result.agents.items()} == {"outline": 1, "Writer": 1, "polish": 1}
    assert result.usage.tokens == llm.served.tokens


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_is_exactly_as_many_model_calls(steps):
    """Wherever in the flow they are made."""
    llm = HungryLLM()
    result = Guard(adapter, flow_of(llm, [Look()]), policy(max_steps=steps)).run(id="1")
    assert llm.served.calls == steps == result.usage.steps
    assert result.stopped.limit == "max_steps"


def test_a_flow_that_swallows_a_refusal_buys_nothing_more():
    """50 times caught: no further call is made, and the result says that the run was stopped."""
    llm = answering("done")

    class Stubborn(Flow):
        @start()
        def insist(self):
            for _ in range(50):
                try:
                    llm.call("again")
                except Exception:
                    self.state["caught"] = self.state.get("caught", 0) + 1
            return "never mind"

    flow = Stubborn()
    result = Guard(adapter, flow, policy(max_steps=2)).run(id="1")
    assert (llm.served.calls, flow.state["caught"]) == (2, 48)
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)


def test_crews_at_the_same_time_share_one_cap():
    """Eight crews in one method: nothing beyond the cap is served."""
    llms = [HungryLLM() for _ in range(8)]

    class Many(Flow):
        @start()
        async def gather(self):
            crews = [writing(llm, [Look()]) for llm in llms]
            await asyncio.gather(*(crew.kickoff_async() for crew in crews), return_exceptions=True)
            return "gathered"

    result = Guard(adapter, Many(), policy(max_tokens=20_000)).run(id="1")
    assert sum(llm.served.tokens for llm in llms) == result.usage.tokens <= 20_000
    assert result.overshoot.tokens == 0
    assert result.stopped.limit == "max_tokens"


def test_methods_that_run_side_by_side_are_told_apart():
    """Two starts in parallel, one model: each method has its own figures."""
    llm = answering("done")

    class Two(Flow):
        @start()
        def left(self):
            return llm.call("left")

        @start()
        def right(self):
            llm.call("right")
            return llm.call("right again")

        @listen(and_(left, right))
        def join(self):
            return "joined"

    result = Guard(adapter, Two(), policy()).run(id="1")
    assert result.output == "joined"
    assert {name: usage.steps for name, usage in result.agents.items()} == {"left": 1, "right": 2}


def test_a_tool_that_a_method_runs_is_a_tool_call():
    """By hand, and with the flow's method as who runs it."""
    look = Look()

    class Looking(Flow):
        @start()
        def look(self):
            return look.run(query="gzip")

    result = Guard(adapter, Looking(), policy(max_tool_calls=1)).run(id="1")
    assert (result.output, result.usage.tool_calls) == ("found gzip", 1)
    assert list(result.agents) == ["look"]
    assert Guard(adapter, Looking(), policy(max_tool_calls=0)).run(id="1").stopped.limit == "max_tool_calls"
    assert len(look.executions) == 1


def test_outside_of_a_guarded_run_nothing_is_gated():
    """The same objects, beside a guarded run and after it, call their models as ever."""
    llm, look = answering("done"), Look()
    beside = []

    class Outside(Flow):
        @start()
        def spawn(self):
            thread = threading.Thread(target=lambda: beside.append(llm.call("not of this run")))
            thread.start()
            thread.join()
            return llm.call("of this run")

    result = Guard(adapter, Outside(), policy(max_steps=1)).run(id="1")
    assert (result.usage.steps, llm.served.calls, beside) == (1, 2, ["done"])
    assert (llm.call("after"), look.run(query="x")) == ("done", "found x")
    assert type(llm).__name__ == "ActingLLM"


def test_a_model_that_cannot_be_gated_ends_the_flow_before_it_is_called():
    """The flow may swallow the error: the run has failed all the same, and says why."""

    class Elsewhere(HungryLLM):
        pass

    Elsewhere.__module__ = "crewai.llms.providers.elsewhere"
    llm = Elsewhere()

    class Hidden(Flow):
        @start()
        def ask(self):
            try:
                return llm.call("hello")
            except ConfigError:
                return "hidden"

    result = Guard(adapter, Hidden(), policy()).run(id="1")
    assert (result.status, llm.served.calls) == ("failed", 0)
    assert "elsewhere.Elsewhere" in result.error


def test_a_real_client_in_a_flow_is_clamped_and_asks_once():
    """LLM('openai/…') built in a method, against a server: retries off, max_tokens sent."""
    with HungryServer(answer="page") as server:

        class Asking(Flow):
            @start()
            def ask(self):
                return LLM("openai/gpt-4o", api_key="none", base_url=server.url).call("write " * 300)

        result = Guard(adapter, Asking(), policy(max_tokens=6_000)).run(id="1")
        assert (result.output, server.requests) == ("page", 1)
        assert server.served.tokens == result.usage.tokens
        assert server.bodies[0]["max_tokens"] <= 4096


def test_a_flow_in_a_guarded_run_cannot_be_guarded_twice():
    """Its state serves one run at a time."""
    begun, go = threading.Event(), threading.Event()

    class Slow(Flow):
        @start()
        def wait(self):
            begun.set()
            go.wait(20)
            return "done"

    flow = Slow()
    guard = Guard(adapter, flow, policy())
    running = guard.start({})
    assert begun.wait(20)
    assert "guarded run already" in Guard(adapter, flow, policy()).run(id="1").error
    go.set()
    assert running.future.result(20).output == "done"


def test_an_agent_of_a_flow_is_checked_before_it_acts():
    """What would go around the guard is refused by name, also where a method builds it."""
    agent = hungry_agent(HungryLLM(), memory=True, embedder={"provider": "cohere", "config": {}})

    class Building(Flow):
        @start()
        def ask(self):
            return agent.kickoff("hello")

    result = Guard(adapter, Building(), policy()).run(id="1")
    assert "memory of agent" in result.error
    assert agent.llm.served.calls == 0


def test_a_model_that_asks_itself_again_makes_a_step_of_each_attempt():
    """A user's class that retries within its call: two attempts; one whose acall is its call: one."""

    class Retrying(ActingLLM):
        def call(self, messages, *args, again=True, **kwargs):
            reply = super().call(messages)
            return self.call(messages, again=False) if again else reply

        async def acall(self, messages, *args, **kwargs):
            return self.call(messages, again=False)

    llm = Retrying(lambda number, messages: "done")

    class Asking(Flow):
        @start()
        async def ask(self):
            await llm.acall("hello " * 500)
            return llm.call("hello " * 500)

    result = Guard(adapter, Asking(), policy(max_steps=9)).run(id="1")
    assert llm.served.calls == 3 == result.usage.steps
    assert result.usage.tokens == llm.served.tokens
    assert Guard(adapter, Asking(), policy(max_steps=2)).run(id="1").stopped.limit == "max_steps"
    assert llm.served.calls == 5


def test_a_flow_may_carry_out_by_itself_what_a_model_asks_for():
    """Its method gets the request for a tool as the answer: that is no answer left out, and the flow is done."""
    llm = HungryLLM()

    class Asking(Flow):
        @start()
        def ask(self):
            return llm.call("look", tools=[{"function": {"name": "look"}}])[0].function.name

    result = Guard(adapter, Asking(), policy()).run(id="1")
    assert (result.status, result.output) == ("done", "look")


class Editor:
    """A person who answers later."""

    def request_feedback(self, context, flow):
        raise HumanFeedbackPending(context=context)


def drafting(llm):
    class Drafting(Flow):
        @start()
        def outline(self):
            return llm.call("outline")

        @listen(outline)
        @human_feedback(message="Is it good?", provider=Editor())
        def draft(self, outline):
            return f"draft of {outline}"

        @listen(draft)
        def publish(self, seen):
            return llm.call(f"publish {seen.output}, {seen.feedback}")

    return Drafting


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("awaited", [False, True])
def test_a_flow_that_waits_for_a_person_is_stopped(awaited, stream, tmp_path):
    """With what its methods gave, what the person is to look at too, and in words what it waits for."""
    flow = drafting(answering("page"))(persistence=SQLiteFlowPersistence(str(tmp_path / "flows.db")))
    flow.stream = stream
    guard = Guard(adapter, flow, policy())

    async def main():
        return await guard.start({"id": "1"}, home=asyncio.get_running_loop()).result()

    result = asyncio.run(main()) if awaited else guard.run(id="1")
    assert (result.status, result.output, result.stopped.reason) == ("stopped", None, "cancelled"), result
    assert result.partial == {"outline": "page", "draft": "draft of page"}
    assert "waits for a person at draft: Is it good?; go on with from_pending('1')" in str(result.stopped)
    assert result.usage.steps == 1


def test_a_flow_that_waited_goes_on_in_a_method_of_a_guarded_one(tmp_path):
    """What it then does is charged there."""
    llm, kept = answering("page"), SQLiteFlowPersistence(str(tmp_path / "flows.db"))
    kind = drafting(llm)
    Guard(adapter, kind(persistence=kept), policy()).run(id="1")

    class Continuing(Flow):
        @start()
        async def answer(self):
            return await kind.from_pending("1", kept).resume_async("yes")

    result = Guard(adapter, Continuing(), policy()).run(id="2")
    assert (result.status, result.output, llm.served.calls) == ("done", "page", 2), result
    assert {name: usage.steps for name, usage in result.agents.items()} == {"publish": 1}
