"""Tokens as providers report them, in each of their forms. Nothing in a report is trusted to be there or true.

A part that can't be true (more than what it is a part of) is left out, which prices it as the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from msgspec.structs import replace

from crew_guard.core.usage import NO_PARTS, Parts, Usage

_TOO_MANY = 10**12
Tokens: TypeAlias = tuple[Usage | None, Parts]
_UNKNOWN: Tokens = (None, NO_PARTS)


def parse_usage(body: Any) -> Tokens:
    """The tokens of one call.

    Args:
        body: the value of `usage` or `usageMetadata`: of chat completions, Anthropic's Messages, Gemini's
            generateContent, OpenAI's Responses, Bedrock's Converse or Cohere's chat, told apart by their keys
    Returns:
        (the usage, or None where it is absent or can't be true; the parts that may have a price of their own)
    """
    usage = mapping(body)
    for key, read in _FORMS:
        if key in usage:
            return read(usage)
    return _UNKNOWN


def _chat(usage: Mapping[str, Any]) -> Tokens:
    """Chat completions. A total beyond its parts is hidden reasoning, which is billed as output."""
    prompt, completion, total = (_count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion", "total"))
    if completion is None and prompt is not None and total is not None and "completion_tokens" not in usage:
        completion = _count(total - prompt)
    if prompt is None or completion is None:
        return _UNKNOWN
    sent, made = mapping(usage.get("prompt_tokens_details")), mapping(usage.get("completion_tokens_details"))
    return _checked(
        prompt,
        max(completion, (total or 0) - prompt),
        _of(sent, "cached_tokens"),
        Parts(
            cache_written=_of(sent, "cache_write_tokens"),
            input_audio=_of(sent, "audio_tokens"),
            output_audio=_of(made, "audio_tokens"),
            output_image=_of(made, "image_tokens"),
            reasoning=_of(made, "reasoning_tokens") or _of(usage, "reasoning_tokens"),
            citations=_of(usage, "citation_tokens"),
            searches=_of(usage, "num_search_queries"),
        ),
    )


def _messages(usage: Mapping[str, Any]) -> Tokens:
    """Anthropic's Messages, whose input_tokens leave out what was read from and written to the cache."""
    plain, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if plain is None or output is None:
        return _UNKNOWN
    read, written = _of(usage, "cache_read_input_tokens"), _of(usage, "cache_creation_input_tokens")
    parts = Parts(
        cache_written=written,
        kept_an_hour=_of(mapping(usage.get("cache_creation")), "ephemeral_1h_input_tokens"),
        reasoning=_of(mapping(usage.get("output_tokens_details")), "thinking_tokens"),
        searches=_of(mapping(usage.get("server_tool_use")), "web_search_requests"),
    )
    return _checked(plain + read + written, output, read, parts)


def _responses(usage: Mapping[str, Any]) -> Tokens:
    """OpenAI's Responses."""
    prompt, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if prompt is None or output is None:
        return _UNKNOWN
    sent = mapping(usage.get("input_tokens_details"))
    reasoning = _of(mapping(usage.get("output_tokens_details")), "reasoning_tokens")
    parts = Parts(cache_written=_of(sent, "cache_write_tokens"), reasoning=reasoning)
    return _checked(prompt, output, _of(sent, "cached_tokens"), parts)


def _gemini(usage: Mapping[str, Any]) -> Tokens:
    """Gemini, which counts thoughts and what its own tools read beside the rest."""
    prompt = _count(usage.get("promptTokenCount"))
    if prompt is None:
        return _UNKNOWN
    prompt += _of(usage, "toolUsePromptTokenCount")
    thoughts = _of(usage, "thoughtsTokenCount")
    output = max(_of(usage, "candidatesTokenCount") + thoughts, _of(usage, "totalTokenCount") - prompt)
    sent = _modalities(usage, "promptTokensDetails", "toolUsePromptTokensDetails")
    cached, made = _modalities(usage, "cacheTokensDetails"), _modalities(usage, "candidatesTokensDetails")
    parts = Parts(
        input_audio=sent.get("AUDIO", 0),
        cached_audio=cached.get("AUDIO", 0),
        input_image=sent.get("IMAGE", 0) + sent.get("DOCUMENT", 0),
        cached_image=cached.get("IMAGE", 0) + cached.get("DOCUMENT", 0),
        input_video=sent.get("VIDEO", 0),
        cached_video=cached.get("VIDEO", 0),
        output_audio=made.get("AUDIO", 0),
        output_image=made.get("IMAGE", 0) + made.get("DOCUMENT", 0),
        reasoning=thoughts,
    )
    return _checked(prompt, output, _of(usage, "cachedContentTokenCount"), parts)


def _converse(usage: Mapping[str, Any]) -> Tokens:
    """Bedrock's Converse."""
    plain, output = _count(usage.get("inputTokens")), _count(usage.get("outputTokens"))
    if plain is None or output is None:
        return _UNKNOWN
    read, written = _of(usage, "cacheReadInputTokens"), _of(usage, "cacheWriteInputTokens")
    hour = sum(_of(one, "inputTokens") for one in _mappings(usage.get("cacheDetails")) if one.get("ttl") == "1h")
    return _checked(plain + read + written, output, read, Parts(cache_written=written, kept_an_hour=hour))


def _cohere(usage: Mapping[str, Any]) -> Tokens:
    """Cohere's chat: its billed units are what it charges."""
    billed = mapping(usage.get("billed_units"))
    prompt = _count(billed.get("input_tokens"))
    return _UNKNOWN if prompt is None else _checked(prompt, _of(billed, "output_tokens"), 0, NO_PARTS)


_FORMS = (
    ("prompt_tokens", _chat),
    ("promptTokenCount", _gemini),
    ("input_tokens_details", _responses),
    ("input_tokens", _messages),
    ("inputTokens", _converse),
    ("billed_units", _cohere),
)


def _checked(prompt: int, output: int, cached: int, parts: Parts) -> Tokens:
    if cached + parts.cache_written > prompt:
        cached, parts = 0, _without(parts, "cache_written", "kept_an_hour", *_CACHED_MEDIA)
    usage = Usage(input_tokens=prompt, output_tokens=output, cached_tokens=cached)
    if parts == NO_PARTS:
        return usage, NO_PARTS
    if parts.kept_an_hour > parts.cache_written:
        parts = _without(parts, "kept_an_hour")
    parts = _checked_media(prompt - cached - parts.cache_written, cached, parts)
    if parts.output_audio + parts.output_image + parts.reasoning + parts.citations > output:
        parts = _without(parts, "output_audio", "output_image", "reasoning", "citations")
    return usage, parts


def _checked_media(plain: int, cached: int, parts: Parts) -> Parts:
    """The parts, where what they say of audio, images and video fits the plain and the cached tokens."""
    sent = parts.input_audio + parts.input_image + parts.input_video
    read = parts.cached_audio + parts.cached_image + parts.cached_video
    if sent + read == 0:
        return parts
    if not read and parts.input_audio == sent > plain:
        # a form that doesn't say how much of the audio came from the cache: no more than must have
        read = sent - plain
        parts = replace(parts, cached_audio=read)
    fits = (
        parts.cached_audio <= parts.input_audio
        and parts.cached_image <= parts.input_image
        and parts.cached_video <= parts.input_video
        and read <= cached
        and sent - read <= plain
    )
    return parts if fits else _without(parts, "input_audio", "input_image", "input_video", *_CACHED_MEDIA)


_CACHED_MEDIA = ("cached_audio", "cached_image", "cached_video")


def _without(parts: Parts, *names: str) -> Parts:
    return replace(parts, **dict.fromkeys(names, 0))


def _modalities(usage: Mapping[str, Any], *keys: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for key in keys:
        for entry in _mappings(usage.get(key)):
            modality = entry.get("modality")
            if isinstance(modality, str):
                found[modality] = found.get(modality, 0) + _of(entry, "tokenCount")
    return found


def _of(usage: Mapping[str, Any], key: str) -> int:
    return _count(usage.get(key)) or 0


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _TOO_MANY else None


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object of JSON, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    """The value where it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [mapping(one) for one in sequence(value)]
