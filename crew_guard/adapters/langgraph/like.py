"""A wrapper that LangChain takes for what it wraps: it looks at signatures and hints at every call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, cast, get_type_hints


def like(own: Any) -> Callable[[Any], Any]:
    """Make a function look like this method, with all that can be asked of it worked out once."""

    def made(wrapper: Any) -> Any:
        known = cast(Any, wraps(own)(wrapper))
        known.__signature__ = inspect.signature(own)
        try:
            known.__annotations__ = get_type_hints(own, include_extras=True)
        except Exception:  # noqa: BLE001  a hint that can't be resolved stays a text, as it was
            return known
        return known

    return made
