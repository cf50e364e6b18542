"""AutoGen's AssistantAgent under the gate: its model clients and workbenches are wrapped while it runs.

Importing this package does not import AutoGen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.errors import MissingDependencyError

if TYPE_CHECKING:
    from crew_guard.adapters.autogen.runtime import AutoGenRuntime

_HOSTED = frozenset({"BaseChatAgent", "ChatAgent", "BaseGroupChat", "Team"})


def accepts(obj: object) -> bool:
    """Whether this is an agent or a team of AutoGen."""
    return come_from(obj, "autogen_agentchat", _HOSTED)


def runtime_for(host: Any, facts: ModelFacts) -> AutoGenRuntime:
    """A runtime for an AssistantAgent.

    Args:
        host: the agent; it is not changed outside of a run
        facts: rates and token bounds by model name
    Raises:
        ConfigError: a team, an agent of another kind, or a client that can't be bounded
        MissingDependencyError: AutoGen is not installed
    """
    try:
        from crew_guard.adapters.autogen.runtime import AutoGenRuntime
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("autogen"):
            raise MissingDependencyError("guarding an agent of AutoGen", "autogen") from error
        raise
    return AutoGenRuntime(host, facts)
