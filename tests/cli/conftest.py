"""A chat-completions server on loopback, crews in a file, and journals that real runs wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CREWS = '''\
import os
import subprocess
import sys

from crew_guard import Agent, Crew, Role, Task, Verdict, chain, node, tool


@tool
def noisy(text: str) -> str:
    """Print in every way there is."""
    print("NOISE python")
    os.write(1, b"NOISE descriptor\\n")
    subprocess.run([sys.executable, "-c", "print('NOISE child')"], check=True)
    return "done"


writer = Agent(Role(name="writer", goal="Write"), tools=[noisy])
talk = Crew([writer], [Task("Say something about {topic}")], name="talk")
judged = Crew(
    [writer],
    [Task("Say something about {topic}", verify=lambda output, context: Verdict(passed=False, reason="no proof"))],
    name="judged",
)


flow = chain(node(lambda _: "x", name="x"), name="fixed")


def leaks():
    raise RuntimeError(f"401 for key {os.environ['SERVICE_API_KEY']}")


def paints():
    raise ValueError("no \\x1b[31mred, \\u202eor\\x9b2J\\nanother line")


def broken():
    raise RuntimeError("this crew can't be made")
'''


@dataclass
class Server:
    """What the model of a name answers, and what it was asked."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    """Set: a model named hang answers at last."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set once a model named hang was asked."""

    def chunks(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        wants = body["model"]
        worked = any(message["role"] == "tool" for message in body["messages"])
        if wants == "loops" or (wants == "works" and not worked):
            call = {
                "index": 0,
                "id": "c1",
                "type": "function",
                "function": {"name": "noisy", "arguments": '{"text": "x"}'},
            }
            delta: dict[str, Any] = {"role": "assistant", "tool_calls": [call]}
        else:
            delta = {"role": "assistant", "content": "h\u00e9llo \u2713 \x1b[31mred"}
        usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
        finish = "tool_calls" if "tool_calls" in delta else "stop"
        return [
            {"id": "1", "model": wants, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {"id": "1", "model": wants, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {"id": "1", "model": wants, "choices": [], "usage": usage},
        ]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.asked.append(body)
            if body["model"] == "refuses":
                self.send_error(401)
                return
            if body["model"] == "hang":
                state.reached.set()
                state.hold.wait(60)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for chunk in state.chunks(body):
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield state
    state.hold.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def crews(tmp_path: Path) -> Path:
    file = tmp_path / "crews.py"
    file.write_text(CREWS)
    return file


@dataclass
class Cli:
    """crew-guard as a process of its own, in a folder of its own."""

    folder: Path
    env: dict[str, str]

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "crew_guard.cli", *arguments]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.folder, "env": self.env}
        return subprocess.Popen(command, **{**options, **more})

    def __call__(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        process = self.start(*arguments, env={**self.env, **env})
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode(errors="replace")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    path, secret = str(Path(__file__).parents[2]), "sk-very-secret-value"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", "SERVICE_API_KEY": secret}
    return Cli(tmp_path, env)
