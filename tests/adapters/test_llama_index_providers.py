"""LlamaIndex's real clients of Anthropic, Gemini and Ollama under the gate, against servers that speak their words."""

import asyncio
import threading

import pytest
from google.genai import types
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import CachePoint, ChatMessage, CompletionResponse, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.google_genai import GoogleGenAI
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import ConstantDelayRetryPolicy

from crew_guard.adapters import llama_index
from crew_guard.adapters.hosted import Attempt
from crew_guard.adapters.llama_index.patches import _LLM_METHODS
from crew_guard.core.usage import MILLION, PartRates, Rate, Rates
from crew_guard.errors import ConfigError
from tests.adapters.gemini_server import GeminiServer
from tests.adapters.guarding import ByteFacts, Guard, policy
from tests.adapters.llama_index_doubles import SYSTEM, AskingWorkflow, hungry_agent, side_by_side
from tests.adapters.llama_index_servers import ClaudeServer, OllamaServer

METHODS = sorted(_LLM_METHODS)


def claude(server, kind=Anthropic, **options):
    """The real client of Anthropic's SDK, with the retries that it has by default."""
    return kind(
        **{"model": "claude-sonnet-4-5", "api_key": "none", "base_url": server.url, "max_tokens": 4096} | options
    )


def ollama(server, kind=Ollama, **options):
    """The real client of Ollama."""
    return kind(**{"model": "toy", "base_url": server.url, "context_window": 32768} | options)


def gemini(server, kind=GoogleGenAI, **options):
    """The real client of google-genai, with the retries that it has by default; its windows are told, not asked for."""
    base = types.HttpOptions(base_url=server.url.removesuffix("/v1"))
    given = {"model": "gemini-2.5-flash", "api_key": "none", "http_options": base, "context_window": 100_000}
    return kind(**given | {"max_tokens": 4096} | options)


@pytest.fixture
def outcomes(monkeypatch):
    """What every attempt is settled with."""
    settled, settle = [], Attempt.settle

    def noted(attempt, outcome):
        if not attempt.settled:
            settled.append(outcome)
        settle(attempt, outcome)

    monkeypatch.setattr(Attempt, "settle", noted)
    return settled


class Of:
    """One provider: its server, its class, and where its requests say how long an answer may be."""

    def __init__(self, server, kind, llm, name, length, wish):
        self.server, self.kind, self.llm, self.name = server, kind, llm, name
        self.length = length
        self.wish = wish
        """Options that ask for so long an answer."""


CLAUDE = Of(ClaudeServer, Anthropic, claude, "anthropic:claude-sonnet-4-5", lambda body: body["max_tokens"],
            lambda length: {"max_tokens": length})  # fmt: skip
GEMINI = Of(GeminiServer, GoogleGenAI, gemini, "gemini:gemini-2.5-flash",
            lambda body: body["generationConfig"]["maxOutputTokens"],
            lambda length: {"max_tokens": length})  # fmt: skip
OLLAMA = Of(OllamaServer, Ollama, ollama, "ollama:toy", lambda body: body["options"]["num_predict"],
            lambda length: {"additional_kwargs": {"num_predict": length}})  # fmt: skip
providers = pytest.mark.parametrize("of", [CLAUDE, GEMINI, OLLAMA], ids=["claude", "gemini", "ollama"])
methods = pytest.mark.parametrize("method", METHODS)


@providers
@methods
def test_each_way_to_ask_is_clamped_and_charged_what_was_served(of, method):
    """No request asks for more than what is left, and the last one that doesn't fit isn't sent."""
    with of.server(answer="more") as server:
        guard = Guard(llama_index, AskingWorkflow(of.llm(server), method), policy(max_tokens=10_000))
        result = guard.run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert server.requests == result.usage.steps > 3
        assert (result.status, result.stopped.limit) == ("stopped", "max_tokens")
        assert (result.unreported, result.overshoot.tokens) == (0, 0)
        assert [of.length(body) for body in server.bodies] == server.served.asked
        left = 10_000
        for asked in server.served.asked:
            assert asked <= left - 1000
            left -= 1000 + min(asked, 1000)
        assert set(guard.names) == {of.name}
        assert list(result.agents) == ["ask"]


