"""Who acts, and the gate that they act through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from crew_guard.core.actions import Action, Grant, Outcome
from crew_guard.core.content import Check, Place
from crew_guard.core.decisions import Stop
from crew_guard.core.events import AgentStep
from crew_guard.core.headroom import Remaining
from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolSpec
from crew_guard.core.reliability.trials import Subject
from crew_guard.core.roles import Crew, Verdict
from crew_guard.core.tools import Tool
from crew_guard.core.usage import Rates
from crew_guard.ports.flowing import Flow


@runtime_checkable
class Model(Protocol):
    """One model of one provider. `complete` is one attempt: it never retries by itself."""

    @property
    def name(self) -> str:
        """provider:name, as policies know it."""
        ...

    @property
    def rates(self) -> Rates | None:
        """What it costs; None if nobody knows."""
        ...

    @property
    def window(self) -> int | None:
        """The longest prompt plus completion, in tokens; None if unknown."""
        ...

    @property
    def streams(self) -> bool:
        """Whether `complete` calls on_text as tokens arrive."""
        ...

    def bound(self, message: Message) -> int:
        """An upper bound of one message's tokens, its overhead included; never 0."""
        ...

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of what a request adds to its messages: tools, schema, framing."""
        ...

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        """Answer in at most max_tokens.

        Raises:
            ModelError: the provider failed
        """
        ...


class Gate(Protocol):
    """The one door: nothing acts but through it. Usable from any thread and any event loop."""

    async def admit(self, action: Action) -> Grant:
        """Reserve what the action may use, waiting for budget where some may come back.

        Raises:
            LimitExceededError, PolicyDeniedError: the action must not be carried out
            StoreError: the journal could not be written
        """
        ...

    def admit_blocking(self, action: Action) -> Grant:
        """The same for a caller without an event loop: blocks its thread."""
        ...

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """Swap the reservation for what was used. Exactly once for each grant; never blocks."""
        ...

    def in_thread(self, work: Grant | str, *, around: bool = False) -> Callable[[], object]:
        """A blocking tool runs in a thread, which can't be ended: the run's result names it as long as it is there.

        Args:
            work: its grant; or a name, for what isn't an action
            around: whether what is done there has names of its own, and this one counts where none of those is told
        Returns:
            to be called when the thread is over
        """
        ...

    def progress(self, grant: Grant | None = None, text: str = "") -> None:
        """Something happened in an action under way, e.g. a token arrived: the run is not idle.

        Args:
            grant: the model call that wrote a text
            text: what it wrote since the last time; told to whoever reads the run as a stream
        """
        ...

    def moved(self, agent: str, task: str, step: AgentStep) -> None:
        """An agent took up a task (think) or is done with it (finish); its actions tell the rest."""
        ...

    def flow(self, workflow: str) -> Flow:
        """What a workflow of this name tells and asks besides its actions."""
        ...

    def judged(self, agent: str, task: str, verdict: Verdict) -> None:
        """A verifier gave its verdict."""
        ...

    def remaining(self, agent: str) -> Remaining:
        """What the agent has left, at the least of its scopes. Read-only, and perhaps one action old."""
        ...

    def notices(self, agent: str) -> tuple[str, ...]:
        """What the agent is to be told before its next model call, each once: its budget runs low, it goes in circles.

        Cheap: asked at every turn.
        """
        ...

    async def delegate(self, agent: str, to: str, task: str, work: Callable[[], Awaitable[str]]) -> str:
        """Do work of another agent inside a handoff of this one, which waits for it: charged to both.

        Raises:
            RefusedError: nested too deep (max_depth), or what the work itself ran into
        """
        ...

    async def call_model(self, agent: str, model: Model, request: ModelRequest, terms: CallTerms) -> ModelReply:
        """Admit, call, settle, and try again where the provider failed; each attempt is a step.

        Raises:
            RefusedError: the guard said no
            ModelError: the provider failed for good
        """
        ...

    async def check(self, place: Place, agent: str, target: str, value: Any) -> Check:
        """Let the guardrails of this place look at content. Never raises for what they do: what fails rejects.

        Args:
            place: inputs, outputs or tool_results
            agent: whose content it is; empty for the run's inputs
            target: the input's, the task's or the tool's name
            value: a text or a structured value
        Returns:
            pass; fix with what takes the value's place, of the same kind; or reject with the reason
        """
        ...

    def check_blocking(self, place: Place, agent: str, target: str, value: Any) -> Check:
        """The same for a caller without an event loop: blocks its thread."""
        ...

    async def call_tool(self, agent: str, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        """Admit, execute, settle. A tool's own failure is a result, not an exception.

        Raises:
            RefusedError: the guard said no; where only the tool is stopped the agent may go on
        """
        ...


@dataclass(frozen=True, slots=True)
class CallTerms:
    """How long a completion may be, where the caller has a wish."""

    max_tokens: int | None = None
    min_tokens: int | None = None


class ToolResult(Struct, frozen=True):
    """What came of one tool execution."""

    text: str
    """What the agent reads: the result, or what went wrong."""
    value: Any = None
    """The Python value, for callers that are not models."""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeResult:
    """What a runtime, or a workflow, made of the job."""

    output: Any
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """By task or node name."""
    partial: bool = False
    """True where the work was not finished."""
    reason: str = ""
    """Why it was not finished, or why a verifier failed it."""
    stop: Stop | None = None
    """The refusal that ended it, where one did."""
    error: Exception | None = None
    """What it failed with, where something was done before."""


class Runtime(Protocol):
    """An engine that runs crews: our own, or a host framework."""

    @property
    def name(self) -> str:
        """native, crewai, autogen, langgraph or llama-index."""
        ...

    def members(self) -> Sequence[str]:
        """The identities that are known to take part before it runs."""
        ...

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Do the job; every model call and tool call goes through the gate.

        Cancelling this coroutine must end the work.
        """
        ...


