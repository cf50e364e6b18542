"""The same answer to several questions is no loop, on hosts either: each question begins a conversation of its own."""

import pytest
from crewai import Crew, Task
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from llama_index.core.base.llms.types import ChatMessage
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard.adapters import crewai, langgraph, llama_index
from tests.adapters import crewai_doubles, langgraph_doubles, llama_index_doubles
from tests.adapters.guarding import Guard, policy

SAME = "I checked the clauses one by one, and no issues were found in this document."
QUESTIONS = [f"Does document {n} comply? {'lorem ' * 30 * n}" for n in range(1, 11)]
ONE = ["Does the document comply?"] * 10


def by_crewai(questions):
    agent = crewai_doubles.hungry_agent(crewai_doubles.answering(SAME), tools=[])
    tasks = [Task(description=one, expected_output="an answer", agent=agent, context=[]) for one in questions]
    return crewai, Crew(agents=[agent], tasks=tasks)


def by_langgraph(questions):
    class Chat(langgraph_doubles.HungryChat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            result = super()._generate(messages, stop, run_manager, **kwargs)
            given = result.generations[0].message
            said = AIMessage(SAME, usage_metadata=given.usage_metadata)
            result.generations[0].message = said
            return result

    model = Chat()
    lengthy = iter(range(1, 99))

    def ask(state):
        for one in questions:
            model.invoke([("user", one), ("assistant", "well " * 100 * next(lengthy)), ("user", "Well?")])
        return {"messages": [AIMessage("done")]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return langgraph, graph.compile()


def by_llama_index(questions):
    class Saying(llama_index_doubles.HungryLLM):
        def chat(self, messages, max_tokens=None, **kwargs):
            response = super().chat(messages, max_tokens=max_tokens, **kwargs)
            response.message = ChatMessage(SAME, role="assistant")
            return response

    llm = Saying(answer_after=0)

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            for n, one in enumerate(questions):
                said = ChatMessage("well " * 100 * n, role="assistant")
                await llm.achat([ChatMessage(one), said, ChatMessage("Well?")])
            return StopEvent(result="done")

    return llama_index, Asking(timeout=None)


hosts = pytest.mark.parametrize("host", [by_crewai, by_langgraph, by_llama_index])


@hosts
def test_several_questions_may_have_the_same_answer(host):
    """Ten of them, each with a longer prompt than the one before."""
    adapter, crew = host(QUESTIONS)
    result = Guard(adapter, crew, policy(max_steps=40)).run(id="1")
    assert (result.status, result.usage.steps) == ("done", 10), result.stopped or result.error


@pytest.mark.parametrize("host", [by_langgraph, by_llama_index])
def test_the_same_question_that_is_answered_the_same_for_ever_is_a_loop(host):
    """It begins as before, and has grown."""
    adapter, crew = host(ONE)
    result = Guard(adapter, crew, policy(max_steps=40)).run(id="1")
    assert (result.stopped.reason, result.stopped.limit) == ("loop", "loops.same_message")