@providers
@methods
def test_max_steps_is_exactly_as_many_requests(of, method):
    """In each of the eight ways, and nothing for asking what the model can."""
    with of.server(answer="more") as server:
        result = Guard(llama_index, AskingWorkflow(of.llm(server), method), policy(max_steps=3)).run()
        assert (server.requests, result.usage.steps, result.stopped.limit) == (3, 3, "max_steps")
        assert result.usage.tokens == server.served.tokens == 6000


@providers
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cap", [12_000, 9_001])
def test_agents_with_tools_are_bounded(of, streaming, cap):
    """What the server billed is what the run says; the agent's tools run, and the conversation goes on."""
    with of.server() as server:
        agent, executions = hungry_agent(of.llm(server), streaming=streaming)
        result = Guard(llama_index, agent, policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert server.requests == result.usage.steps > 2
        assert executions[:2] == ["q1", "q2"]
        assert len(executions) == result.usage.tool_calls
        assert (result.stopped.limit, result.unreported, result.overshoot.tokens) == ("max_tokens", 0, 0)
        assert list(result.agents) == ["seeker"]
        first, second = ((body.get("messages") or body["contents"]) for body in server.bodies[:2])
        assert len(second) > len(first)


@providers
def test_max_tool_calls_is_exactly_as_many_executions(of):
    """Of what the provider's own form of a request asks for."""
    with of.server() as server:
        agent, executions = hungry_agent(of.llm(server))
        result = Guard(llama_index, agent, policy(max_tool_calls=2, max_steps=20)).run()
        assert (len(executions), result.usage.tool_calls, result.stopped.limit) == (2, 2, "max_tool_calls")


@providers
def test_a_dollar_cap_holds_here_too(of):
    """$2 and $8 a million: the dollars are those of what was served."""
    with of.server() as server:
        agent, _ = hungry_agent(of.llm(server))
        result = Guard(llama_index, agent, policy(max_usd="0.025")).run()
        prompt = server.requests * 1000
        cost = (prompt * 2 + (server.served.tokens - prompt) * 8) / 1_000_000
        assert float(result.usage.usd) == pytest.approx(cost)
        assert cost <= 0.025
        assert result.stopped.limit == "max_usd"


@providers
@methods
def test_a_length_of_the_users_own_stands(of, method):
    """Where it is below what may be used."""
    with of.server(answer="more") as server:
        flow = AskingWorkflow(of.llm(server, **of.wish(700)), method)
        Guard(llama_index, flow, policy(max_steps=2)).run()
        assert server.served.asked == [700, 700]


TRIED = [(status, method) for status in (429, 500) for method in METHODS] + [(400, "achat"), (529, "stream_chat")]


@providers
@pytest.mark.parametrize(("status", "method"), TRIED)
def test_an_attempt_is_a_step_and_is_what_it_came_to(of, status, method, outcomes):
    """One request, whatever the SDK's retries; an outage is a fault, and a 4xx made no tokens."""
    with of.server(status=status, answer="more") as server:
        result = Guard(llama_index, AskingWorkflow(of.llm(server), method), policy(max_steps=5)).run()
        assert server.requests == 1 == result.usage.steps
        assert result.status == "failed"
        assert [outcome.status for outcome in outcomes] == ["rejected" if status < 500 else "failed"]
        assert [outcome.fault for outcome in outcomes] == [status != 400]
        assert (result.usage.tokens == 0) is (status < 500)


@providers
@pytest.mark.parametrize("method", ["acomplete", "achat"])
def test_a_step_that_is_retried_pays_each_time(of, method):
    """The workflow's retry policy sees an error of the provider; our refusal at the cap ends it."""

    class Retrying(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(delay=0, maximum_attempts=50))
        async def ask(self, ev: StartEvent) -> StopEvent:
            prompt = SYSTEM if "complete" in method else [ChatMessage(SYSTEM)]
            return StopEvent(result=str(await getattr(llm, method)(prompt)))

    with of.server(status=429) as server:
        llm = of.llm(server)
        result = Guard(llama_index, Retrying(), policy(max_steps=4)).run()
        assert (server.requests, result.usage.steps, result.stopped.limit) == (4, 4, "max_steps")


@providers
def test_eight_workers_at_one_cap_and_one_model_do_not_pass_it(of):
    """The model object is shared by them; the grants are not."""
    with of.server(answer="more") as server:
        result = Guard(llama_index, side_by_side(of.llm(server)), policy(max_tokens=20_000)).run()
        assert server.served.tokens == result.usage.tokens <= 20_000
        assert result.overshoot.tokens == 0
        assert result.stopped.limit == "max_tokens"


@providers
def test_one_model_in_two_runs_and_unguarded_meanwhile(of):
    """Each run has its caps, and who isn't guarded asks for what they asked for before."""
    with of.server(answer="more") as server:
        llm = of.llm(server)
        guards = [Guard(llama_index, AskingWorkflow(llm), policy(max_steps=n)) for n in (2, 4)]
        running = [guard.start({"task": "go"}) for guard in guards]
        beside = _unguarded(llm)
        assert [one.future.result(20).usage.steps for one in running] == [2, 4]
        beside.join(10)
        assert server.requests == 6 + 3


def _unguarded(llm):
    def ask():
        for _ in range(3):
            llm.complete("x")

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@providers
def test_unguarded_use_is_the_same_before_during_and_after(of):
    """Requests, lengths, retries and clients are the user's own, also on loops of their own."""
    with of.server(answer="more") as server, asyncio.Runner() as loop:
        llm = of.llm(server, **of.wish(700))
        state = llm.model_dump()

        async def both():
            return [str(await asyncio.to_thread(llm.complete, "x")), str(await llm.acomplete("x"))]

        assert loop.run(both()) == ["more", "more"]
        clients = [getattr(llm, name) for name in ("_client", "_aclient", "_async_client") if _has(llm, name)]
        before = list(server.bodies)
        for _ in range(2):
            result = Guard(llama_index, AskingWorkflow(llm, times=2), policy(max_steps=5)).run()
            assert (result.status, result.usage.steps) == ("done", 2)
        server.bodies.clear()
        assert loop.run(both()) == ["more", "more"]
        assert server.bodies == before
        assert clients == [getattr(llm, name) for name in ("_client", "_aclient", "_async_client") if _has(llm, name)]
        assert llm.model_dump() == state
        assert type(llm) is of.kind


def _has(llm, name):
    return getattr(llm, name, None) is not None


@providers
def test_a_class_of_ones_own_that_asks_twice_pays_for_both(of):
    """A subclass of an integration's class: each of its requests is an attempt."""

    class Doubtful(of.kind):
        async def achat(self, messages, **kwargs):
            await super().achat(messages, **kwargs)
            return await super().achat(messages, **kwargs)

    with of.server(answer="more") as server:
        llm = of.llm(server, kind=Doubtful)
        result = Guard(llama_index, AskingWorkflow(llm, "achat"), policy(max_steps=5)).run()
        assert server.requests == 5 == result.usage.steps
        assert server.served.tokens == result.usage.tokens


SENDS = {
    "anthropic:claude-sonnet-4-5": (
        lambda llm, text: llm._client.messages.create(model=llm.model, messages=[{"role": "user", "content": text}]),
        lambda llm, text: llm._aclient.messages.create(model=llm.model, messages=[{"role": "user", "content": text}]),
    ),
    "gemini:gemini-2.5-flash": (
        lambda llm, text: llm._client.models.generate_content(model=llm.model, contents=text),
        lambda llm, text: llm._client.aio.chats.create(model=llm.model).send_message(text),
    ),
    "ollama:toy": (
        lambda llm, text: llm.client.chat(model=llm.model, messages=[{"role": "user", "content": text}]),
        lambda llm, text: llm.async_client.chat(model=llm.model, messages=[{"role": "user", "content": text}]),
    ),
}


@providers
@pytest.mark.parametrize("method", ["complete", "acomplete"])
def test_a_class_that_sends_twice_by_its_sdk_pays_for_both(of, method):
    """Within one method of its own, where nothing but the SDK's client sees it."""
    sync, asynchronous = SENDS[of.name]

    class Doubtful(of.kind):
        def complete(self, prompt, formatted=False, **kwargs):
            sync(self, prompt)
            sync(self, prompt)
            return CompletionResponse(text="more")

        async def acomplete(self, prompt, formatted=False, **kwargs):
            await asynchronous(self, prompt)
            await asynchronous(self, prompt)
            return CompletionResponse(text="more")

    with of.server(answer="more") as server:
        flow = AskingWorkflow(of.llm(server, kind=Doubtful), method)
        result = Guard(llama_index, flow, policy(max_steps=5)).run()
        assert (server.requests, result.usage.steps, result.stopped.limit) == (5, 5, "max_steps")
        assert server.served.tokens == result.usage.tokens
        assert result.unreported == 0


class Said(BaseModel):
    """What is to be said."""

    text: str


STRUCTURED = ("structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict")


@providers
@pytest.mark.parametrize("method", STRUCTURED)
def test_structured_answers_are_gated(of, method):
    """Also where the class has a request of its own for them: clamped, counted and charged like any other."""

    def whole(llm):
        made = getattr(llm, method)(Said, PromptTemplate("Say {what}." + SYSTEM), what="x")
        return list(made)[-1] if "stream" in method else made

    async def asked(llm):
        if not method.startswith("a"):
            return await asyncio.to_thread(whole, llm)
        made = await getattr(llm, method)(Said, PromptTemplate("Say {what}." + SYSTEM), what="x")
        return [one async for one in made][-1] if "stream" in method else made

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=[(await asked(llm)).text for _ in range(ev.times)])

    with of.server(answer='{"text": "x"}') as server:
        llm = of.llm(server)
        unguarded = asyncio.run(asked(of.llm(server)))
        plain = server.bodies.pop()
        server.served.tokens = 0
        server.served.asked.clear()
        result = Guard(llama_index, Asking(timeout=None), policy(max_tokens=7_000)).run(times=1)
        assert result.output == [unguarded.text] == ["x"]
        assert _but_its_length(server.bodies[0]) == _but_its_length(plain)
        result = Guard(llama_index, Asking(timeout=None), policy(max_tokens=7_000)).run(times=9)
        assert server.served.tokens - 2000 == result.usage.tokens <= 7_000
        assert (server.requests - 1, result.stopped.limit, result.unreported) == (result.usage.steps, "max_tokens", 0)
        assert max(server.served.asked) < 7_000
        assert [of.length(body) for body in server.bodies] == server.served.asked


