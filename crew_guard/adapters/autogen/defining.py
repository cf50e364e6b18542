"""What defines an agent or a team of AutoGen: its texts, its models, its tools and who takes part in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from autogen_agentchat.base import ChatAgent, Team
from autogen_core.models import ChatCompletionClient, SystemMessage

from crew_guard.adapters.autogen.cast import Cast
from crew_guard.adapters.autogen.client import model_name
from crew_guard.adapters.defining import called, each, names, plain, read, tried

_TEXTS = ("name", "description", "_instruction", "_response_prompt", "_selector_prompt", "_final_answer_prompt")
"""What agents and teams of AutoGen's are told, besides system messages."""
_HANDOFF = ("name", "target", "description", "message")
_PATH = ("target", "activation_group", "activation_condition", "condition")


def name_of_host(host: ChatAgent | Team) -> str:
    """What an agent or a team is called."""
    return called(tried(getattr, host, "name"), getattr(type(host), "DEFAULT_NAME", None), host)


def definition_of(cast: Cast) -> Any:
    """What can be read of all that take part. See Described."""
    return [each(_of_part, cast.agents), each(_of_team, cast.teams)]


def _of_part(part: Any) -> Any:
    held: dict[str, Any] = dict(sorted(cast("dict[str, Any]", vars(part)).items()))
    told = [text for value in held.values() if isinstance(value, list) for text in each(_told, value) if text]
    models = [tried(model_name, value) for value in held.values() if isinstance(value, ChatCompletionClient)]
    handoffs = sorted(each(lambda handoff: read(handoff, *_HANDOFF), held.get("_handoffs")), key=str)
    return [type(part).__qualname__, read(part, *_TEXTS), told, models, _tools(held), handoffs]


def _of_team(team: Any) -> Any:
    everyone = each(lambda one: one.name, tried(getattr, team, "_participants"))
    return [tried(_of_part, team), everyone, tried(_paths, getattr(team, "_graph", None))]


def _paths(graph: Any) -> Any:
    """Where a GraphFlow begins, and by a node what may come next and when; AutoGen has functions elsewhere."""
    paths = {name: each(lambda path: read(path, *_PATH), node.edges) for name, node in graph.nodes.items()}
    return [graph.default_start_node, paths]


def _told(message: Any) -> str | None:
    return plain(message.content) if isinstance(message, SystemMessage) else None


def _tools(held: Mapping[str, Any]) -> list[str]:
    """Its own tools, and those of its workbenches; of a server's workbench nobody knows before it asks."""
    benches: list[Mapping[str, Any]] = [*filter(None, each(vars, held.get("_workbench"))), held]
    return sorted({name for bench in benches for name in names(lambda tool: tool.name, bench.get("_tools"))})
