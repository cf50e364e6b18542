"""The policy's cost of a tool holds for the tools of every host, whose own code names none."""

import pytest

from crew_guard.adapters import autogen, crewai
from crew_guard.core.policy import Policy
from tests.adapters import autogen_doubles, crewai_doubles
from tests.adapters.guarding import Guard

POLICY = Policy.model_validate({"limits": {"max_usd": "2.5"}, "tools": {"limits": {"look": {"usd": "1"}}}})


def autogen_agent():
    agent = autogen_doubles.hungry_agent(autogen_doubles.HungryClient(parallel=3))
    return autogen, agent, agent


def crewai_agent():
    agent = crewai_doubles.hungry_agent(crewai_doubles.HungryLLM(native=True, parallel=3))
    return crewai, agent, agent.tools[0]


@pytest.mark.parametrize("host", [autogen_agent, crewai_agent])
def test_a_dollar_cap_counts_the_executions_of_a_hosts_paid_tool(host):
    """$1 an execution, three at once, $2.50: two are executed, the third is refused and ends the crew."""
    adapter, agent, counted = host()
    result = Guard(adapter, agent, POLICY).run()
    assert len(counted.executions) == 2 == result.usage.tool_calls
    assert 2 < float(result.usage.usd) <= 2.5
    assert (result.stopped.limit, result.stopped.asked) == ("max_usd", 1.0)
