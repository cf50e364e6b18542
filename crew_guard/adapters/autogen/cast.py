"""Who takes part in an AutoGen object: agents, teams' leaders, and what can't be guarded, found before it runs."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, cast

from autogen_agentchat.agents import CodeExecutorAgent, MessageFilterAgent, UserProxyAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.teams import BaseGroupChat
from autogen_core import SingleThreadedAgentRuntime
from autogen_core.memory import Memory
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseTool, StaticWorkbench, Workbench

from crew_guard.adapters.autogen.client import check_client
from crew_guard.errors import ConfigError

_SDKS = {
    "anthropic", "azure", "boto3", "botocore", "cohere", "google", "groq", "huggingface_hub", "litellm",
    "mem0", "mistralai", "ollama", "openai", "semantic_kernel", "together",
}  # fmt: skip
"""Packages whose clients ask models outside of AutoGen's ChatCompletionClient."""
_EMBED = {"CustomEmbeddingFunctionConfig"}
"""What makes a vector memory of AutoGen embed with who knows what."""
_EMBEDS_GATED = {"OpenAIEmbeddingFunction", "OpenAIEmbeddingFunctionConfig"}
"""What holds a client of OpenAI's SDK to embed with: that is gated itself."""
_FOLLOWED = (ChatAgent, Team, Workbench, BaseTool, Memory, ChatCompletionContext, ChatCompletionClient)
_CLOSED = {"autogen_core", "autogen_agentchat", "asyncio", "inspect", "pydantic", "threading", "logging", "builtins"}
"""Packages whose other objects hold nothing that acts."""
_PLAIN = (str, bytes, int, float, bool, type(None))
_DEPTH = 8
"""How far below an agent something is looked for, through objects of the user's own."""


class _Kind(NamedTuple):
    """A class of objects that are met, looked at once: AutoGen's bases are slow to say what is one of theirs."""

    package: str
    inert: bool
    """Numbers and texts, classes and functions: nothing below them acts."""
    acts: bool
    """An agent, a team, or a part of one that AutoGen has a class for."""


@cache
def _kind_of(kind: type[Any]) -> _Kind:
    routine = issubclass(kind, (types.BuiltinFunctionType, types.FunctionType, types.MethodType))
    routine = routine or (hasattr(kind, "__get__") and not hasattr(kind, "__set__"))
    inert = routine or issubclass(kind, (type, *_PLAIN))
    return _Kind(kind.__module__.partition(".")[0], inert, issubclass(kind, _FOLLOWED))


@dataclass(slots=True)
class Cast:
    """Everyone and everything that a host object is made of."""

    agents: list[ChatAgent] = field(default_factory=list[ChatAgent])
    teams: list[BaseGroupChat] = field(default_factory=list[BaseGroupChat])
    leaders: dict[int, str] = field(default_factory=dict[int, str])
    """By a team's id, who makes its own model calls: its selector, its orchestrator."""
    names: list[str] = field(default_factory=list[str])
    """Everyone who may ask a model, the outermost first."""
    attendants: list[str] = field(default_factory=list[str])
    """Who takes part and asks none."""
    _seen: dict[int, object] = field(default_factory=dict[int, object])

    def look(self, value: object, path: str, depth: int = 0) -> None:
        """Follow everything that an object is made of.

        Args:
            path: how its user would call it
        Raises:
            ConfigError: a part that can't be guarded, by its path
        """
        kind = _kind_of(type(value))
        if id(value) in self._seen or depth > _DEPTH or kind.inert or type(value).__name__ in _EMBEDS_GATED:
            return
        self._seen[id(value)] = value
        if kind.package in _SDKS or type(value).__name__ in _EMBED:
            raise ConfigError(
                f"{path} is a {type(value).__module__}.{type(value).__name__}, which asks models where AutoGen has no "
                "seam for a guard; give the agent a ChatCompletionClient instead, or take that part out"
            )
        if kind.acts and isinstance(value, ChatCompletionClient):
            check_client(value)
            if inner := vars(value).get("client"):
                self.look(inner, f"{path}.client", depth + 1)
            return
        if kind.acts and isinstance(value, ChatAgent):
            self._agent(value)
            path = f"agent {value.name!r}"
        elif kind.acts and isinstance(value, Team):
            path = f"team {value.name!r}"
            self._team(value, path)
        elif kind.acts and isinstance(value, Workbench) and not isinstance(value, StaticWorkbench):
            _check_sampling(value, path)
        for name, part in _parts(value, kind):
            if not _kind_of(type(part)).inert:  # nearly all parts are
                self.look(part, f"{path}{name}", depth + 1)

    def _agent(self, agent: ChatAgent) -> None:
        self.agents.append(agent)
        if not _asks(agent):
            self.attendants.append(agent.name)
        elif not isinstance(agent, MessageFilterAgent):  # whom it wraps is one
            self._name(agent.name)

    def _team(self, team: Team, path: str) -> None:
        if not isinstance(team, BaseGroupChat):
            raise ConfigError(f"{path} is a {type(team).__name__}; crew_guard knows AutoGen's own group chats only")
        runtime = cast(Any, team)._runtime  # noqa: SLF001  AutoGen names it nowhere else
        if not cast(Any, team)._embedded_runtime or not isinstance(runtime, SingleThreadedAgentRuntime):  # noqa: SLF001  as above
            raise ConfigError(
                f"{path} has a runtime of its own, which works outside of the run; make the team without runtime="
            )
        self.teams.append(team)
        if any(isinstance(value, ChatCompletionClient) for value in vars(team).values()):
            own: str = cast(Any, team)._group_chat_manager_name  # noqa: SLF001  as above
            name = own if own not in self.leaders.values() else f"{team.name}/{own}"
            self.leaders[id(team)] = name
            self._name(name)

    def _name(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)


def _asks(agent: ChatAgent) -> bool:
    """Whether an agent may ask a model: of a class of a user's own nobody knows that it doesn't."""
    if type(agent) is CodeExecutorAgent:
        return agent._model_client is not None  # noqa: SLF001  AutoGen names it nowhere else  # pyright: ignore[reportPrivateUsage]
    return type(agent) is not UserProxyAgent


def cast_of(host: ChatAgent | Team) -> Cast:
    """Who takes part in an agent or a team.

    Raises:
        ConfigError: a part of it can't be guarded
    """
    found = Cast()
    found.look(host, "it")
    return found


def _parts(value: Any, kind: _Kind) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in cast(Mapping[object, object], value).items():
            yield f"[{key!r}]", part
    elif isinstance(value, list | tuple | set | frozenset):
        for place, part in enumerate(cast("list[object]", value)):
            yield f"[{place}]", part
    elif hasattr(value, "__dict__") and (kind.acts or kind.package not in _CLOSED):
        for name, part in tuple(cast(Mapping[str, object], vars(cast(object, value))).items()):
            yield f".{name}", part


def _check_sampling(bench: Workbench, path: str) -> None:
    """An MCP server may ask for completions, in a task that began before the run."""
    held: list[object] = list(vars(bench).values())
    for value in tuple(held):
        held += list(vars(value).values()) if hasattr(value, "__dict__") and not inspect.isclass(value) else []
    if any(isinstance(value, ChatCompletionClient) for value in held):
        raise ConfigError(
            f"{path} lets its server ask a model ({type(bench).__name__} with a model client), which happens outside "
            "of the run; make the workbench without it"
        )