def _but_its_length(body):
    config = {key: value for key, value in body.get("generationConfig", {}).items() if key != "maxOutputTokens"}
    return {key: value for key, value in body.items() if key not in ("max_tokens", "options")} | {
        "generationConfig": config
    }


@providers
def test_an_agents_structured_answer_is_one_more_step(of):
    """output_cls: LlamaIndex asks once more, for the answer in that form."""
    with of.server(answer='{"text": "x"}') as server:
        agent = FunctionAgent(name="seeker", tools=[], llm=of.llm(server), output_cls=Said)
        result = Guard(llama_index, agent, policy(max_steps=5)).run()
        assert (result.output, result.usage.steps, server.requests) == ({"text": "x"}, 2, 2)
        assert server.served.tokens == result.usage.tokens


@providers
def test_a_provider_that_is_not_there_is_an_outage_that_costs_nothing(of, outcomes):
    """Nothing was sent, so no tokens can have been made."""
    with of.server() as server:
        llm = of.llm(server)
    for method in METHODS:
        result = Guard(llama_index, AskingWorkflow(llm, method), policy(max_steps=5)).run()
        assert (outcomes[-1].status, outcomes[-1].fault, result.usage.tokens) == ("rejected", True, 0)
    assert len(outcomes) == len(METHODS)


