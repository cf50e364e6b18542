"""Inputs that can't be meant are refused before anything runs."""

import pytest
from crewai import Crew, Task
from crewai.flow.flow import Flow, start
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from crew_guard.api import guard
from crew_guard.errors import ConfigError
from tests.adapters.crewai_doubles import ActingLLM, answering, hungry_agent, hungry_crew
from tests.adapters.guarding import Guard, policy


class Topic(BaseModel):
    topic: str = ""


class Job(BaseModel):
    task: str = ""


def telling(state):
    class Telling(Flow[state]):
        @start()
        def tell(self):
            return f"told {self.state.task}"

    return Telling()


def test_a_text_that_no_task_would_read_is_refused():
    """The error names the crew's own variables; a crew that has {task} takes it."""
    llm = answering()
    with pytest.raises(ConfigError, match=r"no \{task\}.*run\(\{'topic': '…'\}\)"):
        guard(hungry_crew(hungry_agent(llm)), policy()).run("Find out what gzip is")
    assert llm.served.calls == 0
    prompts = []
    agent = hungry_agent(ActingLLM(lambda number, messages: prompts.append(str(messages)) or "done"), tools=[])
    crew = Crew(agents=[agent], tasks=[Task(description="Do: {task}", expected_output="it", agent=agent)])
    for text in ("Find out what gzip is", "Find out what tar is"):  # filled in already, the second time
        assert Guard(adapter, crew, policy()).run(**guard(crew).runtime.inputs_of(text)).output == "done"
        assert text in prompts[-1]


def test_a_text_that_no_state_takes_is_refused():
    """A flow whose state has a task takes it."""
    with pytest.raises(ConfigError, match=r"the state of Telling has no field task"):
        guard(telling(Topic), policy()).run("Find out what gzip is")
    assert guard(telling(Job), policy()).run("Find out").output == "told Find out"


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"for_each": [{"topic": "a"}], "lang": "en"}, "for_each stands alone, and here is lang"),
        ({"for_each": "abc"}, "for_each must be a list of inputs"),
        ({"for_each": [{"topic": "a"}, "b"]}, "for_each must be a list of inputs"),
    ],
)
def test_inputs_for_several_kickoffs_that_are_none_are_refused(inputs, told):
    """They would be one kickoff's plain inputs, which nobody reads."""
    llm = answering()
    result = Guard(adapter, hungry_crew(hungry_agent(llm)), policy()).run(**inputs)
    assert (result.status, told in result.error, llm.served.calls) == ("failed", True, 0), result
