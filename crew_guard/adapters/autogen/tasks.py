"""What a run of an agent or a team of AutoGen is asked to do."""

from __future__ import annotations

# AutoGen has no public way to see whether a team or an agent has heard anything.
# ruff: noqa: SLF001
from collections.abc import Mapping, Sequence
from typing import Any, cast

from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.messages import BaseChatMessage
from autogen_agentchat.teams import MagenticOneGroupChat
from autogen_core.model_context import ChatCompletionContext

from crew_guard.errors import ConfigError

_NAMES = ("task", "input")
_TAKES = "a text, a message of AutoGen's (TextMessage, say), or a list of messages"


async def task_of(host: ChatAgent | Team, inputs: Mapping[str, Any]) -> Any:
    """The task that inputs name, as AutoGen takes it; None where the host goes on without one.

    Raises:
        ConfigError: there is none and nothing to go on with, or it is none, or there is something else beside it
    """
    what = f"{'agent' if isinstance(host, ChatAgent) else 'team'} {host.name!r}"
    given = [name for name in _NAMES if name in inputs]
    if stray := [name for name in inputs if name not in given[:1]]:
        raise ConfigError(
            f"{what} takes one input, 'task' (or 'input'), and no {', '.join(map(repr, stray))}: its other options "
            "are for the agent or team itself, and how it is ended for the policy"
        )
    task = inputs[given[0]] if given else None
    if task is None:
        if isinstance(host, MagenticOneGroupChat):
            raise ConfigError(f"{what} needs a task each time, as a MagenticOneGroupChat does: run('…')")
        if not given and not await _has_heard(host):
            raise ConfigError(
                f"{what} needs a task, for it has nothing to go on with: run('…') or run({{'task': '…'}}); "
                "run({'task': None}) has it begin without one"
            )
        return None
    messages: Sequence[Any] = [] if isinstance(task, str) else [task]
    if isinstance(task, list | tuple):
        task = messages = list(cast("list[Any]", task))
    for message in messages:
        if not isinstance(message, BaseChatMessage):
            raise ConfigError(f"{what}: a task is {_TAKES}, not {_article(message)}")
    if not task:
        raise ConfigError(f"{what} needs a task, and this one is empty: run('…') or run({{'task': '…'}})")
    return task


async def _has_heard(host: ChatAgent | Team) -> bool:
    """Whether there may be something to go on with: of agents whose memory isn't AutoGen's nobody knows."""
    if isinstance(host, ChatAgent):
        contexts = [part for part in vars(host).values() if isinstance(part, ChatCompletionContext)]
        return not contexts or any([await context.get_messages() for context in contexts])
    agents: Mapping[Any, Any] = cast(Any, host)._runtime._instantiated_agents
    return any(getattr(agent, "_message_thread", None) for agent in agents.values())


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
