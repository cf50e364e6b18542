"""Who of AutoGen's counts against max_agents: whoever may ask a model."""

import pytest
from autogen_agentchat.agents import CodeExecutorAgent, MessageFilterAgent, MessageFilterConfig, UserProxyAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from loguru import logger

from crew_guard.adapters import autogen
from crew_guard.core.policy import Policy
from tests.adapters.autogen_doubles import HungryClient
from tests.adapters.guarding import Guard, policy
from tests.adapters.test_autogen_parts import CountingExecutor
from tests.adapters.test_autogen_teams import Homemade, speaker, steps_of


@pytest.mark.filterwarnings("ignore:No approval function")
def test_who_asks_no_model_is_none_of_max_agents():
    """A person, and who only executes code; a policy may speak of them all the same."""
    client = HungryClient(answer_after=0)
    others = [UserProxyAgent("person", input_func=lambda _: "go on"), CodeExecutorAgent("coder", CountingExecutor())]
    wrapped = MessageFilterAgent("filtered", speaker("ann", client), MessageFilterConfig(per_source=[]))
    team = RoundRobinGroupChat([wrapped, *others], termination_condition=MaxMessageTermination(4))
    rules = Policy.model_validate({"limits": {"max_agents": 1}, "agents": {"coder": {"max_tool_calls": 3}}})
    guard, warned = Guard(autogen, team, rules), []
    sink = logger.add(warned.append, level="WARNING", format="{message}")
    logger.enable("crew_guard.api")
    try:
        result = guard.run()
    finally:
        logger.disable("crew_guard.api")
        logger.remove(sink)
    assert (result.status, guard.runtime.members(), steps_of(result)) == ("done", ["ann"], {"ann": 1}), result
    assert warned == []


@pytest.mark.filterwarnings("ignore:No approval function")
def test_a_team_that_is_too_large_is_refused_before_its_first_call():
    """Whoever can ask a model counts, a coder with a model and an agent of one's own too; the refusal names who."""
    client = HungryClient(answer_after=0)
    for last in (
        speaker("ben", client),
        CodeExecutorAgent("ben", CountingExecutor(), model_client=client),
        Homemade("ben", client),
    ):
        team = RoundRobinGroupChat([speaker("ann", client), last], termination_condition=MaxMessageTermination(3))
        result = Guard(autogen, team, policy(max_agents=1)).run()
        assert (result.stopped.limit, result.usage.steps, client.served.calls) == ("max_agents", 0, 0)
        assert "ben would be one too many" in str(result.stopped)
