"""Servers on loopback that speak as the providers do that litellm asks in another form than OpenAI's."""

import json

from tests.adapters.loopback import HungryServer, send


class GeminiServer(HungryServer):
    """In the form of Gemini's generateContent."""

    @property
    def url_of_api(self):
        return self.url.removesuffix("/v1")

    def reply(self, handler, body):
        self.bodies.append(body)
        if self.status != 200:
            send(handler, self.status, {"error": {"code": self.status, "message": "no", "status": "x"}})
            return
        number, completion = self.served.bill(body["generationConfig"]["max_output_tokens"])
        part = {"functionCall": {"name": self.tool, "args": {"query": f"q{number}"}}}
        if self.answer is not None:
            part = {"text": self.answer}
        usage = {
            "promptTokenCount": self.served.prompt,
            "candidatesTokenCount": completion,
            "totalTokenCount": self.served.prompt + completion,
        }
        content = {"parts": [part], "role": "model"}
        reply = {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}
        if "streamGenerateContent" in handler.path:
            write(handler, "text/event-stream", f"data: {json.dumps(reply)}\r\n\r\n".encode())
            return
        send(handler, 200, reply)


class GroqServer(HungryServer):
    """In OpenAI's form, with the tier that litellm looks for in Groq's answers."""

    def reply(self, handler, body):
        if body.get("stream") or self.status != 200:
            super().reply(handler, body)
            return
        self.bodies.append(body)
        number, completion = self.served.bill(body["max_tokens"])
        prompt = self.served.prompt
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        message = {"role": "assistant", "content": self.answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": f"r{number}", "object": "chat.completion", "created": 1, "model": body["model"]}
        send(handler, 200, {**head, "service_tier": "on_demand", "choices": [choice], "usage": usage})


class OllamaServer(HungryServer):
    """In the form of Ollama's chat."""

    def reply(self, handler, body):
        if "/show" in handler.path:  # litellm asks what the model can do: that is no completion
            send(handler, 200, {"model_info": {}, "capabilities": ["completion", "tools"]})
            return
        self.bodies.append(body)
        if self.status != 200:
            send(handler, self.status, {"error": "no"})
            return
        number, completion = self.served.bill(body["options"]["num_predict"])
        message = {"role": "assistant", "content": self.answer or ""}
        if self.answer is None:
            message["tool_calls"] = [{"function": {"name": self.tool, "arguments": {"query": f"q{number}"}}}]
        head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        end = {"done": True, "done_reason": "stop", "prompt_eval_count": self.served.prompt, "eval_count": completion}
        if not body.get("stream"):
            send(handler, 200, {**head, "message": message, **end})
            return
        lines = [{**head, "message": message, "done": False}, {**head, "message": {"role": "assistant", "content": ""}}]
        lines[1] |= end
        write(handler, "application/x-ndjson", b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def write(handler, kind, data):
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
