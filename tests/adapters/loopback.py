"""An OpenAI-compatible server on loopback that never finishes: it counts what it served."""

import base64
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """What a model or a server has served, counted where it is served."""

    def __init__(self, prompt=1000, completion=1000):
        self.prompt, self.completion = prompt, completion
        self.calls = 0
        self.tokens = 0
        self.asked = []
        self.lock = threading.Lock()

    def bill(self, max_tokens):
        """One call: a completion as long as it may be, up to its usual length."""
        with self.lock:
            self.calls += 1
            self.asked.append(max_tokens)
            completion = min(self.completion, self.completion if max_tokens is None else max_tokens)
            self.tokens += self.prompt + completion
            return self.calls, completion


class HungryServer:
    """Answers every chat completion with another tool call, or with a status."""

    def __init__(self, status=200, tool="look", answer=None):
        self.served = Served()
        self.status, self.tool, self.answer = status, tool, answer
        self.statuses = []
        self.bodies = []
        self.embedded = []
        """Requests for embeddings, each as its texts."""
        self.embedded_tokens = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.reply(self, body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    @property
    def requests(self):
        return len(self.bodies)

    def reply(self, handler, body):
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status != 200:
            send(handler, status, {"error": {"message": "no", "type": "x", "code": "x"}})
            return
        if "/embeddings" in handler.path:
            self.embed(handler, body)
            return
        length = body.get("max_completion_tokens", body.get("max_tokens"))
        number, completion = self.served.bill(length)
        usage = {
            "prompt_tokens": self.served.prompt,
            "completion_tokens": completion,
            "total_tokens": self.served.prompt + completion,
        }
        call = {"name": self.tool, "arguments": json.dumps({"query": f"q{number}"})}
        message = {"role": "assistant", "content": self.answer}
        if self.answer is None:
            message["tool_calls"] = [{"index": 0, "id": f"c{number}", "type": "function", "function": call}]
        finish = "tool_calls" if self.answer is None else "stop"
        head = {"id": f"r{number}", "created": 1, "model": body["model"]}
        if body.get("stream"):
            stream(handler, head, message, finish, usage if body.get("stream_options") else None)
            return
        choice = {"index": 0, "message": message, "finish_reason": finish}
        send(handler, 200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def embed(self, handler, body):
        """Vectors of three numbers, billed a token a word, or those that it is given."""
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        tokens = sum(len(text.split() if isinstance(text, str) else text) for text in texts)
        with self.served.lock:
            self.embedded.append(texts)
            self.embedded_tokens += tokens
        vector = struct.pack("3f", 0.1, 0.2, 0.3)
        floats = [0.1, 0.2, 0.3]
        plain = body.get("encoding_format") != "base64"
        data = [
            {"object": "embedding", "index": i, "embedding": floats if plain else base64.b64encode(vector).decode()}
            for i in range(len(texts))
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        send(handler, 200, {"object": "list", "model": body.get("model", "m"), "data": data, "usage": usage})


def send(handler, status, value):
    send_bytes(handler, status, "application/json", json.dumps(value).encode())


def send_bytes(handler, status, kind, data):
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def stream(handler, head, message, finish, usage):
    head = {**head, "object": "chat.completion.chunk"}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
    ]
    if usage:
        chunks.append({**head, "choices": [], "usage": usage})
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    send_bytes(handler, 200, "text/event-stream", data)
