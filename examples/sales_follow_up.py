"""Sales follow-up, both ways: a crew of five agents, and the workflow that does the same for less, as its fallback.

python examples/sales_follow_up.py                          # offline: scripted models, an office in memory
crew-guard advise examples/sales_follow_up.yaml             # what to choose, and the arithmetic behind it
crew-guard advise examples/sales_follow_up.py:crew --estimates examples/sales_follow_up.yaml
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import BaseModel

from crew_guard import (
    Agent,
    Crew,
    NodeContext,
    Role,
    Supervisor,
    Task,
    TaskContext,
    Tool,
    Verdict,
    Workflow,
    chain,
    node,
    tool,
)
from crew_guard.core.messages import ModelRequest
from crew_guard.core.usage import Rates, nano
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from crew_guard.workflows.asking import Approval

STEPS = ("read_crm_notes", "summarize_signals", "draft_email", "schedule_and_send", "update_crm")
"""What gets a verdict each. The workflow has six nodes: schedule_and_send is two of them, and fails as one."""
TODAY = datetime(2026, 3, 4, 15, 30)  # noqa: DTZ001 - the office's own wall clock


class Notes(BaseModel):
    """What the CRM knows after a call."""

    account: str
    contact: str
    text: str


class Signals(BaseModel):
    """What matters in them."""

    contact: str
    wants: str


class Email(BaseModel):
    """The follow-up."""

    to: str
    body: str


class Outgoing(BaseModel):
    """A follow-up in the outbox: whoever approves it sees it there, and may correct it there."""

    account: str
    email: Email
    at: datetime


class FollowUp(BaseModel):
    """What was done, as the CRM records it."""

    account: str
    email: Email
    at: datetime


def letter(contact: str, wants: str) -> str:
    """A follow-up that says what it should, and no more."""
    return f"Dear {contact}, thank you for the call. You asked about {wants}: here is what we can do."


NOTES = {
    "Acme": Notes(
        account="Acme", contact="Dana Reyes", text="Dana Reyes liked the dashboards. She asked for the annual discount."
    ),
    "Birch": Notes(
        account="Birch", contact="Sam Okoro", text="Sam Okoro liked the search. He asked for the data export."
    ),
}


@dataclass
class Office:
    """A CRM, an outbox and a mail server in memory, in which single steps can be made to go wrong unseen."""

    wrong: frozenset[str] = frozenset()
    """Steps that go wrong in a way that no check of theirs finds."""
    read: dict[str, Notes] = field(default_factory=dict)
    """The notes that were read for an account: what its owner has beside the draft."""
    outbox: dict[str, Outgoing] = field(default_factory=dict)
    sent: list[Outgoing] = field(default_factory=list)
    recorded: dict[str, datetime] = field(default_factory=dict)

    def right(self, account: str) -> bool:
        """Whether the right person got the right email, once, in working hours, and the CRM knows."""
        contact, wants = NOTES[account].contact, asked_for(NOTES[account].text)
        if [one.account for one in self.sent] != [account] or self.recorded.get(account) != self.sent[0].at:
            return False
        email = self.sent[0].email
        return (email.to, email.body) == (contact, letter(contact, wants)) and in_working_hours(self.sent[0].at)


def asked_for(text: str) -> str:
    """What notes say that the customer asked for."""
    return text.rpartition("asked for the ")[2].rstrip(".")


def in_working_hours(at: datetime) -> bool:
    """Monday to Friday, 9 to 17."""
    return at.weekday() < 5 and 9 <= at.hour < 17


# What both ways share: checks, and tools with their prices.


def signals_ok(signals: Signals, context: NodeContext | TaskContext) -> Verdict:
    """What is said must stand in the notes. That it is what matters is beyond a check."""
    notes = context.outputs["read_crm_notes"]
    for said in (signals.contact, signals.wants):
        if said not in notes.text:
            return Verdict(passed=False, reason=f"the notes never say {said!r}")
    return Verdict(passed=True)


def email_ok(email: Email, context: NodeContext | TaskContext) -> Verdict:
    """It must go to the contact and name what they want. That it promises nothing else is beyond a check."""
    signals = context.outputs["summarize_signals"]
    if email.to != signals.contact or signals.wants not in email.body:
        return Verdict(passed=False, reason=f"it must go to {signals.contact} and name the {signals.wants}")
    return Verdict(passed=True)


class Tools:
    """The office's tools."""

    def __init__(self, office: Office) -> None:
        @tool(cost="0.02")
        def crm_notes(account: str) -> Notes:
            """Read what the CRM knows of an account."""
            other = next(name for name in NOTES if name != account)
            office.read[account] = NOTES[other if "read_crm_notes" in office.wrong else account]
            return office.read[account]

        @tool(cost="0.02")
        def free_slot(account: str, to: str, body: str) -> Outgoing:
            """Put an email into the outbox, for the next slot in working hours."""
            at = TODAY + timedelta(days=3 if "schedule_and_send" in office.wrong else 1)
            office.outbox[account] = Outgoing(account=account, email=Email(to=to, body=body), at=at)
            return office.outbox[account]

        @tool(cost="0.02", irreversible=True)
        def send_email(account: str) -> Outgoing:
            """Send what lies in the outbox for an account; what was sent is not sent again."""
            if account not in [one.account for one in office.sent]:
                office.sent.append(office.outbox[account])
            return office.outbox[account]

        @tool(cost="0.02")
        def record(account: str) -> FollowUp:
            """Record in the CRM what was sent to an account."""
            done = office.outbox[account]
            if "update_crm" not in office.wrong:
                office.recorded[account] = done.at
            return FollowUp(account=account, email=done.email, at=done.at)

        self.crm_notes, self.free_slot, self.send_email, self.record = crm_notes, free_slot, send_email, record


