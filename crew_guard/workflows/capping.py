"""A node's caps, from what a user wrote."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast

from pydantic import ValidationError

from crew_guard.core.limits import UNCAPPED, AgentLimits, Caps, Limits
from crew_guard.errors import WorkflowError

_COUNT, _SECONDS = "a whole number, 0 or more", "seconds, 0 or more"
_EXPECTED = {
    "max_agents": _COUNT,
    "max_steps": _COUNT,
    "max_tool_calls": _COUNT,
    "max_tokens": _COUNT,
    "max_usd": "dollars, 0 or more, such as '0.05'",
    "max_seconds": _SECONDS,
}
_OF_THE_RUN = ("max_depth", "max_idle_seconds")


def caps_of(given: AgentLimits | Mapping[str, Any] | None, node: str) -> tuple[Caps, float | None]:
    """The caps, and the seconds of all attempts.

    Raises:
        WorkflowError: what is given is none, key by key
    """
    if given is None:
        return UNCAPPED, None
    if not isinstance(given, AgentLimits | Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  users don't all run pyright
        raise WorkflowError(f"node {node!r}: caps is {given!r:.80}; expected a dict such as {{'max_steps': 3}}")
    if isinstance(given, Mapping):
        given = _limits(cast("Mapping[Any, Any]", given), node)
    if not isinstance(given, Limits):
        return given.caps(), None
    for limit in _OF_THE_RUN:
        if getattr(given, limit) is not None:
            raise WorkflowError(f"node {node!r}: caps: {_of_the_run(limit)}")
    return given.caps(), given.max_seconds


def _limits(given: Mapping[Any, Any], node: str) -> Limits:
    wrong = [_unknown(key) for key in given if key not in _EXPECTED]
    if not wrong:
        try:
            return Limits.model_validate(given)
        except ValidationError as error:
            wrong = list(_words(given, error))
    raise WorkflowError(f"node {node!r}: caps: {'; '.join(wrong)}")


def _unknown(key: Any) -> str:
    if key in _OF_THE_RUN:
        return _of_the_run(key)
    close = get_close_matches(str(key), _EXPECTED, 1)
    return f"there is no cap {key!r}; {f'did you mean {close[0]}?' if close else 'there are ' + ', '.join(_EXPECTED)}"


def _of_the_run(limit: str) -> str:
    return f"{limit} is the whole run's; a node has none of its own"


def _words(given: Mapping[Any, Any], error: ValidationError) -> Iterator[str]:
    places = (detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"])
    for key, _ in itertools.groupby(map(str, places)):
        yield f"{key} is {given[key]!r:.80}; expected {_EXPECTED[key]}"
