"""LlamaIndex's GoogleGenAI: what it asks of google-genai's client, watched as it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from crew_guard.adapters.genai import QuietGemini
from crew_guard.adapters.llama_index.tapped import Call
from crew_guard.core.reported import parse_usage

_OWN_TOOLS = frozenset({"function_declarations", "functionDeclarations"})


def gemini_of(client: Any, call: Call) -> QuietGemini:
    """A client for one call: its requests are clamped to the call's length, and what they cost is heard."""

    def hear(said: Any) -> None:
        # Each piece of a stream names what it cost so far, which is no account of it.
        if said.usage_metadata is not None and _is_whole(said):
            call.heard.account(*parse_usage(said.usage_metadata.model_dump(mode="json", by_alias=True)))

    return QuietGemini(client, call.leaves, call.leaves_async, hear)


def _is_whole(said: Any) -> bool:
    blocked = said.prompt_feedback is not None and said.prompt_feedback.block_reason is not None
    return blocked or any(one.finish_reason is not None for one in said.candidates or ())


def not_bounded_of_gemini(llm: Any, given: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a request can't be bounded, as what follows its model's owner; None where it can.

    Args:
        given: the settings of the call and of the model, and the options of the call
    """
    client: Any = llm._client._api_client  # noqa: SLF001  LlamaIndex and the SDK hand them out nowhere
    for settings in (*given, {"http_options": client._http_options}):  # noqa: SLF001  as above
        if (choices := settings.get("candidate_count") or 1) > 1:
            return f"has candidate_count={choices}: completions that LlamaIndex throws away; leave it out"
        if settings.get("cached_content"):
            return (
                "has a cached_content, a prompt of a length that nobody knows before it is sent; leave it out, Gemini "
                "caches by itself what requests begin with"
            )
        if _get(settings.get("http_options"), "extra_body"):
            return "has an extra_body in http_options, which goes around the guard; leave it out"
        for tool in tools_in(settings):
            if (kind := _not_declared(tool)) is not None:
                return (
                    f"has the tool {kind}, which its provider's servers or its client run by themselves: that makes "
                    "tokens that nothing bounds; give the agent a tool of your own instead"
                )
    return None


def tools_in(settings: Mapping[str, Any]) -> Sequence[Any]:
    """Tools of settings, which may be one as it is."""
    tools: Any = settings.get("tools")
    return cast("Sequence[Any]", tools) if isinstance(tools, list | tuple) else () if tools is None else (tools,)


def beside_messages(given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that are a part of the prompt, or may be: instructions, schemas, tools."""
    settings = {name: value for options in reversed(given) for name, value in options.items()}
    return {name: value for name, value in settings.items() if value is not None and not isinstance(value, int | float)}


def says_more_than_text(given: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the answer may be images or sounds, which are dearer than text."""
    kinds: Any = next((options["response_modalities"] for options in given if options.get("response_modalities")), ())
    return any(str(getattr(kind, "value", kind)).upper() != "TEXT" for kind in kinds)


def _not_declared(tool: Any) -> str | None:
    """What a tool is, where it isn't functions that the model may ask for."""
    if not isinstance(tool, Mapping) and type(tool).__name__ != "Tool":  # a function, or a session of MCP
        return getattr(tool, "__name__", type(tool).__name__)
    parts = cast("dict[str, Any]", tool if isinstance(tool, Mapping) else vars(tool))
    return next((name for name, value in parts.items() if value is not None and name not in _OWN_TOOLS), None)


def _get(source: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", source).get(name) if isinstance(source, Mapping) else getattr(source, name, None)
