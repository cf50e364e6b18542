"""Customer onboarding, both ways: six steps that code does, and the crew of five agents that was proposed for them.

python examples/customer_onboarding.py                      # offline: scripted models, a service in memory
crew-guard advise examples/customer_onboarding.yaml         # why it should be a workflow
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crew_guard import Agent, Crew, NodeContext, Role, Supervisor, Task, Tool, Workflow, chain, node, tool
from crew_guard.core.messages import ModelRequest
from crew_guard.core.usage import Rates, nano
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from crew_guard.workflows.asking import Approval

STEPS = ("check_order", "create_account", "set_permissions", "import_contacts", "send_welcome", "book_kickoff")
"""Each is one node, one tool, and one task of the crew."""
PRICES = dict(zip(STEPS, ("0.01", "0.02", "0.01", "0.03", "0.01", "0.02"), strict=True))
"""Dollars for one execution."""
MEANT = {
    "check_order": "12 seats at $40",
    "create_account": "tenant north",
    "set_permissions": "admin of north",
    "import_contacts": "340 contacts",
    "send_welcome": "welcome to ada@north.example",
    "book_kickoff": "9 March, 10:00",
}
"""What each step should leave behind."""
WHO = {
    "check_order": "sales_desk",
    "create_account": "provisioner",
    "set_permissions": "provisioner",
    "import_contacts": "importer",
    "send_welcome": "greeter",
    "book_kickoff": "planner",
}
"""The agent of the proposal that does each step."""


@dataclass
class Service:
    """What onboarding leaves behind, and the steps that go wrong in it unseen."""

    wrong: frozenset[str] = frozenset()
    left: dict[str, str] = field(default_factory=dict)

    def do(self, step: str) -> str:
        """Carry out a step; where it goes wrong, it leaves something else behind and says nothing."""
        self.left[step] = f"not {MEANT[step]}" if step in self.wrong else MEANT[step]
        return self.left[step]

    @property
    def right(self) -> bool:
        """Whether every step left what it should."""
        return self.left == MEANT


def make_tools(service: Service) -> dict[str, Tool]:
    """One tool for each step; the welcome can't be taken back."""

    def make(step: str) -> Tool:
        @tool(name=step, cost=PRICES[step], irreversible=step == "send_welcome")
        def act(customer: str) -> str:
            """Do this step of the onboarding for a customer."""
            del customer
            return service.do(step)

        return act

    return {step: make(step) for step in STEPS}


def onboarding(service: Service, manager: Callable[[Approval], bool] | None) -> Workflow:
    """Six nodes in a fixed order, none of which asks a model.

    Args:
        service: where it works
        manager: approves the welcome; None asks a person at the terminal
    """
    tools = make_tools(service)

    def step(name: str) -> Callable[..., Any]:
        async def act(_value: Any, context: NodeContext) -> str:
            return (await context.call_tool(tools[name], {"customer": context.inputs["customer"]})).value

        return act

    nodes = [
        node(step(name), name=name, irreversible=True, approve=manager)
        if tools[name].irreversible
        else node(step(name), name=name)
        for name in STEPS
    ]
    return chain(*nodes, name="onboarding")


def manager_of(service: Service, catches: frozenset[str]) -> Callable[[Approval], bool]:
    """A manager who finds what is wrong with the account or the permissions, in these steps, and corrects it."""

    def approve(_approval: Approval) -> bool:
        for step in catches & {"create_account", "set_permissions"}:
            service.left[step] = MEANT[step]
        return True

    return approve


def crew_models() -> dict[str, ScriptedModel]:
    """The agents' models: two requests for each step, $2.40 in all with the tools."""

    def play(request: ModelRequest) -> Reply | str:
        if request.messages[-1].speaker == "tool":
            return request.messages[-1].text
        seen = "\n".join(message.text for message in request.messages)
        step = re.findall(r"\[(\w+)\]", seen)[-1]
        return Reply(tools=((step, json.dumps({"customer": "North"})),))

    prices = {"sales_desk": "0.20", "provisioner": "0.20", "importer": "0.20", "greeter": "0.175", "planner": "0.175"}
    return {name: ScriptedModel(play, name=name, rates=Rates(request=nano(usd))) for name, usd in prices.items()}


def make_crew(service: Service, manager: Callable[[Approval], bool] | None) -> Crew:
    """The proposal: five agents for six steps, with the workflow to fall back to."""
    tools = make_tools(service)
    agents = [
        Agent(
            Role(name=name, goal=f"Do the part of the {name}", model=name), [tools[s] for s in STEPS if WHO[s] == name]
        )
        for name in dict.fromkeys(WHO.values())
    ]
    tasks = [Task(f"[{step}] Do this for {{customer}}", agent=WHO[step], name=step) for step in STEPS]
    return Crew(agents, tasks, fallback=onboarding(service, manager), name="customer onboarding")


crew = make_crew(Service(), None)


def main() -> None:
    """Both ways once, where all goes well and where the permissions are wrong."""
    looks: Mapping[str, frozenset[str]] = {"nobody looks": frozenset(), "the manager looks": frozenset(STEPS)}
    for wrong in (frozenset[str](), frozenset({"set_permissions"})):
        print(f"\n{' and '.join(wrong) or 'nothing'} goes wrong")
        for way in ("crew", "workflow"):
            for who, catches in looks.items():
                service = Service(wrong)
                manager = manager_of(service, catches)
                job = make_crew(service, manager) if way == "crew" else onboarding(service, manager)
                result = Supervisor(models=crew_models(), store=MemoryStore()).run(job, {"customer": "North"})
                print(
                    f"  {way}, {who}: {result.status}, ${result.usage.usd:.2f}, {'right' if service.right else 'wrong'}"
                )


if __name__ == "__main__":
    main()
