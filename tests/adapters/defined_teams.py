"""Teams of AutoGen that answer at once, as they are asked for.

`python -m tests.adapters.defined_teams` prints what is read of each, for a process that wants to compare.
"""

import json
from itertools import pairwise

from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent
from autogen_agentchat.base import Handoff
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import (
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_core.tools import FunctionTool, StaticWorkbench

from crew_guard.adapters import autogen
from tests.adapters.autogen_doubles import HungryClient


def client(model="small"):
    """A model that answers at once."""
    named = HungryClient(answer_after=0)
    named.model = model
    return named


def agent(name="ann", *, model="small", tools=(), kind=AssistantAgent, **options):
    """An agent with tools of these names."""
    options = {"system_message": "Be brief.", "tools": [_function(tool) for tool in tools] or None, **options}
    return kind(name, client(model), **options)


def bench(*tools):
    """A workbench with tools of these names."""
    return StaticWorkbench([FunctionTool(_function(tool), "Look something up.") for tool in tools])


def in_turn(*members, kind=RoundRobinGroupChat, **options):
    """A team that ends after the first answer; members by name are agents."""
    everyone = [agent(one) if isinstance(one, str) else one for one in members]
    return kind(everyone, name="team", termination_condition=MaxMessageTermination(2), **options)


def selector(**options):
    """A team whose model says who is next."""
    asked = client(options.pop("model", "small"))
    chooses = {"selector_func": lambda _: "ann"}
    return in_turn("ann", "ben", kind=SelectorGroupChat, model_client=asked, **{**chooses, **options})


def magentic(**options):
    """A team under an orchestrator."""
    return in_turn("ann", kind=MagenticOneGroupChat, model_client=client(), **options)


def society(**options):
    """A team behind one agent."""
    return SocietyOfMindAgent("society", in_turn("ann"), client(), **options)


def swarm(*handoffs):
    """A team whose first member hands over."""
    return in_turn(agent(handoffs=list(handoffs)), "ben", "cid", kind=Swarm)


def pass_on(**said):
    """A handoff of a name of its own."""
    return Handoff(**{"target": "ben", "name": "pass_on", "description": "Pass it on.", "message": "Yours.", **said})


def nested(*teams):
    """A team of teams, each of agents by their names."""
    inner = [
        RoundRobinGroupChat([agent(name) for name in names], name=f"team{number}", max_turns=1)
        for number, names in enumerate(teams)
    ]
    return in_turn(*inner)


def flow(*edges, start="ann"):
    """A graph of three agents, by its edges: from whom, to whom, and what else is said of it."""
    graph, members = DiGraphBuilder(), {name: agent(name) for name in ("ann", "ben", "cid")}
    for member in members.values():
        graph.add_node(member)
    for source, target, said in edges:
        graph.add_edge(source, target, **said)
    graph.set_entry_point(start)
    return GraphFlow(list(members.values()), graph.build(), name="flow", max_turns=1)


def path(*names, **said):
    """Edges from each of these to the next, with what is said of the last one."""
    steps = list(pairwise(names))
    return [(source, target, said if (source, target) == steps[-1] else {}) for source, target in steps]


TEAMS = {
    "in turn": lambda: in_turn(agent(tools=["look", "find"]), "ben"),
    "selector": selector,
    "magentic": magentic,
    "society": society,
    "swarm": lambda: swarm("ben", pass_on(target="cid")),
    "nested": lambda: nested(["ann", "ben"], ["cid"]),
    "flow": lambda: flow(*path("ann", "ben", "cid", condition="go")),
}
"""One of each kind."""


def definition_of(host):
    """What the adapter reads of it, as JSON."""
    return json.dumps(autogen.runtime_for(host, lambda _: None).definition())


def _function(name):
    def look(query: str) -> str:
        """Look something up."""
        return f"found {query}"

    look.__name__ = name
    return look


if __name__ == "__main__":
    print(json.dumps({name: definition_of(made()) for name, made in TEAMS.items()}))
