"""A server on loopback that speaks Gemini's generateContent and never finishes: it counts what it served."""

import json

from tests.adapters.loopback import HungryServer, send, send_bytes


class GeminiServer(HungryServer):
    """Answers with another function call, or with a text; each piece of a stream has the usage so far."""

    def __init__(self, status=200, tool="look", answer=None, thought=0, cached=0):
        super().__init__(status, tool, answer)
        self.thought, self.cached = thought, cached

    @property
    def base(self):
        return self.url.removesuffix("/v1")

    @property
    def asked(self):
        return [(body.get("generationConfig") or {}).get("maxOutputTokens") for body in self.bodies]

    def reply(self, handler, body):
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            send(handler, status, {"error": {"code": status, "message": "no", "status": "X"}})
            return
        number, completion = self.served.bill(self.asked[-1])
        call = {"functionCall": {"name": self.tool, "args": {"query": f"q{number}"}}}
        part = call if self.answer is None else {"text": self.answer}
        usage = {
            "promptTokenCount": self.served.prompt,
            "candidatesTokenCount": completion - self.thought,
            "thoughtsTokenCount": self.thought,
            "cachedContentTokenCount": self.cached,
            "totalTokenCount": self.served.prompt + completion,
        }
        whole = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        head = {"modelVersion": "gemini", "responseId": f"r{number}"}
        if "stream" not in handler.path:
            send(handler, 200, {**head, "candidates": [whole], "usageMetadata": usage})
            return
        begun = {**usage, "candidatesTokenCount": 1, "totalTokenCount": self.served.prompt + self.thought + 1}
        first = {"content": {"role": "model", "parts": [{"text": ""}]}, "index": 0}
        chunks = [
            {**head, "candidates": [first], "usageMetadata": begun},
            {**head, "candidates": [whole], "usageMetadata": usage},
        ]
        data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)
        send_bytes(handler, 200, "text/event-stream", data)