# Anthropic's own


@methods
def test_tokens_of_its_cache_are_counted_and_priced(method):
    """Its input_tokens are without them: all three make the prompt, also where a stream says them only once."""
    with ClaudeServer(answer="more", cached=600, written=300) as server:
        guard = Guard(llama_index, AskingWorkflow(claude(server), method, times=2), policy())
        result = guard.run()
        assert (result.usage.input_tokens, result.usage.cached_tokens) == (2000, 1200)
        assert result.usage.tokens == server.served.tokens
        assert [event.used.input_tokens for event in guard.events("Settled")] == [1000, 1000]


class CacheFacts(ByteFacts):
    """$2 a million to read, $0.2 from the cache, $2.5 to write there, $4 to have it kept for an hour; $8 to say."""

    rates = Rates(Rate(2 * MILLION * 1000), Rate(8 * MILLION * 1000), Rate(MILLION * 200), Rate(MILLION * 2500),
                  parts=PartRates(kept_an_hour=Rate(4 * MILLION * 1000)))  # fmt: skip


@methods
@pytest.mark.parametrize("hour", [0, 300])
def test_dollars_are_those_of_what_was_cached(method, hour):
    """What is written is dearer than what is read, and dearer still where it is kept for an hour."""
    with ClaudeServer(answer="more", cached=600, written=300) as server:
        server.hour = hour
        flow = AskingWorkflow(claude(server), method, times=1)
        result = Guard(llama_index, flow, policy(), CacheFacts()).run()
        written = 300 * (4 if hour else 2.5)
        assert float(result.usage.usd) == pytest.approx((100 * 2 + 600 * 0.2 + written + 1000 * 8) / 1_000_000)