# Scripted models, so that it runs offline: they do what they are told, unless their step is to go wrong.


def signals_in(office: Office, seen: str) -> Signals:
    """What a model makes of notes: what the customer asked for, or what they merely liked."""
    notes = next(notes for notes in NOTES.values() if notes.text in seen)
    liked = re.findall(r"liked the (\w+)", notes.text)
    wants = liked[0] if "summarize_signals" in office.wrong else asked_for(notes.text)
    return Signals(contact=notes.contact, wants=wants)


def email_for(office: Office, seen: str) -> Email:
    """What a model writes; where it goes wrong, with a promise that nobody made."""
    contact, wants = re.findall(r'"contact": ?"([^"]+)", ?"wants": ?"([^"]+)"', seen)[-1]
    promise = " And we will give you a free year." if "draft_email" in office.wrong else ""
    return Email(to=contact, body=letter(contact, wants) + promise)


Answer = Callable[[str, int], Reply | str]
"""What a model says: of all that it has seen, and of how many tools it has called."""


def model(name: str, usd: str, answer: Answer) -> ScriptedModel:
    """A model with a price for each request."""

    def play(request: ModelRequest) -> Reply | str:
        messages = list(request.messages)
        return answer("\n".join(message.text for message in messages), sum(one.speaker == "tool" for one in messages))

    return ScriptedModel(play, name=name, rates=Rates(request=nano(usd)))


# The workflow: six nodes in a fixed order, two of which ask a model.


def follow_up(office: Office, owner: Callable[[Approval], bool] | None) -> Workflow:
    """The fixed path.

    Args:
        office: where it works
        owner: approves what is about to be sent; None asks a person at the terminal
    """
    tools = Tools(office)
    analyst = model("analyst", "0.32", lambda seen, _: signals_in(office, seen).model_dump_json())
    writer = model("writer", "0.40", lambda seen, _: email_for(office, seen).model_dump_json())

    async def read_crm_notes(inputs: dict[str, str], context: NodeContext) -> Notes:
        return (await context.call_tool(tools.crm_notes, {"account": inputs["account"]})).value

    def summarize_signals(notes: Notes) -> str:
        return f"Who is it about, and what do they want? Notes: {notes.text}"

    def draft_email(signals: Signals) -> str:
        return f"Write a follow-up of two sentences. {signals.model_dump_json()}"

    async def schedule(email: Email, context: NodeContext) -> Outgoing:
        given = {"account": context.inputs["account"], "to": email.to, "body": email.body}
        return (await context.call_tool(tools.free_slot, given)).value

    async def send(outgoing: Outgoing, context: NodeContext) -> Outgoing:
        return (await context.call_tool(tools.send_email, {"account": outgoing.account})).value

    async def update_crm(outgoing: Outgoing, context: NodeContext) -> FollowUp:
        return (await context.call_tool(tools.record, {"account": outgoing.account})).value

    return chain(
        node(read_crm_notes),
        node(summarize_signals, model=analyst, output=Signals, verify=signals_ok),
        node(draft_email, model=writer, output=Email, verify=email_ok),
        node(schedule, done_by="schedule_and_send"),
        node(send, irreversible=True, approve=owner, done_by="schedule_and_send"),
        node(update_crm),
        name="follow_up",
    )


