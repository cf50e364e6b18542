"""What a new user gets wrong, on each host: the errors name what it is, and the way out."""

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from crewai import Agent, Crew, Task
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tools import tool
from langchain_openai import ChatOpenAI
from llama_index.core.llms.mock import MockLLM

from crew_guard import guard
from crew_guard.adapters import autogen, crewai, langgraph, llama_index, versions
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError, MissingDependencyError
from tests.adapters import autogen_doubles, crewai_doubles, langgraph_doubles, llama_index_doubles
from tests.adapters.guarding import Guard, installed, policy
from tests.adapters.loopback import HungryServer

BUILDS = {
    autogen: lambda: AssistantAgent("ann", autogen_doubles.HungryClient()),
    crewai: lambda: crewai_doubles.hungry_agent(crewai_doubles.answering()),
    langgraph: lambda: langgraph_doubles.hungry_agent(langgraph_doubles.HungryChat()),
    llama_index: lambda: llama_index_doubles.hungry_agent(llama_index_doubles.HungryLLM())[0],
}


PACKAGES = {
    "autogen-agentchat": autogen,
    "crewai": crewai,
    "langgraph": langgraph,
    "langchain-core": langgraph,
    "llama-index-workflows": llama_index,
    "llama-index-core": llama_index,
}


@pytest.mark.parametrize(
    ("version", "works"),
    [
        ("autogen-agentchat 0.8.1", "autogen-agentchat>=0.7.5,<0.8"),
        ("autogen-agentchat 0.7.4", "autogen-agentchat>=0.7.5,<0.8"),
        ("crewai 1.16.0rc1", "crewai>=1.15,<1.16"),
        ("crewai 1.16rc1", "crewai>=1.15,<1.16"),
        ("crewai 2.0.1", "crewai>=1.15,<1.16"),
        ("langgraph 0.6.1", "langgraph>=1.2,<2"),
        ("langgraph 2.1.0", "langgraph>=1.2,<2"),
        ("langchain-core 1.6.9", "langchain-core>=1.7,<2"),
        ("llama-index-workflows 1.9", "llama-index-workflows>=2.26,<3"),
        ("llama-index-core 0.13.0", "llama-index-core>=0.14,<0.15"),
    ],
)
def test_an_unsupported_version_is_named_with_what_to_install(version, works, monkeypatch):
    """The package, its version, the range that works, and the command."""
    package, number = version.split()
    host = BUILDS[PACKAGES[package]]()
    installed(monkeypatch, package, number)
    with pytest.raises(ConfigError) as error:
        Guard(PACKAGES[package], host, policy())
    assert str(error.value) == f"{version} is installed; crew_guard works with {works}: pip install '{works}'"


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"llama-index-core"}))  # workflows run without
def test_a_host_that_is_not_installed_is_named_with_its_extra(package, monkeypatch):
    """What needs it, and the command that installs it."""
    adapter = PACKAGES[package]
    host, extra = BUILDS[adapter](), adapter.__name__.rpartition(".")[2].replace("_", "-")
    installed(monkeypatch, package, None)
    with pytest.raises(MissingDependencyError, match=rf"guarding .*crew-guard\[{extra}\]"):
        Guard(adapter, host, policy())


def test_a_version_is_looked_up_once(monkeypatch):
    """Runs begin often."""
    Guard(autogen, BUILDS[autogen](), policy())
    monkeypatch.setattr(versions, "version", lambda name: pytest.fail(f"{name} was looked up again"))
    Guard(autogen, BUILDS[autogen](), policy())


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (None, "builtins.NoneType"),
        (MockLLM(), "MockLLM"),
        (Agent, "the class crewai.agent.core.Agent, only for an object of one"),
        ("crew.py:crew", "the text 'crew.py:crew': import the object"),
        (Task(description="x", expected_output="y"), "crewai.task.Task"),
    ],
)
def test_what_no_adapter_takes_is_named_with_what_guard_takes(host, words):
    """Objects of other kinds, classes and names."""
    with pytest.raises(ConfigError) as error:
        guard(host)
    assert words in str(error.value)
    assert "it takes an Agent, a Crew or a Flow of crewai" in str(error.value)


def test_two_agents_tools_of_one_name_share_what_a_policy_says_of_it():
    """Each agent executes its own; the tool's cap holds for both together."""
    done = []

    def looker(whose):
        def look(query: str) -> str:
            """Look something up."""
            done.append(whose)
            return query

        return tool("look")(look)

    agents = [
        crewai_doubles.hungry_agent(crewai_doubles.HungryLLM(answer_after=2), tools=[looker(name)], role=name)
        for name in ("one", "two")
    ]
    tasks = [Task(description="Look.", expected_output="it", agent=agent) for agent in agents]
    rules = Policy.model_validate({"limits": {"max_steps": 20}, "tools": {"limits": {"look": {"max_tool_calls": 3}}}})
    result = Guard(crewai, Crew(agents=agents, tasks=tasks), rules).run(topic="x")
    assert done == ["one", "one", "two"]
    assert result.agents["one"].tool_calls == 2
    assert result.agents["two"].tool_calls == 1


def crews(server):
    llm = OpenAICompletion(model="gpt-4o", api_key="none", base_url=server.url)
    return crewai, [crewai_doubles.hungry_agent(llm) for _ in range(2)]


def graphs(server):
    llm = ChatOpenAI(model="gpt-4o", api_key="none", base_url=server.url)
    return langgraph, [langgraph_doubles.hungry_agent(llm) for _ in range(2)]


def teams(server):
    client = OpenAIChatCompletionClient(model="gpt-4o", api_key="none", base_url=server.url)

    def look(query: str) -> str:
        """Look something up."""
        return query

    options = {"max_tool_iterations": 30, "system_message": crewai_doubles.BACKSTORY}
    return autogen, [AssistantAgent("seeker", client, tools=[look], **options) for _ in range(2)]


def workflows(server):
    llm = llama_index_doubles.openai_like(server)
    return llama_index, [llama_index_doubles.hungry_agent(llm)[0] for _ in range(2)]


@pytest.mark.parametrize("two", [crews, graphs, teams, workflows])
def test_a_model_object_of_two_guarded_runs_at_once_is_charged_to_each(two):
    """One real client, two caps: each holds, and together they are what was served."""
    with HungryServer() as server:
        adapter, hosts = two(server)
        guards = [Guard(adapter, host, policy(max_steps=steps)) for host, steps in zip(hosts, (3, 5), strict=True)]
        running = [one.start({"task": "Find everything."}) for one in guards]
        first, second = (one.future.result(30) for one in running)
        assert (first.usage.steps, second.usage.steps, server.requests) == (3, 5, 8)
        assert first.usage.tokens + second.usage.tokens == server.served.tokens
