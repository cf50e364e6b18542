"""What a crew is made of has the types that journals hold: said where it is made, not when its journal is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crew_guard import Agent, Crew, Role, Task, chain, node, tool
from crew_guard.core.processes import Turns
from crew_guard.core.verdicts import Judge
from crew_guard.errors import WorkflowError

ANN = Agent(Role(name="ann", goal="Find"))
odd: Any = 5


class Named(str):
    """A text of a user's own kind, which no journal can hold as it is."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Agent(Role(name="a", goal="g"), name=odd), "an agent's name must be a text, not 5"),
        (lambda: Agent(Role(name="a", goal="g"), model=odd), "an agent's model must be a text, not 5"),
        (lambda: Task(None), "a task's description must be a text, not None"),  # pyright: ignore[reportArgumentType]
        (lambda: Task("x", odd), "a task's agent must be a text, not 5"),
        (lambda: Task("x", name=odd), "a task's name must be a text, not 5"),
        (lambda: Task("x", kind=odd), "a task's kind must be a text, not 5"),
        (lambda: Crew([ANN], [Task("x")], name=odd), "a crew's name must be a text, not 5"),
        (lambda: Crew([ANN], [Task("x")], defaults=[odd]), "a crew's defaults must be a Mapping, not"),  # pyright: ignore[reportArgumentType]
        (lambda: Judge("Is it right?", name=odd), "a judge's name must be a text, not 5"),
        (lambda: Judge("Is it right?", odd), "a judge's model must be a text, not 5"),
        (lambda: Judge("Is it right?", cases=odd), "a judge's cases must be a list, not 5"),
        (lambda: Judge("Is it right?", cases=[odd]), "each of a judge's cases must be a Case, not 5"),
        (lambda: Turns(until="bye", ended_by=odd), "a conversation's ended_by must be a text, not 5"),
        (lambda: tool("search"), r"tool takes a function, not 'search': write @tool or @tool\(name='search'\) above"),
        (lambda: tool(odd), "tool takes a function, not 5"),
        (lambda: tool(name="look")(odd), "tool takes a function, not 5"),
        (lambda: tool(name=odd), "a tool's name must be a text, not 5"),
    ],
)
def test_what_is_no_text_is_refused_by_name(build: Callable[[], object], said: str):
    """The error names the argument, what was given and what was expected."""
    with pytest.raises(TypeError, match=said):
        build()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: Agent(Role(name="a", goal="g"), model=""),
            "an agent's model is empty: expected a model's name such as",
        ),
        (lambda: Role(name="a", goal="g", model=""), "should have at least 1 character"),
        (lambda: Judge("Is it right?", ""), "a judge's model is empty"),
        (lambda: Judge("Is it right?", max_tokens="256"), "max_tokens must be a whole number of at least 1, not '256'"),
        (lambda: Judge("Is it right?", max_tokens=0), "max_tokens must be a whole number of at least 1, not 0"),
        (lambda: tool(max_seconds="5"), "a tool's max_seconds must be seconds, more than 0, not '5'"),
        (lambda: tool(max_result_chars=None), "max_result_chars must be a whole number, 0 or more, not None"),
        (lambda: tool(max_result_chars=-1), "max_result_chars must be a whole number, 0 or more, not -1"),
    ],
)
def test_a_value_that_can_not_be_is_refused_by_name(build: Callable[[], object], said: str):
    """A model's name that says none, and numbers that are none, before anything is asked."""
    with pytest.raises(ValueError, match=said):
        build()


def test_a_text_of_another_kind_is_taken_as_its_plain_text():
    """An enumeration's member, say, is kept as what it says."""
    crew = Crew([Agent(Role(name="a", goal="g"), name=Named("ann"))], [Task(Named("x"), name=Named("t"))])
    assert [type(one) for one in (crew.agents[0].name, crew.tasks[0].name, crew.tasks[0].description)] == [str] * 3


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Crew([ANN], [Task("x")], name=""), "a crew's name must not be blank, like ''"),
        (lambda: Crew([ANN], [Task("x")], name=" "), "a crew's name must not be blank, like ' '"),
        (lambda: Agent(Role(name="a", goal="g"), name=" "), "an agent's name must not be blank"),
        (lambda: Task("x", name=" "), "a task's name must not be blank"),
        (lambda: Task("x", kind=" "), "a task's kind must not be blank"),
        (lambda: Judge("Is it right?", name=""), "a judge's name must not be blank"),
        (lambda: chain(node(str, name="n"), name=""), "a workflow's name must not be blank, like ''"),
    ],
)
def test_a_name_that_nobody_could_see_is_refused(build: Callable[[], object], said: str):
    """Where none means that there is a default, only a blank one is."""
    with pytest.raises((ValueError, WorkflowError), match=said):
        build()