def careful(office: Office) -> Callable[[Approval], bool]:
    """An owner who holds each draft against the notes, and corrects in the outbox what is wrong."""

    def approve(approval: Approval) -> bool:
        outgoing = office.outbox[approval.value.account]
        notes = office.read[outgoing.account]
        outgoing.email.to, outgoing.email.body = notes.contact, letter(notes.contact, asked_for(notes.text))
        return True

    return approve


def hurried(approval: Approval) -> bool:
    """An owner who says yes to everything."""
    return bool(approval.node)


# The crew: five agents for the same five steps.


def crew_models(office: Office) -> dict[str, ScriptedModel]:
    """The agents' models: each agent costs $0.70 a task, its tools included."""

    def calls(*arguments: Callable[[str], tuple[str, str]]) -> Answer:
        def answer(seen: str, called: int) -> Reply | str:
            return Reply(tools=(arguments[called](seen),)) if called < len(arguments) else last_json(seen)

        return answer

    def account(name: str) -> Callable[[str], tuple[str, str]]:
        return lambda seen: (name, json.dumps({"account": re.findall(r"account (\w+)", seen)[0]}))

    def slot(seen: str) -> tuple[str, str]:
        to, body = re.findall(r'"to": ?"([^"]+)", ?"body": ?"([^"]+)"', seen)[-1]
        return "free_slot", json.dumps({"account": re.findall(r"account (\w+)", seen)[0], "to": to, "body": body})

    return {
        "reader": model("reader", "0.34", calls(account("crm_notes"))),
        "analyst": model("analyst", "0.70", lambda seen, _: signals_in(office, seen).model_dump_json()),
        "writer": model("writer", "0.70", lambda seen, _: email_for(office, seen).model_dump_json()),
        "dispatcher": model("dispatcher", "0.22", calls(slot, account("send_email"))),
        "clerk": model("clerk", "0.34", calls(account("record"))),
    }


def last_json(seen: str) -> str:
    """The last JSON object of a text: what the latest tool gave."""
    return next((line for line in reversed(seen.splitlines()) if line.startswith("{")), seen.splitlines()[-1])


def make_crew(office: Office, owner: Callable[[Approval], bool] | None) -> Crew:
    """Five agents, their tasks, and the workflow to fall back to."""
    tools = Tools(office)

    def agent(name: str, goal: str, *own: Tool) -> Agent:
        return Agent(Role(name=name, goal=goal, model=name), list(own))

    return Crew(
        name="sales follow-up",
        agents=[
            agent("reader", "Know the account", tools.crm_notes),
            agent("analyst", "Say what matters"),
            agent("writer", "Write to the customer"),
            agent("dispatcher", "Send at the right time", tools.free_slot, tools.send_email),
            agent("clerk", "Keep the CRM true", tools.record),
        ],
        tasks=[
            Task("Read the notes of the account {account}", "reader", output=Notes, name=STEPS[0]),
            Task("Say who it is about and what they want", "analyst", output=Signals, verify=signals_ok, name=STEPS[1]),
            Task("Write a follow-up of two sentences", "writer", output=Email, verify=email_ok, name=STEPS[2]),
            Task("Schedule and send it for the account {account}", "dispatcher", output=Outgoing, name=STEPS[3]),
            Task("Record it for the account {account}", "clerk", output=FollowUp, name=STEPS[4]),
        ],
        fallback=follow_up(office, owner),
    )


crew = make_crew(Office(), None)


def main() -> None:
    """Both ways once, where all goes well and where the summary is wrong."""
    for wrong in ((), ("summarize_signals",)):
        print(f"\n{' and '.join(wrong) or 'nothing'} goes wrong")
        for way in ("crew", "workflow", "workflow with an owner who looks"):
            office = Office(frozenset(wrong))
            owner = careful(office) if "looks" in way else hurried
            supervisor = Supervisor(models=crew_models(office), store=MemoryStore())
            job = make_crew(office, owner) if way == "crew" else follow_up(office, owner)
            result = supervisor.run(job, {"account": "Acme"})
            right = "right" if office.right("Acme") else "wrong, and nobody noticed"
            print(f"  {way}: {result.status}, ${result.usage.usd:.2f}, {right}")


if __name__ == "__main__":
    main()
