"""An LLM's double for one call: it shares the user's object's state, and shows the grant as its length.

The object may be used by others meanwhile, guarded or not, so nothing of it is changed. The double's
class says max_retries is 0, and of OpenAI's clients takes variants that don't retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from crew_guard.adapters.hosted import length_key
from crew_guard.adapters.llama_index.quiet import quiet_client

_SLOT = "_crew_guard"
_STATE = ("__dict__", "__pydantic_private__", "__pydantic_extra__", "__pydantic_fields_set__")
LENGTHS = ("max_completion_tokens", "max_tokens")


def double_of(llm: Any, call: object, *, openai: bool) -> Any:
    """An object like this LLM, for one call.

    Args:
        llm: the user's
        call: what the double's methods find with `call_of`; it has a `length`, or None where nothing is clamped
        openai: whether it is one of the OpenAI family, whose requests are clamped as they are made
    """
    double = object.__new__(_derived(cast("type[Any]", type(llm)), openai))
    for name in _STATE:
        object.__setattr__(double, name, object.__getattribute__(llm, name))
    object.__setattr__(double, _SLOT, call)
    return double


def is_double(llm: object) -> bool:
    """Whether this is one."""
    return hasattr(type(llm), _SLOT)


def call_of(double: object) -> Any:
    """What a double was made with."""
    return object.__getattribute__(double, _SLOT)


@cache
def _derived(kind: type[Any], openai: bool) -> type[Any]:
    # Made once for each class: pydantic takes milliseconds.
    methods: dict[str, Any] = {"__getattribute__": _shown}
    if openai:
        methods |= {
            "_get_model_kwargs": _clamped_request,
            "_update_max_tokens": _leave_length,
            "_get_client": _quiet_sync,
            "_get_aclient": _quiet_async,
        }
    namespace = {"__slots__": (_SLOT,), "__module__": __name__, "__qualname__": kind.__qualname__, **methods}
    metaclass: Any = type(kind)
    return metaclass(kind.__name__, (kind,), namespace)


def _own(double: Any) -> Any:
    return type(double).__bases__[0]


def _shown(double: Any, name: str) -> Any:
    value = object.__getattribute__(double, name)
    if name == "max_retries" and isinstance(value, int):
        return 0
    if name == "max_tokens" and not callable(value):
        length = call_of(double).length
        return value if length is None else length
    return value


def _clamped_request(double: Any, **kwargs: Any) -> dict[str, Any]:
    made: Mapping[str, Any] = _own(double)._get_model_kwargs(double, **kwargs)  # noqa: SLF001  the seam
    request = dict(made)
    length = call_of(double).length
    if length is not None:
        key = "max_completion_tokens" if "max_completion_tokens" in request else length_key(str(request.get("model")))
        for name in LENGTHS:
            request.pop(name, None)
        request[key] = length
    if request.get("stream"):
        # Without it a stream ends with no usage, and all that was reserved would be charged.
        asked = cast("Mapping[str, Any]", request.get("stream_options") or {})
        request["stream_options"] = {**asked, "include_usage": True}
    return request


def _leave_length(double: Any, all_kwargs: dict[str, Any], prompt: str) -> None:
    """The length stands already; the original would set the model's whole window."""


def _quiet_sync(double: Any) -> Any:
    llm = call_of(double).llm  # the user's, so that a client that is made now is kept as they would have it
    return quiet_client(_own(double)._get_client(llm), kept=llm.reuse_client)  # noqa: SLF001  the seam


def _quiet_async(double: Any) -> Any:
    llm = call_of(double).llm
    return quiet_client(_own(double)._get_aclient(llm), kept=llm.reuse_client)  # noqa: SLF001  the seam