@runtime_checkable
class Described(Protocol):
    """A Runtime of a host's own object, which knows what that is called and what it is made of."""

    def called(self) -> str:
        """Its own name, or its class where its user gave it none."""
        ...

    def definition(self) -> Any:
        """What can be read of what defines its behaviour, as a JSON value: the same in every process.

        Cheap, since it is asked before each run whose reliability counts: the object may have been changed. Runs
        nothing, and never raises. What a run fills in is no part of it.
        """
        ...


@runtime_checkable
class Tasked(Protocol):
    """A Runtime whose tasks have texts of their own, besides the run's inputs."""

    def task_texts(self, inputs: Mapping[str, Any]) -> Sequence[str]:
        """What the tasks say, as far as the crew's author wrote it and the inputs fill it in."""
        ...


@runtime_checkable
class Attended(Protocol):
    """A Runtime in which some take part who ask no model, and so are no members."""

    def attendants(self) -> Sequence[str]:
        """Their names: a policy may speak of them, as of who executes code."""
        ...


@runtime_checkable
class Spoken(Protocol):
    """A Runtime that may have no use for a text in the place of inputs."""

    def inputs_of(self, text: str) -> Mapping[str, Any]:
        """The inputs that a text stands for.

        Raises:
            ConfigError: there are none
        """
        ...


@runtime_checkable
class Continuing(Protocol):
    """A Runtime whose runs may go on with one another, after an interrupt say: together they have one budget."""

    def job_of(self, inputs: Mapping[str, Any]) -> str | None:
        """The job that a run with these inputs goes on with; None where it stands alone."""
        ...

    def executions(self, job: str) -> Mapping[str, int]:
        """Executions by tool in the job's latest run. Asked once, when that is over, and may be forgotten then."""
        ...


class Workflow(Protocol):
    """A fixed path that does a crew's job without agents that decide."""

    @property
    def name(self) -> str: ...

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Do the job under the same gate."""
        ...


class TasksDone(dict[str, Any]):
    """Outputs of a crew's finished and verified tasks, by task: a node of the same name need not do the same."""


@runtime_checkable
class Resuming(Protocol):
    """A Workflow that can go on from what is done already."""

    async def resume(self, inputs: Mapping[str, Any], gate: Gate, done: Mapping[str, Any]) -> RuntimeResult:
        """Do what is left of the job.

        Args:
            inputs: the run's
            gate: as in `run`
            done: outputs of finished nodes, by name; as TasksDone, of a crew's finished and verified tasks
        """
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What a workflow's nodes name and the supervisor has."""

    model_named: Callable[[Model | str | None], Model]
    """A model object at the policy's price; of None, the supervisor's own.

    Raises ConfigError or MissingDependencyError for a name that leads nowhere.
    """
    runtime_of: Callable[[Crew], Runtime]
    """What runs a crew inside of a node."""


@runtime_checkable
class Delegating(Protocol):
    """What has crews inside of it: a Workflow, or what runs one."""

    def crews(self) -> Mapping[str, Crew]:
        """By the node that they work in."""
        ...

    def insiders(self) -> Sequence[str]:
        """Agents and judges that act inside of a node by a name of their own, as NODE/AGENT."""
        ...


@runtime_checkable
class Recorded(Protocol):
    """A Workflow whose nodes have records of their own, which begin afresh where what defines a node changes."""

    def subjects(self) -> Mapping[str, Subject]:
        """Whose record a verdict goes into, by node, and by NODE/AGENT for agents inside of one."""
        ...


@runtime_checkable
class Equippable(Workflow, Protocol):
    """A Workflow whose nodes name models, or delegate to crews."""

    def equipped(self, means: Means) -> Workflow:
        """The same workflow with all that it names found.

        Raises:
            ConfigError: a name leads nowhere
        """
        ...
