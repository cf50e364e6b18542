"""What a node acts through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from crew_guard.core.messages import Message
from crew_guard.core.tools import Tool
from crew_guard.ports import Gate, Means, Model, ToolResult


class NodeFailedError(Exception):
    """A node could not do its step. Unless it is tried again, the workflow ends there."""

    cut = False
    """Whether its time was over: it was ended in the middle of what it did."""


_IN = "in the node "


def noted(error: BaseException, node: str) -> None:
    """Say with an exception which node it comes from: its traceback shows it, and `node_of` reads it."""
    if node and not node_of(error):
        error.add_note(f"{_IN}{node}")


def node_of(error: BaseException) -> str:
    """The node that an exception comes from; empty where that is not known."""
    return _noted(error, _IN)


_BY, _AT = "by the agent ", "at the task "


def noted_at(error: BaseException, agent: str, task: str = "") -> None:
    """Say with an exception whose it is of a crew, and at which task, where that is known; `agent_of` reads it."""
    if agent and not agent_of(error)[0]:
        error.add_note(f"{_BY}{agent}")
        if task:
            error.add_note(f"{_AT}{task}")


def agent_of(error: BaseException) -> tuple[str, str]:
    """The agent that an exception comes from, and its task; empty where that is not known."""
    return _noted(error, _BY), _noted(error, _AT)


_LEFT = "left: "


def left(error: BaseException, told: str) -> None:
    """Say with an exception what of the run's effects is still there."""
    error.add_note(f"{_LEFT}{told}")


def left_of(error: BaseException) -> str:
    """What is still there though it was to be undone; empty where that is nothing."""
    return _noted(error, _LEFT)


def _noted(error: BaseException, what: str) -> str:
    notes: Sequence[Any] = getattr(error, "__notes__", ())
    return next((str(note).removeprefix(what) for note in notes if str(note).startswith(what)), "")


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One attempt at a node: what it knows, and its door to the gate."""

    node: str
    inputs: Mapping[str, Any]
    """The run's inputs."""
    gate: Gate
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the nodes before gave, by name; in a loop their latest."""
    rounds: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Any])
    """All that each node gave, by name: in a loop once a round, since the loop was entered."""
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What each node was given, by name; in a loop the latest."""
    attempt: int = 1
    round: int = 1
    """Of the loop that the node stands in."""
    problem: str = ""
    """Why the attempt before was not good enough."""
    means: Means | None = None
    dollars: bool = False
    """Whether a cap in dollars of the node's own applies."""

    async def call_tool(self, tool: Tool, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute a tool through the gate, charged to this node. `value` of what it returns is the result.

        Raises:
            NodeFailedError: the tool failed, or the arguments don't fit it
            RefusedError: the guard said no
        """
        result = await self.gate.call_tool(self.node, tool, arguments)
        if result.failed:
            raise NodeFailedError(result.text)
        return result

    async def ask(
        self,
        model: Model | str,
        prompt: str | Sequence[Message],
        output: type[BaseModel] | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """Ask a model through the gate, charged to this node: its text, or an instance of `output`.

        Raises:
            NodeFailedError: the answer can't be used
            ModelError: the provider failed for good
            RefusedError: the guard said no
        """
        from crew_guard.workflows.answering import Question, answered

        question = Question(self.model_named(model), prompt, output, max_tokens)
        return await answered(question, self)

    def model_named(self, model: Model | str | None) -> Model:
        """The model of this name, or this one, at the policy's price; the supervisor's where none is named.

        Raises:
            ConfigError, MissingDependencyError: there is none
            NodeFailedError: the workflow runs without a supervisor, who knows models by name
        """
        if self.means is None:
            if model is not None and not isinstance(model, str):
                return model
            raise NodeFailedError(f"{self.node}: nobody knows a model named {model!r}: a Supervisor does")
        return self.means.model_named(model)
