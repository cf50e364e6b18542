"""AutoGen's agents and teams under the gate, as they are; and crews of ours as AutoGen's own objects.

Importing this package does not import AutoGen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.adapters.versions import Supported
from crew_guard.core.roles import Agent, Crew
from crew_guard.ports import Model

if TYPE_CHECKING:
    from crew_guard.adapters.autogen.crews import CompiledRuntime
    from crew_guard.adapters.autogen.runtime import AutoGenRuntime

_HOSTED = frozenset({"BaseChatAgent", "ChatAgent", "BaseGroupChat", "Team"})
_AGENTCHAT = Supported("autogen-agentchat", (0, 7, 5), (0, 8), extra="autogen")


def accepts(obj: object) -> bool:
    """Whether this is an agent or a team of AutoGen."""
    return come_from(obj, "autogen_agentchat", _HOSTED)


def runtime_for(host: Any, facts: ModelFacts) -> AutoGenRuntime:
    """A runtime for an agent or a team.

    Args:
        host: it is not changed
        facts: rates and token bounds by model name
    Raises:
        ConfigError: a part of it can't be guarded, or this version of AutoGen is not known
        MissingDependencyError: AutoGen is not installed
    """
    _AGENTCHAT.check("guarding an agent of AutoGen")
    from crew_guard.adapters.autogen.runtime import AutoGenRuntime

    return AutoGenRuntime(host, facts)


def compiled(crew: Crew, model_for: Callable[[Agent], Model]) -> CompiledRuntime:
    """A runtime that runs a crew of ours as AutoGen's own agents and teams.

    Raises:
        ConfigError: this version of AutoGen is not known
        MissingDependencyError: AutoGen is not installed
    """
    _AGENTCHAT.check("running a crew on AutoGen")
    from crew_guard.adapters.autogen.crews import CompiledRuntime

    return CompiledRuntime(crew, model_for)
