"""A server on loopback that speaks Bedrock's Converse and never finishes."""

import json

from tests.adapters.aws_events import aws_event
from tests.adapters.loopback import HungryServer, send, send_bytes

_ERRORS = {429: "ThrottlingException", 400: "ValidationException", 503: "ServiceUnavailableException"}


class BedrockServer(HungryServer):
    """The same in the form of converse and converse-stream.

    Args:
        read: tokens that each prompt has read from a cache, besides those it is billed
        written: and those that it wrote there
    """

    def __init__(self, *args, read=0, written=0, **options):
        super().__init__(*args, **options)
        self.read, self.written = read, written
        self.breaks = False
        """Close the connection without a word."""
        self.answers = []
        """What is answered first; then the answer."""

    def reply(self, handler, body):
        if handler.path.endswith("/count-tokens"):  # costs nothing, and is no completion
            send(handler, 200, {"inputTokens": self.served.prompt})
            return
        self.bodies.append(body)
        if self.breaks:
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            self.refuse(handler, status)
            return
        number, completion = self.served.bill(body.get("inferenceConfig", {}).get("maxTokens"))
        with self.served.lock:
            self.served.tokens += self.read + self.written
        usage = {"inputTokens": self.served.prompt, "outputTokens": completion}
        usage["totalTokens"] = self.served.prompt + completion + self.read + self.written
        usage |= {"cacheReadInputTokens": self.read} if self.read else {}
        usage |= {"cacheWriteInputTokens": self.written} if self.written else {}
        answer = self.answers.pop(0) if self.answers else self.answer
        names = [tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", ())]
        if answer is None:
            asked = {"toolUseId": f"c{number}", "name": self.tool, "input": {"query": f"q{number}"}}
        elif "structured_output" in names:
            asked = {"toolUseId": f"c{number}", "name": "structured_output", "input": json.loads(answer)}
        else:
            asked = None
        block = {"text": answer} if asked is None else {"toolUse": asked}
        stop = "end_turn" if asked is None else "tool_use"
        if not handler.path.endswith("/converse-stream"):
            message = {"role": "assistant", "content": [block]}
            done = {"output": {"message": message}, "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 1}}
            send(handler, 200, done)
            return
        events = [("messageStart", {"role": "assistant"})]
        if asked is not None:
            start = {"toolUse": {"toolUseId": asked["toolUseId"], "name": asked["name"]}}
            events.append(("contentBlockStart", {"start": start, "contentBlockIndex": 0}))
        delta = {"text": answer} if asked is None else {"toolUse": {"input": json.dumps(asked["input"])}}
        events += [
            ("contentBlockDelta", {"delta": delta, "contentBlockIndex": 0}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": stop}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        ]
        data = b"".join(aws_event(name, payload) for name, payload in events)
        send_bytes(handler, 200, "application/vnd.amazon.eventstream", data)

    def refuse(self, handler, status):
        data = b'{"message": "no"}'
        handler.send_response(status)
        handler.send_header("x-amzn-errortype", _ERRORS.get(status, "InternalServerException"))
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
