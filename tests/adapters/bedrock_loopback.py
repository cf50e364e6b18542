"""A server on loopback that speaks Bedrock's Converse and never finishes: it counts what it served."""

import json

from tests.adapters.aws_events import aws_event
from tests.adapters.loopback import HungryServer, send, send_bytes


class BedrockServer(HungryServer):
    """Answers with another tool call, or with a text; the last event of a stream has the usage."""

    def __init__(self, status=200, tool="look", answer=None, bills=None):
        super().__init__(status, tool, answer)
        self.bills = bills or {}
        self.streamed = 0

    @property
    def base(self):
        return self.url.removesuffix("/v1")

    @property
    def asked(self):
        return [(body.get("inferenceConfig") or {}).get("maxTokens") for body in self.bodies]

    def reply(self, handler, body):
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            send(handler, status, {"message": "no"})
            return
        number, completion = self.served.bill(self.asked[-1])
        prompt = self.served.prompt - sum(self.bills.get(f"cache{way}InputTokens", 0) for way in ("Read", "Write"))
        total = self.served.prompt + completion
        usage = {"inputTokens": prompt, "outputTokens": completion, "totalTokens": total, **self.bills}
        given = {"query": f"q{number}"}
        use = {"toolUseId": f"c{number}", "name": self.tool}
        stop = "tool_use" if self.answer is None else "end_turn"
        if not handler.path.endswith("converse-stream"):
            block = {"toolUse": {**use, "input": given}} if self.answer is None else {"text": self.answer}
            message = {"role": "assistant", "content": [block]}
            told = {"usage": usage, "metrics": {"latencyMs": 1}}
            send(handler, 200, {"output": {"message": message}, "stopReason": stop, **told})
            return
        self.streamed += 1
        start = [("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": use}})]
        delta = {"toolUse": {"input": json.dumps(given)}} if self.answer is None else {"text": self.answer}
        events = [
            ("messageStart", {"role": "assistant"}),
            *(start if self.answer is None else []),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": stop}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        ]
        data = b"".join(aws_event(name, value) for name, value in events)
        send_bytes(handler, 200, "application/vnd.amazon.eventstream", data)
