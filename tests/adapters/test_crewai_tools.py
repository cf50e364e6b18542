"""Which executions of CrewAI's tools count: the way through a tool's methods is one, what is entered again another."""

import asyncio
import threading

import pytest
from crewai.flow.flow import Flow, start
from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool as FunctionTool
from pydantic import BaseModel, field_validator

from crew_guard import Policy
from crew_guard.adapters import crewai
from crew_guard.adapters.crewai.patches import install
from tests.adapters.guarding import Guard, policy

AT_ONCE = 4


def flow_of(work):
    """A flow whose only method awaits this."""

    class Paying(Flow):
        @start()
        async def pay(self):
            return await work()

    return Paying()


def used(tool, rules, **arguments):
    """One run of a flow that runs a tool in a thread."""

    async def work():
        return str(await asyncio.to_thread(tool.run, **arguments))

    return Guard(crewai, flow_of(work), rules).run(task="pay")


class Tool(BaseTool):
    """One that pays."""

    name: str = "pay"
    description: str = "Pays."


# At the same time


class Meeting(BaseModel):
    """Arguments that are checked when all that are to be executed at the same time have come so far."""

    n: int

    @field_validator("n")
    @classmethod
    def together(cls, n):
        if not n:
            meeting.wait(20)
        return n


meeting = threading.Barrier(AT_ONCE)


def in_threads(tool):
    """A tool's own executions, each in a thread of its own, each in a copy of the tool's context."""

    async def every():
        runs = (asyncio.to_thread(tool.run, n=0) for _ in range(AT_ONCE))
        return await asyncio.gather(*runs, return_exceptions=True)

    return str(asyncio.run(every()))


@pytest.mark.parametrize("cap", [1, 3, 20])
def test_a_tool_that_executes_itself_in_threads_is_admitted_for_each(cap):
    """Though all of them have come to CrewAI's entry before the first does its work."""
    begun = []
    meeting.reset()

    class Pay(Tool):
        args_schema: type[BaseModel] = Meeting

        def _run(self, n):
            begun.append(n)
            return in_threads(self) if n else "paid"

    result = used(Pay(), policy(max_tool_calls=cap), n=1)
    assert len(begun) == result.usage.tool_calls == min(cap, 1 + AT_ONCE)


def test_of_blocking_twins_at_the_same_time_one_is_the_async_tools_own():
    """`_arun` may do its work by `run` once."""
    begun = []
    meeting.reset()

    class Pay(Tool):
        args_schema: type[BaseModel] = Meeting

        def _run(self, n):
            begun.append(n)
            return "paid"

        async def _arun(self, n):
            return str(await asyncio.gather(*(asyncio.to_thread(self.run, n=0) for _ in range(AT_ONCE))))

    tool = Pay()
    result = Guard(crewai, flow_of(lambda: tool.arun(n=1)), policy(max_tool_calls=20)).run(task="pay")
    assert (result.status, len(begun), result.usage.tool_calls) == ("done", AT_ONCE, AT_ONCE)


# Again


def second_time(attempts, n):
    """What works at the second attempt."""
    attempts.append(n)
    if len(attempts) == 1:
        raise OSError("the line is down")
    return "paid"


def failing_once(attempts):
    class Once(Tool):
        def _run(self, n):
            return second_time(attempts, n)

    return Once


def twice_by_run(attempts):
    class Pay(failing_once(attempts)):
        def run(self, **arguments):
            try:
                return super().run(n=1)
            except OSError:
                return super().run(n=2)

    return Pay()


def twice_by_its_work(attempts):
    class Pay(failing_once(attempts)):
        def _run(self, n):
            try:
                return super()._run(n)
            except OSError:
                return super()._run(n=n + 1)

    return Pay()


def twice_by_its_function(attempts):
    def pay(n: int) -> str:
        """Pay."""
        return second_time(attempts, n)

    class Pay(FunctionTool):
        def run(self, **arguments):
            try:
                return self.func(1)
            except OSError:
                return self.func(2)

    return Pay(name="pay", description="Pays.", func=pay)


@pytest.mark.parametrize("made", [twice_by_run, twice_by_its_work, twice_by_its_function])
def test_a_tool_that_tries_again_by_what_it_calls_is_admitted_again(made):
    """With the arguments of the second attempt, which no rule need allow."""
    attempts = []
    result = used(made(attempts), policy(max_tool_calls=2), n=1)
    assert (result.status, attempts, result.usage.tool_calls) == ("done", [1, 2], 2)
    attempts = []
    rules = Policy.model_validate({"tools": {"rules": {"pay": [{"argument": "n", "one_of": [1]}]}}})
    used(made(attempts), rules, n=1)
    assert attempts == [1]


def test_a_method_that_calls_itself_is_executed_each_time():
    """It is what CrewAI executes a tool by, whoever calls it."""

    class Walk(Tool):
        def _run(self, n):
            return f"{n} {self._run(n - 1)}" if n else "there"

    result = used(Walk(), policy(max_tool_calls=9), n=5)
    assert (result.status, result.usage.tool_calls) == ("done", 6)


def test_what_a_method_calls_beside_is_no_execution():
    """A method of another name may call itself, and a method those of its bases."""

    class Walk(Tool):
        def _run(self, n):
            return self.walk(n)

        def walk(self, n):
            return f"{n} {self.walk(n - 1)}" if n else "there"

    class Further(Walk):
        def run(self, *args, **kwargs):
            return super().run(*args, **kwargs)

        def _run(self, n):
            return super()._run(n)

    result = used(Further(), policy(max_tool_calls=1), n=5)
    assert (result.status, result.usage.tool_calls) == ("done", 1)


def test_a_method_that_a_class_is_given_later_is_gated():
    """Though the tool was made before."""

    class Pay(Tool):
        def _run(self, n):
            return "paid"

    tool = Pay()
    install()
    Pay._run = lambda self, n: "paid twice"
    result = used(tool, policy(max_tool_calls=9), n=1)
    assert (result.status, result.usage.tool_calls) == ("done", 1)


def test_a_tool_that_uses_another_is_admitted_for_both():
    """What another does is no part of it."""

    class Inner(Tool):
        name: str = "transfer"

        def _run(self, n):
            return "transferred"

    class Outer(Tool):
        def _run(self, n):
            return Inner().run(n=n)

    result = used(Outer(), policy(max_tool_calls=9), n=1)
    assert (result.output, result.usage.tool_calls) == ("transferred", 2)


@pytest.mark.parametrize("arguments", [{"n": 1}, {"n": "many"}, {}])
def test_what_crewai_turns_down_before_the_work_is_no_execution(arguments):
    """Arguments that don't fit, and a tool that was used as often as it may be."""

    class Pay(Tool):
        def _run(self, n: int) -> str:
            return "paid"

    pay = Pay(max_usage_count=1, current_usage_count=1)
    result = used(pay, policy(max_tool_calls=9), **arguments)
    assert (result.status, result.usage.tool_calls) == ("done" if arguments == {"n": 1} else "failed", 0)