LONG = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize("where", ["block", "message", "model", "call", "tool", None])
def test_a_cache_that_is_kept_an_hour_is_reserved_for(where):
    """Wherever it is asked for: the dollars that a call may cost are known before it leaves."""
    message = ChatMessage(blocks=[TextBlock(text="x" * 1000)])
    options, given = {}, {}
    if where == "block":
        message.blocks.append(CachePoint(cache_control=LONG))
    elif where == "message":
        message.additional_kwargs["cache_control"] = LONG
    elif where == "model":
        options = {"additional_kwargs": {"cache_control": LONG}}
    elif where == "call":
        given = {"cache_control": LONG}
    elif where == "tool":
        options = {"tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": LONG}]}

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.achat([message], **given)))

    with ClaudeServer(answer="more") as server:
        llm = claude(server, max_tokens=100, **options)
        guard = Guard(llama_index, Asking(), policy(), CacheFacts())
        assert guard.run().done
        (admitted,) = [event for event in guard.events("Admitted") if event.kind == "model_call"]
        prompt = admitted.reserved.input_tokens * (2.5 if where is None else 4)
        assert float(admitted.reserved.usd) == pytest.approx((prompt + 100 * 8) / 1_000_000, rel=0.001)


@pytest.mark.parametrize("says", [None, "overloaded_error"])
@pytest.mark.parametrize("method", ["stream_chat", "astream_chat", "stream_complete"])
def test_a_stream_that_breaks_off_is_charged_as_reserved(method, says, outcomes):
    """Its beginning names one token of the answer: that is no account of it. What it says of an error is an outage."""
    with ClaudeServer(answer="more") as server:
        server.breaks = True
        server.says = says
        result = Guard(llama_index, AskingWorkflow(claude(server), method, times=1), policy()).run()
        assert result.unreported == 1
        assert result.usage.tokens > 1000 + 4000
        assert [(outcome.status, outcome.fault) for outcome in outcomes] == [
            ("failed", True) if says else ("ok", False)
        ]


