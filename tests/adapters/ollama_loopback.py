"""A server on loopback that speaks Ollama's own API and never finishes: it counts what it served."""

import json

from tests.adapters.loopback import HungryServer, send, send_bytes


class OllamaServer(HungryServer):
    """Answers every chat with another tool call, or with a text; the last line of a stream has the usage."""

    @property
    def base(self):
        return self.url.removesuffix("/v1")

    @property
    def asked(self):
        return [(body.get("options") or {}).get("num_predict") for body in self.bodies]

    def reply(self, handler, body):
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            send(handler, status, {"error": "no"})
            return
        length = self.asked[-1]
        number, completion = self.served.bill(length if length and length > 0 else None)
        head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": self.answer or ""}
        if self.answer is None:
            call = {"name": self.tool, "arguments": {"query": f"q{number}"}}
            message["tool_calls"] = [{"function": call}]
        told = {"prompt_eval_count": self.served.prompt, "eval_count": completion}
        last = {**head, "done": True, "done_reason": "stop", **told}
        if not body.get("stream"):
            send(handler, 200, {**last, "message": message})
            return
        lines = [
            {**head, "done": False, "message": message},
            {**last, "message": {"role": "assistant", "content": ""}},
        ]
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        send_bytes(handler, 200, "application/x-ndjson", data)
