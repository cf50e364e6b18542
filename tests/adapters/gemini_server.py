"""A server on loopback that speaks Gemini's API and never finishes."""

import json

from tests.adapters.loopback import HungryServer, send, send_bytes


class GeminiServer(HungryServer):
    """The same in the form of generateContent and streamGenerateContent.

    Args:
        thought: tokens of each answer that are thought, within its length
        cached: tokens of each prompt that are read from a cache
    """

    def __init__(self, *args, thought=0, cached=0, **options):
        super().__init__(*args, **options)
        self.thought, self.cached = thought, cached
        self.paths = []
        self.breaks = False
        """Close the connection without a word."""
        self.unfinished = False
        """End streams before they say why."""

    def reply(self, handler, body):
        if ":countTokens" in handler.path:  # costs nothing, and is no completion
            send(handler, 200, {"totalTokens": self.served.prompt})
            return
        self.bodies.append(body)
        self.paths.append(handler.path)
        if self.breaks:
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            names = {429: "RESOURCE_EXHAUSTED", 400: "INVALID_ARGUMENT"}
            said = {"code": status, "message": "no", "status": names.get(status, "INTERNAL")}
            send(handler, status, {"error": said})
            return
        number, completion = self.served.bill(body.get("generationConfig", {}).get("maxOutputTokens"))
        thought = min(self.thought, completion)
        usage = {
            "promptTokenCount": self.served.prompt,
            "candidatesTokenCount": completion - thought,
            "totalTokenCount": self.served.prompt + completion,
            **({"thoughtsTokenCount": thought} if thought else {}),
            **({"cachedContentTokenCount": self.cached} if self.cached else {}),
        }
        call = {"name": self.tool, "args": {"query": f"q{number}"}}
        part = {"text": self.answer} if self.answer is not None else {"functionCall": call, "thoughtSignature": "c2ln"}
        names = [tool["functionDeclarations"][0]["name"] for tool in body.get("tools", ())]
        if self.answer is not None and "structured_output" in names:
            part = {"functionCall": {"name": "structured_output", "args": json.loads(self.answer)}}
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
        done = {
            "candidates": [{**candidate, "finishReason": "STOP"}],
            "usageMetadata": usage,
            "responseId": f"r{number}",
        }
        if ":streamGenerateContent" not in handler.path:
            send(handler, 200, done)
            return
        last = {**done, "candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}]}
        sofar = {**usage, "candidatesTokenCount": 1, "totalTokenCount": self.served.prompt + thought + 1}
        pieces = [{"candidates": [candidate], "usageMetadata": sofar}, *([] if self.unfinished else [last])]
        data = b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in pieces)
        send_bytes(handler, 200, "text/event-stream", data)
