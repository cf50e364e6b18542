"""The same small agent on each host, with its name, its prompt, its model and its tool as they are asked for.

`python -m tests.adapters.defined_hosts` prints what is read of each, for a process that wants to compare.
"""

import importlib
import json

from tests.adapters import autogen_doubles, crewai_doubles, langgraph_doubles, llama_index_doubles

HOSTS = ("crewai", "autogen", "langgraph", "llama_index")
DEFAULTS = {"name": "ann", "prompt": "Answer in one word.", "model": "small", "tool": "look"}


class NamedChat(langgraph_doubles.HungryChat):
    """A chat model with a name."""

    model: str


def host_of(host, **wished):
    """An agent on this host that answers at once."""
    return globals()[f"_{host}"](**{**DEFAULTS, **wished})


def definition_of(host, **wished):
    """What its adapter reads of it."""
    adapter = importlib.import_module(f"crew_guard.adapters.{host}")
    return adapter.runtime_for(host_of(host, **wished), lambda _: None).definition()


def _crewai(name, prompt, model, tool):
    llm = crewai_doubles.HungryLLM(model=model, answer_after=0)
    agent = crewai_doubles.hungry_agent(llm, [crewai_doubles.Look(name=tool)], backstory=prompt)
    return crewai_doubles.hungry_crew(agent, name=name)


def _autogen(name, prompt, model, tool):
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.conditions import MaxMessageTermination
    from autogen_agentchat.teams import RoundRobinGroupChat

    client = autogen_doubles.HungryClient(answer_after=0)
    client.model = model
    agent = AssistantAgent("seeker", client, system_message=prompt, tools=[_function(tool)])
    return RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(2), name=name)


def _langgraph(name, prompt, model, tool):
    from langchain.agents import create_agent
    from langchain_core.tools import StructuredTool

    tools = [StructuredTool.from_function(_function(tool))]
    return create_agent(NamedChat(model=model, answer_after=0), tools, system_prompt=prompt, name=name)


def _llama_index(name, prompt, model, tool):
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.tools import FunctionTool

    class Named(llama_index_doubles.HungryLLM):
        model: str

    tools = [FunctionTool.from_defaults(_function(tool))]
    return FunctionAgent(name=name, system_prompt=prompt, llm=Named(model=model, answer_after=0), tools=tools,
                         streaming=False, timeout=None)  # fmt: skip


def _function(name):
    def look(query: str) -> str:
        """Look something up."""
        return f"found {query}"

    look.__name__ = name
    return look


if __name__ == "__main__":
    print(json.dumps({host: definition_of(host) for host in HOSTS}))
