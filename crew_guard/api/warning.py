"""What is likely to be a mistake in a policy, seen beside what runs under it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from crew_guard.core.limits import names_of
from crew_guard.core.policy import Policy
from crew_guard.core.roles import Crew
from crew_guard.core.tightening import strangers
from crew_guard.ports import Attended, Delegating, Runtime, Workflow


def warnings_of_crew(policy: Policy, crew: Crew, known: Collection[str]) -> list[str]:
    """What it says of agents and tools that a crew of ours hasn't got.

    Args:
        known: the crew's agents and judges, by name
    """
    tools = [tool.spec for agent in crew.everyone() for tool in agent.tools]
    return strangers(policy, [*known, *_inside(crew.fallback)], tools)


def warnings_of_workflow(policy: Policy, workflow: Workflow) -> list[str]:
    """What it says of agents that a workflow, which runs by itself, hasn't got inside of its nodes."""
    return strangers(policy, _inside(workflow), None, "workflow")


def warnings_of_host(policy: Policy, runtime: Runtime, fallback: Workflow | None) -> list[str]:
    """What it says of agents that a host's own crew hasn't got, as far as its members are known; and of its shadow."""
    members = runtime.members()
    others = runtime.attendants() if isinstance(runtime, Attended) else ()
    found = strangers(policy, [*members, *others, *_inside(fallback)], None) if members else []
    return found if fallback is None else [*found, *_of_a_shadow(policy)]


def _of_a_shadow(policy: Policy) -> Iterator[str]:
    rules = policy.reliability
    if rules.unknown == "shadow" and rules.least is not None and rules.fallback == "on_reliability":
        source = policy.sources.get(("reliability", "unknown"), "")
        yield (
            f"reliability.unknown{f' ({source})' if source else ''}: shadow sends every run to the workflow while too "
            "little is known: a host's own crew can't work in a shadow, so nothing is learnt of it; write crew"
        )


def _inside(worker: object) -> list[str]:
    """What a policy may call the agents inside of a workflow's nodes."""
    insiders = worker.insiders() if isinstance(worker, Delegating) else ()
    return [name for actor in insiders for name in names_of(actor)]
