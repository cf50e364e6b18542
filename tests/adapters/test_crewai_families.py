"""What acts in CrewAI is gated wherever its class has it from: a mixin, a decorator, a base that tells nobody."""

from functools import partial

import pytest
from crewai import LLM
from crewai.flow.flow import Flow, start
from crewai.llms.base_llm import BaseLLM
from crewai.tools import BaseTool

from crew_guard.adapters import crewai as adapter
from crew_guard.adapters.crewai.patches import install
from crew_guard.errors import ConfigError
from tests.adapters.crewai_doubles import HungryLLM, Look, hungry_agent, hungry_crew, request
from tests.adapters.guarding import Guard, policy

install()  # as an earlier guard() of this process has


class Client:
    """What models and tools outside of the families act by, counted."""

    calls = 0
    executions = 0

    def call(self, messages, *args, **kwargs):
        Client.calls += 1
        return "done" if Client.calls > 8 else [request("look", Client.calls, query=f"q{Client.calls}")]

    def _run(self, query: str) -> str:
        Client.executions += 1
        return f"found {query}"


@pytest.fixture(autouse=True)
def fresh():
    """Nothing was called yet."""
    Client.calls = Client.executions = 0


def from_a_mixin():
    class Mine(Client, HungryLLM):
        pass

    return Mine


def from_a_mixin_beside_no_other_call():
    class Mine(Client, BaseLLM):
        def __init__(self):
            super().__init__(model="mine", provider="custom")

        def supports_function_calling(self):
            return True

        def get_context_window_size(self):
            return 10**6

    return Mine


def of_a_base_that_keeps_its_own_registry():
    class Registered(HungryLLM):
        def __init_subclass__(cls, **options):
            pass

    class Mine(Registered):
        def call(self, messages, *args, **kwargs):
            return Client.call(self, messages)

    return Mine


def from_a_decorator():
    def with_its_own_client(kind):
        kind.call = Client.call
        return kind

    @with_its_own_client
    class Mine(HungryLLM):
        pass

    return Mine


def from_a_decorator_of_what_chooses_its_provider():
    class Mine(LLM):
        pass

    Mine.call = Client.call
    return partial(Mine, "mistral/mistral-small", is_litellm=True, api_key="none")


def from_an_object_that_is_called():
    class Elsewhere:
        def __call__(self, messages, *args, **kwargs):
            return Client().call(messages)

    class Mine(HungryLLM):
        pass

    Mine.call = Elsewhere()
    return Mine


MODELS = [
    from_a_mixin,
    from_a_mixin_beside_no_other_call,
    of_a_base_that_keeps_its_own_registry,
    from_a_decorator,
    from_a_decorator_of_what_chooses_its_provider,
    from_an_object_that_is_called,
]


@pytest.mark.parametrize("made", MODELS)
def test_a_call_from_elsewhere_is_a_step(made):
    """The cap holds for an agent's model, and each call is charged."""
    result = Guard(adapter, hungry_agent(made()()), policy(max_steps=2)).run()
    assert (Client.calls, result.usage.steps) == (2, 2)
    assert result.stopped.limit == "max_steps"


@pytest.mark.parametrize("made", MODELS)
def test_a_call_from_elsewhere_is_a_step_of_the_method_that_makes_it(made):
    """The class is made in the run, and no agent has its model."""

    class Asking(Flow):
        @start()
        def ask(self):
            llm = made()()
            for _ in range(5):
                llm.call("hello")

    result = Guard(adapter, Asking(), policy(max_steps=2)).run(id="1")
    assert (Client.calls, result.usage.steps, result.stopped.limit) == (2, 2, "max_steps")
    assert list(result.agents) == ["ask"]


class MixedLook(Client, BaseTool):
    name: str = "look"
    description: str = "Look something up."


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("crewed", [True, False])
def test_a_tool_that_runs_by_a_mixin_is_a_tool_call(native, crewed):
    """Whether CrewAI takes its requests from the model's text or not."""
    agent = hungry_agent(HungryLLM(native=native, answer_after=8), tools=[MixedLook()])
    guard = Guard(adapter, hungry_crew(agent) if crewed else agent, policy(max_tool_calls=2))
    result = guard.run(topic="rivers") if crewed else guard.run()
    assert (Client.executions, result.usage.tool_calls) == (2, 2)
    assert result.stopped.limit == "max_tool_calls"


def test_what_is_set_on_an_object_is_refused_by_name():
    """Nobody stands before what Python finds before the class's own."""
    look = Look()
    look._run = lambda query: "found"
    with pytest.raises(ConfigError, match=r"tool 'look' of agent 'Seeker ' has a _run that was set on the object"):
        adapter.runtime_for(hungry_agent(HungryLLM(), tools=[look]), None)
    llm = HungryLLM()
    vars(llm)["call"] = lambda *args, **kwargs: "done"
    with pytest.raises(ConfigError, match=r"the model of agent 'Seeker ' has a call that was set on the object"):
        adapter.runtime_for(hungry_agent(llm), None)


def test_a_method_that_its_class_wraps_again_is_one_action():
    """The wrapper is what is gated, whatever functools.wraps copied to it, and what it wraps acts for it."""

    def traced(kind):
        own = kind.call

        def call(self, *args, **kwargs):
            return own(self, *args, **kwargs)

        call.__dict__.update(vars(own))  # as functools.wraps does
        kind.call = call
        return kind

    @traced
    class Mine(HungryLLM):
        pass

    llm = Mine(answer_after=3)
    result = Guard(adapter, hungry_agent(llm), policy()).run()
    assert (result.status, llm.served.calls, result.usage.steps) == ("done", 4, 4)
    assert llm.served.tokens == result.usage.tokens
