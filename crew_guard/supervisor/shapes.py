"""Content as text, and a text's fix put back into the value that the text was made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from pydantic import BaseModel

from crew_guard.core.content import Check
from crew_guard.core.plain import plain
from crew_guard.core.tools import misfit

_Mend = Callable[[str], str]


def text_of(value: Any) -> str:
    """A text as it is, the rest as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(plain(value), ensure_ascii=False)


def readable_of(value: Any) -> str:
    """A text as it is; of a structured value each leaf on a line behind its key."""
    if isinstance(value, str):
        return value
    return "\n".join(f"{key}: {leaf}" if key else leaf for key, leaf in leaves(plain(value)))


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(the nearest key, the text) of everything in a JSON value that is no list or mapping."""
    if isinstance(value, dict):
        for name, part in cast("dict[str, Any]", value).items():
            yield from leaves(part, str(name))
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            yield from leaves(part, key)
    elif value is not None:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def put_back(value: Any, check: Check) -> Any:
    """The value as a fix leaves it: of the value's own kind.

    Raises:
        ValueError: the fix doesn't fit; the text is for the agent
    """
    made = check.value
    if isinstance(value, str):
        if not isinstance(made, str):
            raise ValueError(  # noqa: TRY004  a fix that doesn't fit, whichever way
                f"its fix is a {type(made).__name__}, where the answer is a text"
            )
        return made
    if isinstance(made, str):
        made = _mended(plain(value), check.mend) if check.mend else _parsed(made)
    if not isinstance(value, BaseModel):
        return made
    if isinstance(made, type(value)):
        return made
    try:
        return type(value).model_validate(made)
    except Exception as error:  # noqa: BLE001  a validator of a user's may raise what it likes
        raise ValueError(misfit(error, "its fix")) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("its fix is a text, where the answer is structured") from None


def _mended(value: Any, mend: _Mend) -> Any:
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, dict):
        return {mend(str(name)): _mended(part, mend) for name, part in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_mended(part, mend) for part in cast("list[Any]", value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        # A card's number may be written as a number: where the fix changes it, it is a text from then on.
        text = json.dumps(value)
        made = mend(text)
        return value if made == text else made
    return value
