"""What a guarded graph is given beside its own input, and what it gives: as LangGraph itself takes and gives it."""

from dataclasses import dataclass
from typing import TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, dynamic_prompt
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from crew_guard.adapters import langgraph
from crew_guard.api import Supervisor
from crew_guard.api.guarding import Guarded
from crew_guard.errors import ConfigError
from crew_guard.store.memory import MemoryStore
from tests.adapters.guarding import ByteFacts, policy
from tests.adapters.langgraph_doubles import HungryChat, looker

ONE = {"configurable": {"thread_id": "one"}}


def guarded(graph):
    runtime = langgraph.runtime_for(graph, lambda _: ByteFacts())
    return Guarded(runtime, Supervisor(policy(max_steps=5), store=MemoryStore()), "graph")


@dataclass
class Person:
    """Whom an agent talks to."""

    name: str


@dynamic_prompt
def to_whom(request):
    return f"You talk to {request.runtime.context.name}."


class Noting(HungryChat):
    """Notes its instructions."""

    prompt: str = ""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.prompt = messages[0].text
        return super()._generate(messages, stop, run_manager, **kwargs)


@pytest.mark.parametrize("context", [Person("ann"), {"name": "ann"}])
def test_an_agent_gets_its_context(context):
    """An object of its context_schema, or a mapping that makes one, as LangGraph takes both."""
    model = Noting(answer_after=0)
    agent = create_agent(model, [], middleware=[to_whom], context_schema=Person)
    assert guarded(agent).run({"task": "go", "context": context}).output == "done"
    assert model.prompt == "You talk to ann."


def test_a_context_that_a_graph_has_no_place_for_is_refused():
    """Before anything is asked; it would be dropped without a word."""
    model = HungryChat(answer_after=0)
    result = guarded(create_agent(model, [])).run({"task": "go", "context": Person("ann")})
    assert (result.status, model.served.calls) == ("failed", 0)
    assert "context_schema" in result.error


def test_a_channel_of_that_name_is_the_graphs_own():
    """`context` reaches the state, also beside a context_schema."""

    class Own(TypedDict):
        context: str

    for schema in (None, Person):
        graph = StateGraph(Own, context_schema=schema)
        graph.add_node("n", lambda state: {"context": state["context"] + "!"})
        graph.add_edge(START, "n")
        assert guarded(graph.compile()).run({"context": "here"}).output == {"context": "here!"}


def asking():
    """A graph of messages that asks a person."""
    graph = StateGraph(MessagesState)
    graph.add_node("n", lambda _: {"messages": [("ai", interrupt("sure?"))]})
    graph.add_edge(START, "n")
    return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"resume": "yes", "messages": [("user", "new")]}, "messages"),
        ({"resume": "yes", "task": "new"}, "task"),
        ({"resume": "yes", "command": Command(resume="no")}, "command"),
        ({"command": Command(resume="no"), "messages": []}, "messages"),
    ],
)
def test_what_would_be_dropped_beside_a_resume_is_refused(beside, named):
    """The error names it, and nothing has gone on."""
    guard = guarded(asking())
    guard.run({"messages": [("user", "go")], "config": ONE})
    with pytest.raises(ConfigError, match=named):
        guard.run({**beside, "config": ONE})
    assert guard.run({"resume": "yes", "config": ONE}).output == "yes"


# Entrypoints


class Question(BaseModel):
    """What an entrypoint of one's own is asked."""

    words: str


@entrypoint()
def of_text(question: str) -> str:
    return question.upper()


@entrypoint()
async def of_list(questions: list[str]) -> int:
    return len(questions)


@entrypoint()
def of_model(question: Question | None) -> str:
    return question.words


@entrypoint()
def of_mapping(question: dict[str, str]) -> list[str]:
    return sorted(question)


@entrypoint()
def of_anything(question):
    return sorted(question)


@entrypoint(context_schema=Person)
def of_context(question: str, runtime: Runtime[Person]) -> str:
    return f"{question} {runtime.context.name}"


@pytest.mark.parametrize(
    ("workflow", "given", "output"),
    [
        (of_text, "go", "GO"),
        (of_text, {"task": "go", "config": {"tags": ["x"]}}, "GO"),
        (of_list, {"task": ["a", "b"]}, 2),
        (of_model, {"task": Question(words="go")}, "go"),
        (of_mapping, {"task": "go"}, ["task"]),
        (of_mapping, {"context": "a", "b": "c"}, ["b", "context"]),
        (of_anything, {"task": "go"}, ["task"]),
        (of_context, {"task": "go", "context": Person("ann")}, "go ann"),
    ],
)
def test_an_entrypoint_gets_what_it_takes(workflow, given, output):
    """By its parameter's type: a mapping where it takes one or doesn't say, else what `task` holds."""
    assert guarded(workflow).run(given).output == output


def test_an_entrypoint_is_not_given_what_it_does_not_take():
    """The error says how to give it."""
    result = guarded(of_text).run({"words": "go"})
    assert result.status == "failed"
    assert "takes one str" in result.error
    assert "'task'" in result.error


# What comes of it


def test_an_agents_answer_is_of_one_kind_whatever_its_middleware_keeps():
    """Asked at once or after a person's word: the text. What waits for a person is the state."""
    rule = HumanInTheLoopMiddleware(interrupt_on={"look": True})
    agent = create_agent(
        HungryChat(answer_after=1), [looker([])], middleware=[rule], checkpointer=InMemorySaver(), name="bot"
    )
    guard = guarded(agent)
    waits = guard.run({"task": "go", "config": ONE})
    assert [type(message) for message in waits.partial["messages"]] == [HumanMessage, AIMessage]
    assert guard.run({"resume": {"decisions": [{"type": "approve"}]}, "config": ONE}).output == "done"
    assert guard.run({"task": "again", "config": ONE}).output == "done"


def test_a_state_is_given_as_the_graph_shows_it():
    """Of its output_schema, as its invoke would; and always a state, however few of its channels were set."""

    class Shown(TypedDict, total=False):
        messages: list
        notes: str

    class Whole(Shown, total=False):
        hidden: str

    graph = StateGraph(Whole, output_schema=Shown)
    graph.add_node("n", lambda _: {"messages": ["a"], "hidden": "b"})
    graph.add_edge(START, "n")
    compiled = graph.compile()
    assert guarded(compiled).run({"messages": []}).output == compiled.invoke({"messages": []}) == {"messages": ["a"]}
