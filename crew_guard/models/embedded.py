"""A small model inside the process: no key, no network, no server to start.

SmolLM2-135M knows no tools, so tools and schemas become a schema of the answer that the decoder can't
leave: the form always holds, the content is a weak model's. One generation at a time in the process.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from pydantic_core import from_json

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.reported import parse_usage
from crew_guard.core.usage import FREE, Rates
from crew_guard.errors import ModelError
from crew_guard.models.constrained import bounded, instructions, tool_choice
from crew_guard.models.llama import WINDOW, Llama, llama, weights

SEED = 1
_REPEAT_PENALTY = 1.15
"""Without one, greedy decoding of a model this small says one word until it is cut."""
# a model this small goes on as it began unless the last words say otherwise
_NUDGE = 'Now write {"answer": "..."}, or use a tool for what is missing.'
_PRIMING = "<|im_start|>assistant\n"


class EmbeddedModel:
    """SmolLM2-135M-Instruct on llama.cpp. Deterministic for the same calls in the same order."""

    name = "embedded:smollm2"
    window: int | None = WINDOW
    rates: Rates | None = FREE
    streams = True

    def __init__(self) -> None:
        """Check that it is installed; it loads at its first use.

        Raises:
            MissingDependencyError: a package is missing; names what to install
        """
        weights()
        self._known: dict[tuple[int, int], tuple[object, object, int]] = {}

    def bound(self, message: Message) -> int:
        """A message's tokens in the model's template, exact."""
        return llama().count("".join(map(_framed, _plain(message))))

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of what instructions and priming add, in tokens. Counted once for each tuple of tools."""
        key = (id(tools), id(output_schema))
        known = self._known.get(key)
        if known is not None and known[0] is tools and known[1] is output_schema:
            return known[2]
        model = llama()
        if tools or output_schema is not None:
            first = _framed({"role": "system", "content": instructions(tools, output_schema)})
        else:
            # the template puts a system message of its own before a conversation without one
            first = model.render([{"role": "user", "content": ""}])
        total = model.count(first + _PRIMING)
        if isinstance(tools, tuple):
            if len(self._known) >= _KNOWN:
                self._known = {}
            # the objects are kept with their count, so that their ids can't be used again
            self._known[key] = (tools, output_schema, total)
        return total

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        """Answer in at most max_tokens. Cancelling it ends the generation at its next token.

        Args:
            on_text: called on this event loop; where tools are offered with empty text until the answer is known
        Raises:
            ModelError: rejected, where the prompt is longer than the window; broken, where llama.cpp fails
        """
        model = await asyncio.to_thread(llama)
        generation = _Generation(asyncio.get_running_loop(), on_text, silent=bool(request.tools))
        try:
            await generation.run(model, _body(request, max_tokens))
        finally:
            generation.stop.set()
        return generation.reply(request)


_KNOWN = 64


class _Generation:
    """One answer as it arrives, on the worker's thread; told on the caller's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_text: Callable[[str], None], *, silent: bool) -> None:
        self.stop = threading.Event()
        self._loop = loop
        self._on_text = on_text
        self._silent = silent
        self._pieces: list[str] = []
        self._finish = ""
        self._usage: Any = None
        self._problem: BaseException | None = None

    async def run(self, model: Llama, body: dict[str, Any]) -> None:
        try:
            await asyncio.wrap_future(model.generate(body, self._take))
        except Exception as error:
            raise ModelError(f"llama.cpp failed: {error}", kind="broken", text="".join(self._pieces)) from error
        if self._problem is not None:
            raise self._problem

    def _take(self, chunk: dict[str, Any]) -> bool:
        """Take in one chunk; True ends the generation."""
        if self.stop.is_set():
            return True
        if "error" in chunk:
            self._problem = _failure(chunk["error"])
            return True
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices", ()):
            self._finish = choice.get("finish_reason") or self._finish
            piece = choice["delta"].get("content")
            if piece:
                self._pieces.append(piece)
                self._loop.call_soon_threadsafe(self._tell, "" if self._silent else piece)
        return False

    def _tell(self, piece: str) -> None:
        try:
            self._on_text(piece)
        except Exception as error:  # noqa: BLE001 - raised again by run, in the caller's own frame
            self._problem = self._problem or error
            self.stop.set()

    def reply(self, request: ModelRequest) -> ModelReply:
        raw = "".join(self._pieces)
        if not self._finish:
            raise ModelError("llama.cpp ended before the answer did", kind="broken", text=raw)
        usage, _ = parse_usage(self._usage)
        text, calls = raw, ()
        if request.tools:
            text, calls = _choice(raw, f"call_{len(request.messages)}")
            self._on_text(text)
        finish = "tool_calls" if calls else self._finish
        return ModelReply(text=text, tool_requests=calls, usage=usage, finish=finish, model="smollm2-135m-instruct")


def _failure(error: Any) -> ModelError:
    said: Any = cast("dict[str, Any]", error).get("message", error) if isinstance(error, dict) else error
    return ModelError(f"llama.cpp refused the request: {said}", kind="rejected")


def _choice(raw: str, call_id: str) -> tuple[str, tuple[ToolRequest, ...]]:
    """(the answer's text, the tool calls) in what the model wrote, which is cut off where it was too long."""
    try:
        value = json.loads(raw)
    except ValueError:
        return _partial(raw), ()
    if "tool" in value:
        return "", (ToolRequest(call_id, value["tool"], json.dumps(value["arguments"], ensure_ascii=False)),)
    answer = value["answer"]
    return (answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)), ()


def _partial(raw: str) -> str:
    try:
        value: Any = from_json(raw, allow_partial="trailing-strings")
    except ValueError:
        return raw
    answer: Any = cast("dict[str, Any]", value).get("answer") if isinstance(value, dict) else None
    return answer if isinstance(answer, str) else raw


def _body(request: ModelRequest, max_tokens: int) -> dict[str, Any]:
    tools, schema = request.tools, request.output_schema
    messages = [part for message in request.messages for part in _plain(message)]
    body: dict[str, Any] = {
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "repeat_penalty": _REPEAT_PENALTY,
        "seed": SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if tools or schema is not None:
        messages.insert(0, {"role": "system", "content": _sound(instructions(tools, schema))})
        # A model this small asks the same thing for ever: once it did so twice, all it may do is answer.
        offered = () if _repeats(request.messages) else tools
        form = tool_choice(offered, schema) if tools else bounded(schema or {})
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}
    return body


def _repeats(messages: Sequence[Message]) -> bool:
    calls = [(call.name, call.arguments) for message in messages for call in message.tool_requests]
    return len(set(calls)) < len(calls)


def _plain(message: Message) -> list[dict[str, str]]:
    """A message in the three roles that the model's template knows."""
    if message.speaker == "tool":
        return [{"role": "user", "content": f"Result:\n{_sound(message.text)}\n\n{_NUDGE}"}]
    if not message.tool_requests:
        return [{"role": message.speaker, "content": _sound(message.text)}]
    lines = [message.text] if message.text else []
    lines += [f'{{"tool": {json.dumps(call.name)}, "arguments": {call.arguments}}}' for call in message.tool_requests]
    return [{"role": "assistant", "content": _sound("\n".join(lines))}]


def _framed(message: dict[str, str]) -> str:
    return f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"


def _sound(text: str) -> str:
    """The text without lone surrogates, which are no UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
