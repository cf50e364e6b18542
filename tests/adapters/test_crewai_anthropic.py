"""CrewAI's Anthropic provider under the gate, its real client against a server on loopback."""

import json

import crewai.llms.retry
import pytest
from crewai.llms.providers.anthropic.completion import AnthropicCompletion

from crew_guard.adapters import crewai as adapter
from tests.adapters.crewai_doubles import hungry_agent
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer, send, send_bytes


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """CrewAI sleeps seconds between the tries that it makes at a provider that throttles."""
    monkeypatch.setattr(crewai.llms.retry, "get_retry_delay_seconds", lambda **_: 0.0)


class MessagesServer(HungryServer):
    """The same in the form of Anthropic's messages."""

    def reply(self, handler, body):
        if handler.path.startswith("/v1/messages/count_tokens"):  # costs nothing, and is no completion
            send(handler, 200, {"input_tokens": 1000})
            return
        self.bodies.append(body)
        if self.status != 200:
            send(handler, self.status, {"type": "error", "error": {"type": "x", "message": "no"}})
            return
        number, completion = self.served.bill(body["max_tokens"])
        usage = {"input_tokens": self.served.prompt, "output_tokens": completion}
        block = {"type": "tool_use", "id": f"c{number}", "name": self.tool, "input": {"query": f"q{number}"}}
        if self.answer is not None:
            block = {"type": "text", "text": self.answer}
        stop = "end_turn" if self.answer is not None else "tool_use"
        head = {
            "id": f"m{number}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
        }
        if not body.get("stream"):
            send(handler, 200, {**head, "content": [block], "stop_reason": stop, "usage": usage})
            return
        delta = {"type": "text_delta", "text": self.answer}
        events = [
            {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": completion}},
            {"type": "message_stop"},
        ]
        data = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
        send_bytes(handler, 200, "text/event-stream", data)


def claude(server, **options):
    base = server.url.removesuffix("/v1")
    return AnthropicCompletion(**{"model": "claude-sonnet-4-5", "api_key": "none", "base_url": base, **options})


def test_what_the_server_billed_is_what_the_run_says():
    """Each request carries the grant as its max_tokens; the last one doesn't fit and isn't sent."""
    with MessagesServer() as server:
        llm = claude(server)
        result = Guard(adapter, hungry_agent(llm), policy(max_tokens=10_000)).run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert 10_000 - result.usage.tokens < result.stopped.asked
        assert all(body["max_tokens"] <= 4096 for body in server.bodies)
        assert llm.get_token_usage_summary().total_tokens == server.served.tokens


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_streamed_or_not_is_settled_as_reported(stream):
    """One step, and the tokens of the provider."""
    with MessagesServer(answer="done") as server:
        result = Guard(adapter, hungry_agent(claude(server, stream=stream), tools=[]), policy()).run()
        assert (result.output, result.usage.steps, result.unreported) == ("done", 1, 0)
        assert server.served.tokens == result.usage.tokens


@pytest.mark.parametrize("status", [429, 529])
def test_an_attempt_at_a_provider_that_fails_is_a_step(status):
    """The client's own retries are off: as many requests as steps."""
    with MessagesServer(status=status) as server:
        result = Guard(adapter, hungry_agent(claude(server)), policy(max_steps=2)).run()
        assert server.requests == result.usage.steps <= 2


def test_a_length_to_think_leaves_room_to_answer():
    """budget_tokens: the request's max_tokens stays above it, or the call is refused."""
    with MessagesServer(answer="done") as server:
        thinking = {"type": "enabled", "budget_tokens": 2000}
        Guard(adapter, hungry_agent(claude(server, thinking=thinking), tools=[]), policy()).run()
        assert server.bodies[0]["max_tokens"] == 2000 + 4096
        tight = Guard(adapter, hungry_agent(claude(server, thinking=thinking), tools=[]), policy(max_tokens=3000))
        assert tight.run().stopped.limit == "max_tokens"
        assert server.requests == 1
