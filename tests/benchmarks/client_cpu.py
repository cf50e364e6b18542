"""What one model call costs its client: python -m tests.benchmarks.client_cpu [--calls N] [--messages N]

Each client asks a tiny server in another process with the same history and reads a stream of 20 pieces to its
end; what is counted is the CPU time of this process alone. Bare httpx2 sends a body that was written before and
reads bytes: the floor. The exit code is 1 where a client of ours takes more than 2 ms in its best call, the one
that the machine's other work disturbed least.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

from crew_guard.core.messages import Message, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.usage import FREE
from crew_guard.models.registry import model_for
from crew_guard.models.wire import RequestWriter, message_json

MOST = 0.002
PIECES = 20
SEARCH = ToolSpec(
    "search",
    "Find passages in the corpus.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)


def _sse(*events: Any) -> bytes:
    shown = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return b"".join(f"data: {event}\n\n".encode() for event in shown)


def _typed(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def _chat() -> bytes:
    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return {**head, "choices": [choice], **more}

    usage = {"prompt_tokens": 5_000, "completion_tokens": PIECES, "total_tokens": 5_000 + PIECES}
    pieces = (chunk({"role": "assistant", "content": "word "}) for _ in range(PIECES))
    return _sse(*pieces, chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage}, "[DONE]")


def _messages() -> bytes:
    message = {
        "id": "m1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 5_000, "output_tokens": 1},
    }  # fmt: skip
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
    return _typed(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[delta] * PIECES,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": PIECES},
        },
        {"type": "message_stop"},
    )


def _gemini() -> bytes:
    def chunk(text: str, **more: Any) -> dict[str, Any]:
        content = {"parts": [{"text": text}], "role": "model"}
        return {"candidates": [{"content": content, "index": 0, **more}], "modelVersion": "m"}

    usage = {"promptTokenCount": 5_000, "candidatesTokenCount": PIECES, "totalTokenCount": 5_000 + PIECES}
    pieces = (chunk("word ") for _ in range(PIECES - 1))
    return _sse(*pieces, {**chunk("word ", finishReason="STOP"), "usageMetadata": usage})


def serve(ready: Connection) -> None:
    """The server: reads a request whole, answers it in its path's dialect, keeps the connection."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    answers = {
        path: head % len(body) + body
        for path, body in ((b"chat/completions", _chat()), (b"/messages", _messages()), (b"generate", _gemini()))
    }

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = int(request.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                line = request.partition(b"\r\n")[0].lower()
                writer.write(next(answer for path, answer in answers.items() if path in line))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def history(messages: int) -> tuple[Message, ...]:
    """A conversation of this many messages, a third of them calls of a tool and their results."""
    made = [Message("system", "You find out what is asked. " * 10)]
    while len(made) < messages:
        number = len(made)
        call = ToolRequest(f"call_{number}", "search", json.dumps({"query": f"how does part {number} work"}))
        made.append(Message("user", f"What of part {number}? " + "word " * 60))
        made.append(Message("assistant", "", (call,)))
        made.append(Message("tool", "a passage of the corpus " * 20, (), call.id))
    return tuple(made[:messages])


Ask = Callable[[], Awaitable[object]]


def _ours(name: str, url: str, request: ModelRequest) -> Ask:
    model = model_for(name, base_url=url, api_key="k", rates=FREE)

    async def ask() -> object:
        reply = await model.complete(request, 100, lambda _: None)
        assert reply.text == "word " * PIECES, reply
        return reply

    return ask


def _bare(url: str, request: ModelRequest) -> Ask:
    import httpx2

    client = httpx2.AsyncClient()
    body = RequestWriter("m", "max_tokens", stream=True).write(request, 100)

    async def ask() -> object:
        async with client.stream("POST", f"{url}/chat/completions", content=body) as response:
            return [piece async for piece in response.aiter_bytes()]

    return ask


def _openai(url: str, request: ModelRequest) -> Ask:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0)

    async def ask() -> object:
        given: Any = [message_json(message) for message in request.messages]
        options: Any = {"stream_options": {"include_usage": True}, "tools": _tools()}
        stream = await client.chat.completions.create(model="m", messages=given, max_tokens=100, stream=True, **options)
        return [chunk async for chunk in stream]

    return ask


def _tools() -> list[dict[str, Any]]:
    function = {"name": SEARCH.name, "description": SEARCH.description, "parameters": SEARCH.parameters}
    return [{"type": "function", "function": function}]


def _any_llm(provider: str, url: str, request: ModelRequest) -> Ask:
    from crew_guard.models.any_llm import AnyLLMModel

    model = AnyLLMModel(provider, "m", base_url=url, api_key="k", rates=FREE)

    async def ask() -> object:
        return await model.complete(request, 100, lambda _: None)

    return ask


def clients(root: str, request: ModelRequest) -> dict[str, Ask]:
    """Every client that can be measured here, by the name of its row."""
    found = {
        "bare httpx2 (floor)": _bare(f"{root}/v1", request),
        "crew_guard, chat completions": _ours("openai-compatible:m", f"{root}/v1", request),
        "crew_guard, anthropic": _ours("anthropic:m", root, request),
        "crew_guard, gemini": _ours("gemini:m", root, request),
    }
    if importlib.util.find_spec("openai"):
        found["openai SDK"] = _openai(f"{root}/v1", request)
    if importlib.util.find_spec("any_llm"):
        found["crew_guard over any-llm, openai"] = _any_llm("openai", f"{root}/v1", request)
        found["crew_guard over any-llm, anthropic"] = _any_llm("anthropic", root, request)
    return found


async def measure(asks: dict[str, Ask], calls: int) -> dict[str, tuple[float, float]]:
    """(median, best) CPU seconds of one call, all clients in turn, so that the machine's moods are shared."""
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for ask in asks.values():
        for _ in range(3):
            await ask()
    gc.collect()
    for _ in range(calls):
        for name, ask in asks.items():
            began = time.process_time()
            await ask()
            taken[name].append(time.process_time() - began)
    return {name: (statistics.median(each), min(each)) for name, each in taken.items()}


def main() -> int:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--messages", type=int, default=50)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        root = f"http://127.0.0.1:{ours.recv()}"
        request = ModelRequest(history(given.messages), (SEARCH,))
        taken = asyncio.run(measure(clients(root, request), given.calls))
    finally:
        server.terminate()
        server.join()
    floor = taken["bare httpx2 (floor)"]
    print(f"{given.messages} messages of history, {PIECES} pieces of answer, {given.calls} calls; ms of CPU a call")
    print(f"{'client':38}{'median':>9}{'x floor':>9}{'best':>9}{'x floor':>9}")
    for name, times in sorted(taken.items(), key=lambda one: one[1]):
        columns = (f"{ms * 1000:9.2f}{ms / least:9.1f}" for ms, least in zip(times, floor, strict=True))
        print(f"{name:38}{''.join(columns)}")
    own = [best for name, (_, best) in taken.items() if name.startswith("crew_guard, ")]
    return 1 if max(own) > MOST else 0


if __name__ == "__main__":
    raise SystemExit(main())
