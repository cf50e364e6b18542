"""Crews under a content policy, with their journals."""

from __future__ import annotations

from typing import Any

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, tool
from crew_guard.core.events import Guarded, Judged, encode
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

ROLE = Role(name="researcher", goal="Find out about {topic}")


class Ran:
    """One run: its result, what the model was asked, and the journal."""

    def __init__(
        self,
        replies: Any,
        *tasks: Task,
        tools: Any = (),
        inputs: dict[str, Any] | None = None,
        fallback: Any = None,
        content: dict[str, Any] | None = None,
        models: dict[str, Any] | None = None,
        **policy: Any,
    ) -> None:
        self.model = replies if isinstance(replies, ScriptedModel) else ScriptedModel(replies)
        self.store = MemoryStore()
        crew = Crew([Agent(ROLE, tools)], tasks or (Task("Report on {topic}", name="report"),), fallback=fallback)
        rules = Policy.model_validate({"content": content or {}, **policy})
        supervisor = Supervisor(rules, model=self.model, models=models or {}, store=self.store)
        self.result: Result = supervisor.run(crew, inputs or {"topic": "gzip"}, run_id="r")

    @property
    def guarded(self) -> list[tuple[str, str, str, str, str]]:
        """(place, guardrail, outcome, agent, target) of each event."""
        return [
            (one.place, one.guardrail, one.outcome, one.agent, one.target)
            for one in self.store.read("r")
            if isinstance(one, Guarded)
        ]

    @property
    def verdicts(self) -> list[Judged]:
        """The trials."""
        return [one for one in self.store.read("r") if isinstance(one, Judged)]

    @property
    def journal(self) -> str:
        """Every event as it is kept."""
        return "\n".join(encode(event)[1].decode() for event in self.store.read("r"))

    def seen(self, call: int = -1) -> str:
        """All that the model was shown in one of its calls."""
        return "\n".join(message.text for message in self.model.calls[call].messages)


def call(name: str, arguments: str = "{}") -> Reply:
    """The model asks for a tool."""
    return Reply(tools=((name, arguments),))


def reader(value: Any, *, name: str = "read_page") -> Any:
    """A tool that gives this, or raises it."""

    @tool(name=name)
    def read() -> Any:
        """Read it."""
        if isinstance(value, Exception):
            raise value
        return value

    return read