def test_what_one_request_cost_is_not_taken_for_the_next_ones():
    """A class that streams twice, and the second breaks off: that one is charged as reserved."""
    with ClaudeServer(answer="more") as server:

        class Doubtful(Anthropic):
            def stream_chat(self, messages, **kwargs):
                list(super().stream_chat(messages, **kwargs))
                server.breaks = True
                yield from super().stream_chat(messages, **kwargs)

        llm = Doubtful(model="claude-sonnet-4-5", api_key="none", base_url=server.url, max_tokens=4096)
        result = Guard(llama_index, AskingWorkflow(llm, "stream_chat", times=1), policy()).run()
        assert (server.requests, result.usage.steps, result.unreported) == (2, 2, 1)
        assert result.usage.tokens > 2000 + 1000 + 4000


def test_a_length_to_think_leaves_room_to_answer():
    """budget_tokens: what is asked for stays above it, or the call is refused."""
    with ClaudeServer(answer="more") as server:
        llm = claude(server, thinking_dict={"type": "enabled", "budget_tokens": 2000})
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_tokens=9_000)).run()
        assert all(body["thinking"]["budget_tokens"] < body["max_tokens"] for body in server.bodies)
        assert result.stopped.limit == "max_tokens"
        assert server.served.tokens == result.usage.tokens
        assert server.requests == 3  # each of 2000, while there are 2001 left beside the prompt


def test_a_length_that_a_call_gives_is_what_it_asks_for():
    """It is nearer than what the model says."""

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete("x", max_tokens=900)))

    with ClaudeServer(answer="more") as server:
        llm = claude(server, max_tokens=300, additional_kwargs={"max_tokens": 500})
        assert Guard(llama_index, Asking(), policy()).run().done
        assert server.served.asked == [900]


def test_a_place_to_cache_up_to_is_no_file():
    """It has no tokens: the prompt is what stands before it."""

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            point = CachePoint(cache_control={"type": "ephemeral"})
            message = ChatMessage(blocks=[TextBlock(text="x" * 500), point])
            return StopEvent(result=str(await llm.achat([message])))

    with ClaudeServer(answer="more") as server:
        server.served.prompt = 300
        llm = claude(server)
        assert Guard(llama_index, Asking(), policy(max_tokens=6_000)).run().done


def test_tools_that_the_model_itself_has_are_counted():
    """The field `tools`: a schema of 8,000 bytes is a part of each prompt."""
    long = {"name": "look", "description": "y" * 8_000, "input_schema": {"type": "object"}}
    with ClaudeServer(answer="more") as server:
        for options in ({"tools": [long]}, {"additional_kwargs": {"tools": [long]}}):
            result = Guard(llama_index, AskingWorkflow(claude(server, **options)), policy(max_tokens=8_000)).run()
            assert result.stopped.limit == "max_tokens"
        assert server.requests == 0


SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": [SEARCH]}, "web_search"),
        ({"additional_kwargs": {"tools": [SEARCH]}}, "web_search"),
        ({"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]}, "mcp_servers"),
        ({"additional_kwargs": {"extra_body": {"mcp_servers": []}}}, "mcp_servers"),
        ({"additional_kwargs": {"extra_body": {"max_tokens": 9}}}, "max_tokens"),
        ({"aws_region": "x", "aws_access_key_id": "x", "aws_secret_access_key": "x"}, "AnthropicBedrock"),
    ],
)
def test_what_can_not_be_bounded_of_anthropic_is_refused_by_name(options, words):
    """What its servers do by themselves makes tokens that no prompt bounds; before anything runs."""
    with ClaudeServer() as server:
        llm = claude(server, **options)
        agent = FunctionAgent(name="seeker", tools=[], llm=llm)
        with pytest.raises(ConfigError, match=f"agent 'seeker' .*{words}"):
            Guard(llama_index, agent, policy())
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_steps=3)).run()
        assert words in result.error
        assert server.requests == 0


