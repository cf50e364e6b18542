"""A server on loopback that speaks Anthropic's messages and never finishes: it counts what it served."""

import json

from tests.adapters.loopback import HungryServer, send, send_bytes


class ClaudeServer(HungryServer):
    """Answers with another tool call, or with a text; what `bills` says is billed beside the plain tokens."""

    def __init__(self, status=200, tool="look", answer=None, bills=None, filled=None, *, tells="twice"):
        super().__init__(status, tool, answer)
        self.tells = tells
        """Where a stream names the prompt's tokens: `twice`, at its `start`, at its `end`, or `never`."""
        self.bills = bills or {}
        self.filled = filled
        """What the tool is called with, if not a query."""

    @property
    def base(self):
        return self.url.removesuffix("/v1")

    @property
    def asked(self):
        return [body["max_tokens"] for body in self.bodies]

    def reply(self, handler, body):
        if handler.path.endswith("/count_tokens"):
            send(handler, 200, {"input_tokens": self.served.prompt})  # costs nothing
            return
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            send(handler, status, {"type": "error", "error": {"type": "x", "message": "no"}})
            return
        number, completion = self.served.bill(body["max_tokens"])
        usage = {"input_tokens": self.served.prompt, "output_tokens": completion, **self.bills}
        usage["input_tokens"] -= usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
        filled = self.filled or {"query": f"q{number}"}
        name = body["tools"][0]["name"] if self.tool is None else self.tool
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": filled}
        if self.answer is not None:
            block = {"type": "text", "text": self.answer}
        stop = "end_turn" if self.answer is not None else "tool_use"
        head = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
        }
        if body.get("stream"):
            _events(handler, head, block, stop, *_in_time(usage, self.tells))
        else:
            send(handler, 200, {**head, "content": [block], "stop_reason": stop, "usage": usage})


def _in_time(usage, tells):
    """What a stream says of its tokens when it begins and when it ends."""
    whole, begun, rest = usage, {**usage, "output_tokens": 1}, {"output_tokens": usage["output_tokens"]}
    nothing = {"input_tokens": 0, "output_tokens": 1}
    return {"twice": (begun, whole), "start": (begun, rest), "end": (nothing, whole), "never": (nothing, rest)}[tells]


def _events(handler, head, block, stop, begun, usage):
    if block["type"] == "text":
        start, deltas = (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": word} for word in _cut(block["text"])],
        )
    else:
        text = json.dumps(block["input"])
        start = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in _cut(text)]
    events = [
        {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": begun}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    data = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    send_bytes(handler, 200, "text/event-stream", data)


def _cut(text):
    half = len(text) // 2
    return text[:half], text[half:]
