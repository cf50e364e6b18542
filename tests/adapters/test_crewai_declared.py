"""Flows of CrewAI that are declared, not written as a class: their methods are a user's as any other's."""

import asyncio
import threading

import pytest
from crewai.flow.flow import Flow, listen, start

from crew_guard.adapters import crewai as adapter
from tests.adapters.crewai_doubles import answering
from tests.adapters.guarding import Guard, policy
from tests.adapters.test_crewai_awaited import here, within_time

go_on, over = threading.Event(), threading.Event()


def ask(flow, *given):
    return answering("asked").call("hello " * 300)


async def ask_async(flow, *given):
    return answering("asked").call("hello " * 300)


def wait(flow, *given):
    go_on.wait(30)
    over.set()


def leave(flow, *given):
    raise SystemExit(3)


def declared(*works):
    """A flow of these functions, one after the other."""
    lines = ["schema: crewai.flow/v1", "name: Page", "methods:"]
    for number, work in enumerate(works, 1):
        begins = "start: true" if number == 1 else f"listen: part{number - 1}"
        lines += [f"  part{number}:", f"    {begins}", f"    do: {{call: code, ref: '{__name__}:{work.__name__}'}}"]
    return Flow.from_declaration(contents="\n".join(lines))


def of_a_class(first, second):
    """The same of a class."""

    class Page(Flow):
        @start()
        def part1(self):
            return first(self)

        @listen(part1)
        def part2(self):
            return second(self)

    return Page()


@pytest.mark.parametrize("first", [ask, ask_async])
def test_a_declared_flow_is_charged_to_its_methods(first):
    """Each is who calls the model, and keeps to what one agent may use."""
    rules = policy().model_copy(update={"per_agent": policy(max_steps=1).limits})
    result = Guard(adapter, declared(first, ask), rules).run(id="1")
    assert (result.status, result.output) == ("done", "asked"), result
    assert {name: usage.steps for name, usage in result.agents.items()} == {"part1": 1, "part2": 1}


@pytest.mark.parametrize("made", [declared, of_a_class])
def test_a_stopped_flow_hands_over_what_its_methods_gave(made):
    """Declared, or of a class."""
    result = Guard(adapter, made(ask, ask), policy(max_steps=1)).run(id="1")
    assert (result.status, result.partial) == ("stopped", {"part1": "asked"})


@pytest.mark.parametrize("made", [declared, of_a_class])
def test_a_method_in_its_thread_is_named_and_its_flow_is_not_free(made):
    """As long as it works there."""
    go_on.clear()
    over.clear()

    async def main():
        flow = made(ask, wait)
        _, first = here(flow, policy(max_seconds=1))
        try:
            stopped = await first.result()
            refused = await here(flow)[1].result()
        finally:
            go_on.set()
        await asyncio.to_thread(over.wait, 30)
        return stopped, refused

    stopped, refused = within_time(main())
    assert stopped.late == ("Page/part2",), stopped
    assert "still works on it" in refused.error


def test_a_declared_method_that_exits_fails_its_run_and_not_the_callers_loop():
    """On the loop of who awaits it."""

    async def main():
        return await here(declared(ask, leave))[1].result()

    result = within_time(main())
    assert (result.status, result.partial) == ("failed", {"part1": "asked"})
    assert "raised SystemExit: 3" in result.error
