"""Providers on loopback that speak their own words: Anthropic's Messages, and Ollama's chat."""

import json

from tests.adapters.loopback import HungryServer, send


class WordyServer(HungryServer):
    """A HungryServer that isn't OpenAI's: it knows its requests for tokens from those that make none."""

    free = ()
    """What the paths end with that make no tokens."""

    def __init__(self, *args, cached=0, written=0, **options):
        super().__init__(*args, **options)
        self.cached, self.written = cached, written
        """Of the prompt: what was read from the provider's cache, and written to it."""
        self.url = self.url.removesuffix("/v1")
        self.paths = []
        self.asides = []
        """Requests that make no tokens."""

    def reply(self, handler, body):
        """Answer in the provider's words."""
        if handler.path.endswith(self.free):
            self.asides.append(handler.path)
            send(handler, 200, self.aside())
            return
        self.paths.append(handler.path)
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            send(handler, status, {"type": "error", "error": {"type": "x", "message": "no"}})
            return
        number, completion = self.served.bill(self.length(body))
        self.answered(handler, body, number, completion)


class ClaudeServer(WordyServer):
    """Speaks Anthropic's Messages."""

    free = ("count_tokens",)
    breaks = False
    """Whether a stream breaks off before it says what it cost."""
    says = None
    """The kind of error that it says then."""
    hour = 0
    """Of what was written to the cache: kept for an hour."""

    def aside(self):
        return {"input_tokens": 1000}

    def length(self, body):
        return body["max_tokens"]

    def answered(self, handler, body, number, completion):
        counts = {
            "input_tokens": self.served.prompt - self.cached - self.written,
            "cache_read_input_tokens": self.cached,
            "cache_creation_input_tokens": self.written,
            "cache_creation": {
                "ephemeral_1h_input_tokens": self.hour,
                "ephemeral_5m_input_tokens": self.written - self.hour,
            },
        }
        block = {"type": "tool_use", "id": f"c{number}", "name": self.tool, "input": {"query": f"q{number}"}}
        wanted = (body.get("tool_choice") or {}).get("type") == "any"
        if wanted:
            block |= {"name": body["tools"][0]["name"], "input": {"text": "x"}}
        elif self.answer is not None:
            block = {"type": "text", "text": self.answer}
        stop = "end_turn" if block["type"] == "text" else "tool_use"
        head = {"id": f"m{number}", "type": "message", "role": "assistant", "model": body["model"]}
        head["stop_sequence"] = None
        if not body.get("stream"):
            usage = {**counts, "output_tokens": completion}
            send(handler, 200, {**head, "content": [block], "stop_reason": stop, "usage": usage})
            return
        begun = {**head, "content": [], "stop_reason": None, "usage": {**counts, "output_tokens": 1}}
        events = [{"type": "message_start", "message": begun}, *_told(block)]
        if not self.breaks:
            # The older form, without the counts of the prompt: they are said once, as it begins.
            ended = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": completion}}
            events += [ended, {"type": "message_stop"}]
        elif self.says is not None:
            events.append({"type": "error", "error": {"type": self.says, "message": "no"}})
        _lines(handler, "text/event-stream", [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events])


def _told(block):
    if block["type"] == "text":
        begun = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        begun = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    return [
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
    ]


class OllamaServer(WordyServer):
    """Speaks Ollama's chat, a line of JSON for each piece."""

    free = ("/api/show",)
    counts_prompt = True
    breaks = False
    """Whether a stream says an error before its end."""

    def aside(self):
        return {"model_info": {"toy.context_length": 32768}, "capabilities": ["tools"]}

    def length(self, body):
        wish = (body.get("options") or {}).get("num_predict", -1)
        return None if wish < 0 else wish

    def answered(self, handler, body, number, completion):
        call = {"function": {"name": self.tool, "arguments": {"query": f"q{number}"}}}
        message = {"role": "assistant", "content": self.answer or ""}
        if self.answer is None:
            message["tool_calls"] = [call]
        head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        ended = {"done": True, "done_reason": "stop", "eval_count": completion}
        if self.counts_prompt:
            ended["prompt_eval_count"] = self.served.prompt
        if not body.get("stream"):
            send(handler, 200, {**head, "message": message, **ended})
            return
        pieces = [
            {**head, "message": message, "done": False},
            {**head, "message": {"role": "assistant", "content": ""}, **ended},
        ]
        if self.breaks:
            pieces[1] = {"error": "the runner has stopped"}
        _lines(handler, "application/x-ndjson", [json.dumps(piece) + "\n" for piece in pieces])


def _lines(handler, kind, lines):
    data = "".join(lines).encode()
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
