"""What the version of an agent or a team of AutoGen is made of: each thing that docs/hosts.md lists for it."""

import json
import os
import subprocess
import sys

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import Swarm

from crew_guard import Policy, guard
from crew_guard.store.memory import MemoryStore
from tests.adapters import defined_teams
from tests.adapters.defined_teams import (
    TEAMS,
    agent,
    bench,
    definition_of,
    flow,
    in_turn,
    magentic,
    nested,
    pass_on,
    path,
    selector,
    society,
    swarm,
)

RUN = ("in turn", "selector", "society", "swarm", "nested", "flow")
"""Teams whose members' answers are enough for a run to come to its end."""


class Own(AssistantAgent):
    """An agent of a class of one's own."""


CHANGES = {
    "an agent's class": (agent, lambda: agent(kind=Own)),
    "an agent's name": (agent, lambda: agent("ben")),
    "an agent's description": (agent, lambda: agent(description="Knows rivers.")),
    "a system message": (agent, lambda: agent(system_message="Be thorough.")),
    "an agent's model": (agent, lambda: agent(model="large")),
    "a tool's name": (lambda: agent(tools=["look"]), lambda: agent(tools=["find"])),
    "another tool": (lambda: agent(tools=["look"]), lambda: agent(tools=["look", "find"])),
    "a workbench's tool": (lambda: agent(workbench=bench("look")), lambda: agent(workbench=bench("find"))),
    "another handoff": (lambda: agent(handoffs=["ben"]), lambda: agent(handoffs=["ben", "cid"])),
    "whom it hands over to": (lambda: agent(handoffs=["ben"]), lambda: agent(handoffs=["cid"])),
    "a handoff's name": (lambda: swarm(pass_on()), lambda: swarm(pass_on(name="hand_over"))),
    "a handoff's target": (lambda: swarm(pass_on()), lambda: swarm(pass_on(target="cid"))),
    "a handoff's description": (lambda: swarm(pass_on()), lambda: swarm(pass_on(description="Where it gets hard."))),
    "a handoff's message": (lambda: swarm(pass_on()), lambda: swarm(pass_on(message="Go on."))),
    "a team's class": (lambda: in_turn("ann"), lambda: in_turn("ann", kind=Swarm)),
    "a team's description": (lambda: in_turn("ann"), lambda: in_turn("ann", description="Finds out.")),
    "a selector's prompt": (selector, lambda: selector(selector_prompt="{roles}: who is next?")),
    "a selector's model": (selector, lambda: selector(model="large")),
    "an orchestrator's prompt": (magentic, lambda: magentic(final_answer_prompt="Say it all.")),
    "a society's instruction": (society, lambda: society(instruction="Think of it.")),
    "a society's response prompt": (society, lambda: society(response_prompt="Sum it up.")),
    "who takes part": (lambda: in_turn("ann"), lambda: in_turn("ann", "ben")),
    "who speaks first": (lambda: in_turn("ann", "ben"), lambda: in_turn("ben", "ann")),
    "in which team": (lambda: nested(["ann", "ben"], ["cid"]), lambda: nested(["ann"], ["ben", "cid"])),
    "a path's order": (lambda: flow(*path("ann", "ben", "cid")), lambda: flow(*path("ann", "cid", "ben"))),
    "a path's target": (
        lambda: flow(*path("ann", "ben", activation_group="one")),
        lambda: flow(*path("ann", "cid", activation_group="one")),
    ),
    "a path's condition": (
        lambda: flow(*path("ann", "ben", condition="go")),
        lambda: flow(*path("ann", "ben", condition="stop")),
    ),
    "a path's group": (
        lambda: flow(*path("ann", "ben", "cid")),
        lambda: flow(*path("ann", "ben", "cid", activation_group="late")),
    ),
    "whether all of a group are waited for": (
        lambda: flow(*path("ann", "ben", "cid", activation_condition="all")),
        lambda: flow(*path("ann", "ben", "cid", activation_condition="any")),
    ),
    "where a flow begins": (
        lambda: flow(*path("ann", "ben"), start="ann"),
        lambda: flow(*path("ann", "ben"), start="cid"),
    ),
}
"""By what is changed: how it is made before, and after."""


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_each_thing_that_the_docs_list_takes_part(before, after):
    """And what is made once more in the same way is the same."""
    assert definition_of(before()) == definition_of(before())
    assert definition_of(before()) != definition_of(after())


@pytest.mark.parametrize("team", RUN)
def test_a_team_that_ran_keeps_its_version(team):
    """It is the next run's, and that of a team that is made once more."""
    rules = Policy.model_validate({"limits": {"max_steps": 20}})

    def versions(runs):
        guarded = guard(TEAMS[team](), rules, verify=lambda *_: True, store=MemoryStore())
        results = [guarded.run({"task": "go"}) for _ in range(runs)]
        assert all(result.done for result in results), results
        return [result.reliability.version for result in results]

    assert len({*versions(2), *versions(1)}) == 1


def test_a_fresh_process_reads_the_same_of_every_team():
    """No order of a set, no address and no hash takes part."""
    here = {name: definition_of(made()) for name, made in TEAMS.items()}
    done = subprocess.run(
        [sys.executable, "-m", defined_teams.__name__],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == here