def test_a_search_that_a_call_asks_for_is_refused():
    """Where the guard sees it only with the call."""

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete("x", tools=[SEARCH])))

    with ClaudeServer() as server:
        llm = claude(server)
        result = Guard(llama_index, Asking(), policy()).run()
        assert "web_search" in result.error
        assert server.requests == 0


# Gemini's own


@methods
def test_thoughts_are_output_and_what_it_read_from_its_cache_is_known(method):
    """Gemini's counts of an answer are without its thoughts: both are what it may be long, and what is charged."""
    with GeminiServer(answer="more", thought=300, cached=600) as server:
        guard = Guard(llama_index, AskingWorkflow(gemini(server), method, times=2), policy())
        result = guard.run()
        assert result.usage.tokens == server.served.tokens == 4000
        assert (result.usage.input_tokens, result.usage.cached_tokens, result.unreported) == (2000, 1200, 0)


def test_a_thinking_budget_leaves_room_to_answer():
    """What is asked for stays above it, or the call is refused."""
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(thinking_budget=2000))
    with GeminiServer(answer="more") as server:
        llm = gemini(server, generation_config=config)
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_tokens=9_000)).run()
        asked = [body["generationConfig"]["maxOutputTokens"] for body in server.bodies]
        assert (asked[0], len(asked), min(asked) > 2000) == (2000 + 4096, 3, True)
        assert result.stopped.limit == "max_tokens"
        assert server.served.tokens == result.usage.tokens


def test_a_length_that_a_call_of_gemini_gives_is_what_it_asks_for():
    """In its generation_config, which is nearer than what the model says."""

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete("x", generation_config={"max_output_tokens": 900})))

    with GeminiServer(answer="more") as server:
        llm = gemini(server, max_tokens=300)
        assert Guard(llama_index, Asking(), policy()).run().done
        assert server.served.asked == [900]


def test_a_model_without_a_length_asks_for_the_policys():
    """What Gemini could make at the most is nobody's wish."""
    with GeminiServer(answer="more") as server:
        llm = gemini(server, generation_config=types.GenerateContentConfig(temperature=0))
        Guard(llama_index, AskingWorkflow(llm, times=1), policy()).run()
        assert server.served.asked == [4096]


@pytest.mark.parametrize("method", ["stream_chat", "astream_chat", "astream_complete"])
def test_a_stream_of_geminis_that_breaks_off_is_charged_as_reserved(method):
    """Each piece says what it cost so far: that is no account of the whole."""
    with GeminiServer(answer="more") as server:
        server.unfinished = True
        result = Guard(llama_index, AskingWorkflow(gemini(server), method, times=1), policy()).run()
        assert (result.unreported, server.requests) == (1, 1)
        assert result.usage.tokens > 1000 + 4000


@pytest.mark.parametrize(
    "config", [{"system_instruction": "y" * 8_000}, {"response_schema": {"description": "y" * 8_000}}]
)
def test_what_stands_beside_the_messages_is_counted(config):
    """Instructions and schemas of a generation_config are a part of each prompt."""
    with GeminiServer(answer="more") as server:
        llm = gemini(server, generation_config=types.GenerateContentConfig(**config))
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_tokens=8_000)).run()
        assert (result.stopped.limit, server.requests) == ("max_tokens", 0)


def look(query: str) -> str:
    """Look it up."""
    return query


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"built_in_tool": types.Tool(google_search=types.GoogleSearch())}, "google_search"),
        ({"generation_config": types.GenerateContentConfig(tools=[look])}, "look"),
        ({"generation_config": types.GenerateContentConfig(candidate_count=2)}, "candidate_count=2"),
        ({"cached_content": "cachedContents/1"}, "cached_content"),
        ({"http_options": types.HttpOptions(extra_body={"generationConfig": {"maxOutputTokens": 9}})}, "extra_body"),
    ],
)
def test_what_can_not_be_bounded_of_gemini_is_refused_by_name(options, words):
    """Before anything runs, and where the guard sees the model only with the call."""
    with GeminiServer() as server:
        llm = gemini(server, **options)
        agent = FunctionAgent(name="seeker", tools=[], llm=llm)
        with pytest.raises(ConfigError, match=f"agent 'seeker' .*{words}"):
            Guard(llama_index, agent, policy())
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_steps=3)).run()
        assert words in result.error
        assert server.requests == 0


