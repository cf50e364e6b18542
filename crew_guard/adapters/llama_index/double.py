"""An LLM's double for one call: it shares the user's object's state, and shows the grant as its length.

The object may be used by others meanwhile, guarded or not, so nothing of it is changed. The double's
class says max_retries is 0, and of OpenAI's clients takes variants that don't retry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, cast

from crew_guard.adapters.connections import quiet_client
from crew_guard.adapters.genai import is_genai
from crew_guard.adapters.hosted import length_key
from crew_guard.adapters.llama_index.google import gemini_of
from crew_guard.adapters.llama_index.providers import Provider
from crew_guard.adapters.llama_index.tapped import tapped
from crew_guard.adapters.stand_in import ABSENT, is_stand_in, own_value, seam_of, shown, stand_in

LENGTHS = ("max_completion_tokens", "max_tokens")


def double_of(llm: Any, call: object, *, openai: bool, known: Provider | None = None) -> Any:
    """An object like this LLM, for one call.

    Args:
        llm: the user's
        call: what the double's methods find with `call_of`; it has a `length`, or None where nothing is clamped
        openai: whether it is one of the OpenAI family, whose requests are clamped as they are made
        known: another provider's class, whose requests are clamped in its SDK
    """
    if known is not None:
        return stand_in(llm, call, _sdk_methods(known))
    return stand_in(llm, call, _openai_methods if openai else _methods)


is_double = is_stand_in
call_of = seam_of


def _methods(_kind: type[Any]) -> Mapping[str, Any]:
    return shown(("max_retries", "max_tokens"), _shown)


def _openai_methods(kind: type[Any]) -> Mapping[str, Any]:
    return {
        **_methods(kind),
        "_get_model_kwargs": _clamped_request,
        "_update_max_tokens": _leave_length,
        "_get_client": _quiet_sync,
        "_get_aclient": _quiet_async,
    }


@cache
def _sdk_methods(known: Provider) -> Callable[[type[Any]], Mapping[str, Any]]:
    """By provider, once: the classes of doubles are kept by what makes them."""
    clients = shown(known.clients, partial(_tapped_client, known))
    return lambda _kind: {**_methods(_kind), **clients}


def _tapped_client(known: Provider, double: Any, name: str) -> Any:
    call = call_of(double)
    client = getattr(call.llm, name)  # of the user's model: one that is made now is kept as they would have it
    return gemini_of(client, call) if is_genai(client) else tapped(quiet_client(client), known, call)


def _own(double: Any) -> Any:
    return type(double).__bases__[0]


def _shown(double: Any, name: str) -> Any:
    if name == "max_retries":
        return 0 if isinstance(own_value(double, name), int) else ABSENT
    length = call_of(double).length
    if length is None:
        return ABSENT
    value = own_value(double, name)
    return value if value is ABSENT or callable(value) else length


def _clamped_request(double: Any, **kwargs: Any) -> dict[str, Any]:
    made: Mapping[str, Any] = _own(double)._get_model_kwargs(double, **kwargs)  # noqa: SLF001  the seam
    request = dict(made)
    call_of(double).may_leave()
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
    client = quiet_client(_own(double)._get_client(llm), kept=llm.reuse_client)  # noqa: SLF001  the seam
    call_of(double).may_leave()
    return client


def _quiet_async(double: Any) -> Any:
    llm = call_of(double).llm
    client = quiet_client(_own(double)._get_aclient(llm), kept=llm.reuse_client)  # noqa: SLF001  the seam
    call_of(double).may_leave()
    return client
