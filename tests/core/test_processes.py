"""A crew that can't work is refused where it is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crew_guard import Agent, Crew, Role, Task, tool
from crew_guard.core.processes import Said, Turns

ANN, BOB = Agent(Role(name="ann", goal="Find")), Agent(Role(name="bob", goal="Write"))


@tool
def delegate(agent: str) -> str:
    """A tool of the user's."""
    return agent


def crew(*tasks: Task, **options: Any) -> Crew:
    return Crew([ANN, BOB], tasks or (Task("x", "ann"),), **options)


def a(name: str, *context: str) -> Task:
    return Task("x", "ann", name=name, context=context)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: crew(process="swarm"), "'swarm' is not known; there are sequential, parallel, hierarchical"),
        (lambda: crew(a("one", "two"), process="parallel"), "'one' needs the output of 'two'; the tasks are one"),
        (lambda: crew(a("one", "one"), process="parallel"), "needs its own output"),
        (
            lambda: crew(a("one", "three"), a("two", "one"), a("three", "two"), process="parallel"),
            r"need each other in a circle: (\w+) → \w+ → \w+ → \1",
        ),
        (lambda: crew(a("one", "two"), a("two")), "'two', which comes after it"),
        (lambda: Task("x", context="one"), "must be a list"),
        (lambda: Task("x", context=[3]), "names of tasks"),
        (lambda: crew(manager=ANN), "manager= is for the process hierarchical, not sequential"),
        (lambda: crew(turns=Turns(max_turns=2)), "turns= is for the process conversation"),
        (lambda: crew(selector=ANN, process="parallel"), "selector= is for the process conversation"),
        (lambda: crew(process="hierarchical", manager=ANN.role), "both named 'ann'"),
        (lambda: crew(process="hierarchical", manager="ann"), "a crew's manager must be a Agent"),
        (lambda: crew(process="conversation"), "Turns"),
        (lambda: crew(process="conversation", turns=Turns("x", ended_by="cy")), "'cy' is none of its agents"),
        (Turns, "has no end"),
        (lambda: Turns(max_turns=0), "at least 1"),
        (lambda: Turns(until=3), "a phrase or a function"),  # type: ignore[arg-type]
        (
            lambda: Crew([Agent(Role(name="cy", goal="g"), (delegate,))], [Task("x")], process="hierarchical"),
            "cy has a tool 'delegate'",
        ),
    ],
)
def test_what_can_not_work_is_named(build: Callable[[], Any], said: str) -> None:
    """With what would be right."""
    with pytest.raises((ValueError, TypeError), match=said):
        build()


def test_everyone_who_calls_a_model_is_a_member() -> None:
    """The manager and the selector count, too; a hierarchical crew always has a manager."""
    assert [one.name for one in crew(Task("x"), process="hierarchical").everyone()] == ["ann", "bob", "manager"]
    boss = Role(name="boss", goal="Lead {team}")
    led = crew(process="conversation", turns=Turns(max_turns=1), selector=boss)
    assert [one.name for one in led.everyone()] == ["ann", "bob", "boss"]
    assert led.variables() == {"team"}


def test_the_results_of_a_parallel_crew_are_what_nobody_takes_up() -> None:
    """Of others, the last task's."""
    tasks = (a("one"), a("two"), a("three", "one"))
    assert [task.name for task in crew(*tasks, process="parallel").results()] == ["two", "three"]
    assert [task.name for task in crew(*tasks).results()] == ["three"]


@pytest.mark.parametrize(
    ("turns", "over"),
    [
        (Turns("APPROVED"), True),
        (Turns("APPROVED", ended_by="ann"), False),
        (Turns("APPROVED", ended_by="bob"), True),
        (Turns(lambda said: len(said) > 2), False),
        (Turns(max_turns=9), False),
    ],
)
def test_a_conversation_is_over_when_its_condition_says_so(turns: Turns, over: bool) -> None:
    """A phrase of anyone, of one, or a function."""
    assert turns.over([Said("ann", "x"), Said("bob", "fine: APPROVED")]) is over
    assert not turns.over([])