@pytest.mark.parametrize("listed", [True, False])
def test_a_search_that_a_call_of_geminis_asks_for_is_refused(listed):
    """As one of the model's own is; LlamaIndex takes a single tool, too."""

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(
                result=str(await llm.acomplete("x", tools=[types.Tool(google_search=types.GoogleSearch())]))
            )

    with GeminiServer() as server:
        llm = gemini(server)
        result = Guard(llama_index, Asking(), policy()).run()
        assert "google_search" in result.error
        assert server.requests == 0


class DearFacts(ByteFacts):
    """$30 a million of what it says in images."""

    rates = Rates(Rate(2 * MILLION * 1000), Rate(8 * MILLION * 1000),
                  parts=PartRates(output_image=Rate(30 * MILLION * 1000)))  # fmt: skip


def test_an_answer_in_images_is_reserved_as_dearer_than_text():
    """response_modalities: an image's tokens cost more."""
    with GeminiServer(answer="more") as server:
        config = types.GenerateContentConfig(response_modalities=["TEXT", "IMAGE"])
        guard = Guard(
            llama_index, AskingWorkflow(gemini(server, generation_config=config), times=1), policy(), DearFacts()
        )
        plain = Guard(llama_index, AskingWorkflow(gemini(server), times=1), policy(), DearFacts())
        assert guard.run().done
        assert plain.run().done
        dear, cheap = (
            next(event.reserved.usd for event in one.events("Admitted") if event.kind == "model_call")
            for one in (guard, plain)
        )
        assert dear > 2 * cheap


# Ollama's own


def test_a_prompt_that_ollama_does_not_count_is_charged_as_reserved():
    """Some versions leave the count out where the prompt was known to them."""
    with OllamaServer(answer="more") as server:
        server.counts_prompt = False
        result = Guard(llama_index, AskingWorkflow(ollama(server)), policy(max_tokens=10_000)).run()
        assert server.served.tokens <= result.usage.tokens <= 10_000
        assert result.unreported == server.requests > 0


@pytest.mark.parametrize("method", ["stream_chat", "astream_complete"])
def test_a_stream_of_ollamas_that_says_an_error_is_an_outage(method, outcomes):
    """Its runner went down within an answer: nobody's failed trial."""
    with OllamaServer(answer="more") as server:
        server.breaks = True
        result = Guard(llama_index, AskingWorkflow(ollama(server), method), policy(max_steps=5)).run()
        assert (server.requests, result.status, result.unreported) == (1, "failed", 1)
        assert [(outcome.status, outcome.fault) for outcome in outcomes] == [("failed", True)]


def test_a_length_without_end_is_clamped():
    """num_predict -1 is Ollama's own default: as long as it likes."""
    with OllamaServer(answer="more") as server:
        llm = ollama(server, additional_kwargs={"num_predict": -1})
        result = Guard(llama_index, AskingWorkflow(llm), policy(max_tokens=9_000)).run()
        assert all(0 < asked <= 4096 for asked in server.served.asked)
        assert server.served.tokens == result.usage.tokens <= 9_000


@pytest.mark.parametrize("method", ["chat", "astream_chat"])
def test_what_ollama_is_asked_about_a_model_is_no_step(method):
    """Its window, which LlamaIndex asks for once: that makes no tokens."""
    with OllamaServer(answer="more") as server:
        llm = ollama(server, context_window=-1)
        result = Guard(llama_index, AskingWorkflow(llm, method), policy(max_steps=2)).run()
        assert (server.requests, len(server.asides), result.usage.steps) == (2, 1, 2)
        assert server.bodies[0]["options"]["num_ctx"] == 32768
