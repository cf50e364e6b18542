"""CrewAI's models that go through litellm, the real one, under the gate and against servers on loopback."""

import threading

import httpx
import pytest
from crewai import LLM, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.llms import retry as crewai_retry
from crewai.utilities.internal_instructor import InternalInstructor
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from crew_guard.adapters.crewai.litellm_bounds import PROVIDERS
from crew_guard.errors import ConfigError, RefusedError
from tests.adapters.crewai_doubles import BACKSTORY, HungryLLM, Look, hungry_agent, hungry_crew
from tests.adapters.guarding import Guard, policy
from tests.adapters.litellm_servers import GeminiServer, GroqServer, OllamaServer
from tests.adapters.loopback import HungryServer, send
from tests.adapters.test_crewai_anthropic import MessagesServer

litellm = pytest.importorskip("litellm")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """CrewAI sleeps seconds between the tries that it makes at a provider that throttles."""
    monkeypatch.setattr(crewai_retry, "get_retry_delay_seconds", lambda **_: 0.0)


@pytest.fixture(autouse=True)
def _keyless(monkeypatch):
    """Nothing of the machine's own decides where a request goes."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def lite(server, model="openai/gpt-4o", **options):
    """A model that asks litellm."""
    return LLM(**{"model": model, "is_litellm": True, "api_base": server.url, "api_key": "none", **options})


def asking(llm, times=9, **how):
    """A flow that calls a model by itself."""

    class Asking(Flow):
        @start()
        def ask(self):
            return [llm.call(BACKSTORY, **how) for _ in range(times)][-1]

    return Asking()


def asking_async(llm, times=9, **how):
    class Asking(Flow):
        @start()
        async def ask(self):
            return [await llm.acall(BACKSTORY, **how) for _ in range(times)][-1]

    return Asking()


ways = pytest.mark.parametrize("flow", [asking, asking_async])
streamed = pytest.mark.parametrize("stream", [False, True])


@streamed
def test_an_agents_calls_through_litellm_are_gated_clamped_and_charged(stream):
    """As many requests as max_steps says, each with a length, and the tokens that the server billed."""
    with HungryServer() as server:
        llm = lite(server, stream=stream)
        guard = Guard(adapter, hungry_agent(llm), policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert result.usage.tool_calls == 3
        assert result.usage.nano_usd == 3 * (1000 * 2000 + 1000 * 8000)
        assert server.served.asked == [4096] * 3
        assert set(guard.names) == {"openai:gpt-4o"}
        assert set(result.agents) == {"Seeker"}
        assert llm.get_token_usage_summary().total_tokens == 6000
        assert result.unreported == 0


@ways
@streamed
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_calls_through_litellm_never_exceed_a_cap_of_tokens(flow, stream, cap):
    """Blocking and on a loop, streamed and not: the last one is shortened to what is left."""
    with HungryServer(answer="done") as server:
        result = Guard(adapter, flow(lite(server, stream=stream)), policy(max_tokens=cap)).run(id="1")
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens, result.unreported) == ("max_tokens", 0, 0)
        assert all(length <= cap for length in server.served.asked)


@ways
@streamed
def test_a_length_of_the_users_own_stands(flow, stream):
    """Where it is below what may be used, under either name, and where CrewAI has it among its parameters."""
    with HungryServer(answer="done") as server:
        for given in ({"max_tokens": 700}, {"max_completion_tokens": 700}, {"additional_params": {"max_tokens": 700}}):
            Guard(adapter, flow(lite(server, stream=stream, **given), 1), policy()).run(id="1")
        assert server.served.asked == [700] * 3


@ways
@streamed
@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("given", [{}, {"num_retries": 4}, {"max_retries": 4}])
def test_litellms_own_retries_are_off(flow, stream, status, given, monkeypatch):
    """A server that throttles, or fails, gets one request for each step, whoever had asked for retries."""
    monkeypatch.setattr(litellm, "num_retries", 3)
    with HungryServer(status) as server:
        guard = Guard(adapter, flow(lite(server, stream=stream, **given), 1), policy(max_steps=9))
        result = guard.run(id="1")
        assert server.requests == result.usage.steps == len(guard.events("Admitted"))
        assert server.requests <= 4  # CrewAI's own tries, each through the gate
        assert litellm.num_retries == 3
        assert {event.status for event in guard.events("Settled")} == {"rejected" if status == 429 else "failed"}


@ways
def test_one_more_request_within_a_completion_is_a_step(flow):
    """litellm sends a request again by itself that a provider can't process."""
    with HungryServer(answer="done") as server:
        server.statuses = [422]
        result = Guard(adapter, flow(lite(server), 1), policy(max_steps=9)).run(id="1")
        assert result.usage.steps == server.requests == 2
        assert result.usage.tokens == server.served.tokens
        server.statuses, server.bodies[:] = [422], []
        stopped = Guard(adapter, flow(lite(server), 1), policy(max_steps=1)).run(id="1")
        assert (stopped.stopped.limit, stopped.usage.steps, server.requests) == ("max_steps", 1, 1)


@ways
def test_a_call_that_crewai_repeats_without_stop_words_is_a_step(flow):
    """It calls itself where a provider knows no stop words, and learns it for later."""

    class Unstoppable(HungryServer):
        def reply(self, handler, body):
            if "stop" in body:
                self.bodies.append(body)
                error = {"message": "Unsupported parameter: 'stop' is not supported", "type": "x", "code": "x"}
                send(handler, 400, {"error": error})
                return
            super().reply(handler, body)

    with Unstoppable(answer="done") as server:
        result = Guard(adapter, flow(lite(server, stop=["END"]), 2), policy(max_steps=9)).run(id="1")
        assert result.output == "done"
        assert result.usage.steps == server.requests == 3
        assert result.usage.tokens == server.served.tokens == 4000


class Note(BaseModel):
    text: str


@ways
def test_a_structured_answer_is_asked_through_the_gate(flow, monkeypatch):
    """instructor's request is the call's own, and each one more that it sends is a step with a prompt of its own."""
    with HungryServer(answer='{"text": "zlib"}') as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "tool", "Note")
            patch.setattr(server, "answer", None)
            guard = Guard(adapter, flow(lite(server), 1, response_model=Note), policy(max_steps=9))
            result = guard.run(id="1")  # its arguments aren't a note's: it is asked again, and then fails
            assert result.usage.steps == server.requests >= 2
            assert result.usage.tokens == server.served.tokens
            assert all(length == 4096 for length in server.served.asked)
            assert server.bodies[0]["tools"]
            capped = Guard(adapter, flow(lite(server), 1, response_model=Note), policy(max_steps=1))
            before = server.requests
            stopped = capped.run(id="1")
            assert (stopped.stopped.limit, server.requests - before) == ("max_steps", 1)


class NoteServer(HungryServer):
    """Answers with a note where it is asked for one, else with text."""

    def reply(self, handler, body):
        self.answer = None if body.get("tools") else "zlib compresses"
        self.tool = "Note"
        super().reply(handler, body)


class Query(BaseModel):
    query: str


@streamed
def test_output_json_and_pydantic_work_through_litellm(stream, monkeypatch):
    """A streamed answer is asked for first, and then its object: two steps of one call."""
    with NoteServer() as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        guard = Guard(adapter, asking(lite(server, stream=stream), 1, response_model=Query), policy(max_steps=9))
        result = guard.run(id="1")
        assert result.output == '{"query":"q2"}' if stream else '{"query":"q1"}'
        assert result.usage.steps == server.requests == (2 if stream else 1)
        assert result.usage.tokens == server.served.tokens


def test_crewais_own_structured_client_asks_through_the_gate(monkeypatch):
    """What InternalInstructor would send by litellm, outside of any call, is a step of the agent's model."""
    with NoteServer() as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        seen = []

        class Asking(Look):
            def _run(self, query: str) -> str:
                seen.append(InternalInstructor("note: zlib", Query, llm=llm).to_pydantic())
                return "done"

        llm = lite(server)
        result = Guard(adapter, hungry_agent(HungryLLM(answer_after=1), tools=[Asking()]), policy(max_steps=9)).run()
        assert seen == [Query(query="q1")]
        assert (server.requests, result.usage.steps) == (1, 3)


def test_a_function_that_crewai_executes_within_a_call_is_no_part_of_it():
    """What it sends by litellm itself is not the model's, and what it asks the model is a call of its own."""
    with HungryServer() as server, HungryServer(answer="by hand") as other:
        llm = lite(server)
        tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]

        def look(query):
            messages = [{"role": "user", "content": "hello"}]
            reply = litellm.completion(
                model="openai/gpt-4o", messages=messages, api_base=other.url, api_key="none", max_tokens=9_000
            )
            return f"{reply.choices[0].message.content}: {llm.call('again')[0].function.name}"

        flow = asking(llm, 1, tools=tools, available_functions={"look": look})
        result = Guard(adapter, flow, policy(max_steps=9)).run(id="1")
        assert result.output == "by hand: look"
        assert result.usage.steps == server.requests == 2
        assert other.bodies[0]["max_tokens"] == 9_000


def test_unguarded_use_is_as_ever_before_during_and_after():
    """The same object, its retries and its length: only what a guarded run asks is bounded."""
    with HungryServer() as server, HungryServer(429) as throttled:
        llm = lite(server, num_retries=2, max_tokens=9_000)
        declared = llm.model_dump(exclude={"context_window_size"})  # CrewAI looks that up, and keeps it

        class Meanwhile(Look):
            def _run(self, query: str) -> str:
                thread = threading.Thread(target=llm.call, args=("during",))
                thread.start()
                thread.join()
                return "done"

        llm.call("before")
        agent = hungry_agent(llm, tools=[Meanwhile()])
        result = Guard(adapter, agent, policy(max_steps=1, max_tokens=6_000)).run()
        llm.call("after")
        before, guarded, during, after = server.served.asked
        assert (before, during, after) == (9_000, 9_000, 9_000)
        assert guarded < 6_000
        assert (result.usage.steps, result.usage.tokens) == (1, 2_000)
        assert llm.model_dump(exclude={"context_window_size"}) == declared
        hello = [{"role": "user", "content": "x"}]
        with pytest.raises(litellm.RateLimitError):
            litellm.completion("openai/gpt-4o", hello, api_base=throttled.url, api_key="none", max_retries=1)
        assert throttled.requests == 2


def test_a_refusal_that_is_caught_fifty_times_lets_nothing_leave():
    """Whoever tries again."""
    with HungryServer(answer="done") as server:
        llm, caught = lite(server), []

        class Stubborn(Flow):
            @start()
            def ask(self):
                for _ in range(52):
                    try:
                        llm.call(BACKSTORY)
                    except RefusedError as error:
                        caught.append(error)

        result = Guard(adapter, Stubborn(), policy(max_steps=2)).run(id="1")
        assert (server.requests, result.usage.steps, len(caught)) == (2, 2, 50)
        assert result.stopped.limit == "max_steps"


@ways
def test_a_server_that_is_gone_costs_a_step_and_no_tokens(flow):
    """Nothing left, whatever litellm calls the error."""
    with HungryServer() as server:
        llm = lite(server)
    guard = Guard(adapter, flow(llm, 1), policy(max_steps=9))
    result = guard.run(id="1")
    assert (result.status, result.usage.tokens) == ("failed", 0)
    assert result.usage.steps == len(guard.events("Settled")) <= 4
    assert {event.status for event in guard.events("Settled")} == {"rejected"}


def test_a_model_shared_by_two_runs_at_once_is_charged_to_each():
    """Each has its own budget, and the sum is what was served."""
    with HungryServer(answer="done") as server:
        llm = lite(server)
        guards = [Guard(adapter, asking(llm, 9), policy(max_steps=cap)) for cap in (2, 4)]
        runs = [guard.start({"id": "1"}) for guard in guards]
        results = [run.future.result(30) for run in runs]
        assert [result.usage.steps for result in results] == [2, 4]
        assert server.requests == 6
        assert sum(result.usage.tokens for result in results) == server.served.tokens


def test_a_stream_that_reports_no_usage_is_charged_as_reserved():
    """litellm would guess; a guess is no report."""

    class Silent(HungryServer):
        def reply(self, handler, body):
            body.pop("stream_options", None)
            super().reply(handler, body)

    with Silent(answer="done") as server:
        result = Guard(adapter, asking(lite(server, stream=True, max_tokens=500), 1), policy()).run(id="1")
        assert (result.usage.steps, result.unreported) == (1, 1)
        assert result.usage.tokens >= 500


def test_what_litellm_drops_from_a_request_is_put_back():
    """additional_drop_params can take the length out: the request has one all the same."""
    with HungryServer() as server:
        llm = lite(server, additional_params={"additional_drop_params": ["max_tokens"]})
        Guard(adapter, hungry_agent(llm), policy(max_steps=1)).run()
        assert server.served.asked == [4096]


@pytest.mark.parametrize(("made", "said"), [({}, "says nothing"), ({"max_tokens": 10**6}, "says 1000000 tokens")])
def test_a_request_that_litellm_leaves_unbounded_does_not_leave(made, said, monkeypatch):
    """It drops what it thinks a provider doesn't know: a request is read once more, and the run says why."""
    own = litellm.main.get_optional_params

    def other(**given):
        params = own(**given)
        params.pop("max_tokens")
        return {**params, **made}

    monkeypatch.setattr(litellm.main, "get_optional_params", other)
    with HungryServer() as server:
        result = Guard(adapter, hungry_agent(lite(server)), policy(max_steps=3)).run()
        assert (result.status, result.usage.tokens, server.requests) == ("failed", 0, 0)
        assert f"litellm {said} of a request's length" in result.error


def test_an_answer_from_litellms_cache_is_no_step(monkeypatch):
    """Nothing leaves, and nothing is charged."""
    monkeypatch.setattr(litellm, "cache", litellm.Cache())
    with HungryServer(answer="done") as server:
        llm = lite(server, additional_params={"caching": True})
        result = Guard(adapter, asking(llm, 3), policy(max_steps=9)).run(id="1")
        assert result.output == "done"
        assert result.usage.steps == server.requests == 1
        assert result.usage.tokens == server.served.tokens


def test_a_logger_that_litellm_tells_of_an_answer_asks_nobodys_leave(monkeypatch):
    """What it sends, from a thread of litellm's, is no request of the model."""
    with HungryServer(answer="done") as server, HungryServer(answer="logged") as log:
        told = []

        def logger(kwargs, *_):
            told.append(httpx.post(log.url, json={"messages": kwargs["messages"], "model": "x"}).status_code)

        monkeypatch.setattr(litellm, "success_callback", [logger])
        result = Guard(adapter, asking(lite(server), 1), policy(max_steps=1)).run(id="1")
        assert (result.usage.steps, result.stopped) == (1, None)
        litellm.utils.executor.submit(lambda: None).result()


SPEAKERS = {
    "anthropic": (MessagesServer, "anthropic/claude-3-5-haiku-latest"),
    "gemini": (GeminiServer, "some/gemini-2.0-flash"),
    "ollama_chat": (OllamaServer, "ollama_chat/llama3"),
    "groq": (GroqServer, "groq/some/model"),
    "azure": (HungryServer, "azure/gpt-4o"),
}


NOT_ASKED = {"cerebras", "deepinfra", "mistral", "nvidia_nim", "perplexity"}
"""litellm leaves stream_options out for them: where one reports nothing by itself, the reservation stands."""
THROUGH_GEMINI = {"additional_params": {"custom_llm_provider": "gemini"}}
"""CrewAI wants Google's own SDK for a name that begins with gemini/, though it doesn't use it."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_each_provider_that_is_let_through_says_a_length_and_reports(provider, stream, monkeypatch):
    """Whichever form a request has: one a step, bounded, and its tokens as they were reported."""
    kind, model = SPEAKERS.get(provider, (HungryServer, f"{provider}/some/model"))
    with kind(answer="done") as server:
        base = server.url if kind is HungryServer and provider != "azure" else server.url.removesuffix("/v1")
        options = {"azure": {"api_version": "2024-06-01"}, "gemini": THROUGH_GEMINI}.get(provider, {})
        llm = lite(server, model, api_base=base, stream=stream, **options)
        result = Guard(adapter, asking(llm, 9), policy(max_steps=2)).run(id="1")
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 2, 2)
        assert server.served.asked == [4096] * 2
        if stream and provider in NOT_ASKED:
            assert result.unreported == 2
            assert result.usage.tokens > server.served.tokens == 4000
        else:
            assert result.usage.tokens == server.served.tokens == 4000
            assert result.unreported == 0
        server.status, server.bodies[:] = 429, []
        failed = Guard(adapter, asking(llm, 1), policy(max_steps=9)).run(id="1")
        assert server.requests == failed.usage.steps <= 4


@pytest.mark.parametrize("name", ["anthropic", "gemini", "ollama_chat"])
def test_tools_go_through_litellm_in_each_form(name):
    """The agent's tool is executed, and each turn is a step."""
    kind, model = SPEAKERS[name]
    with kind() as server:
        options = THROUGH_GEMINI if name == "gemini" else {}
        llm = lite(server, model, api_base=server.url.removesuffix("/v1"), **options)
        tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
        result = Guard(adapter, asking(llm, 1, tools=tools), policy(max_steps=2)).run(id="1")
        assert result.output[0].function.name == "look"
        assert (result.usage.steps, result.usage.tokens) == (1, server.served.tokens)


def test_cached_tokens_are_reported():
    """As the provider says it, in OpenAI's form."""

    class Caching(HungryServer):
        def reply(self, handler, body):
            self.bodies.append(body)
            details = {"cached_tokens": 600}
            usage = {
                "prompt_tokens": 1000,
                "completion_tokens": 5,
                "total_tokens": 1005,
                "prompt_tokens_details": details,
            }
            message = {"role": "assistant", "content": "done"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            send(handler, 200, {"id": "r", "created": 1, "model": "m", "choices": [choice], "usage": usage})

    with Caching() as server:
        result = Guard(adapter, asking(lite(server), 1), policy()).run(id="1")
        assert (result.usage.input_tokens, result.usage.cached_tokens, result.usage.output_tokens) == (1000, 600, 5)


def test_a_task_for_an_agent_of_a_crew_goes_through_litellm():
    """A crew: its output, and its steps."""
    with HungryServer(answer="done") as server:
        agent = hungry_agent(lite(server), tools=[])
        result = Guard(adapter, hungry_crew(agent), policy()).run(topic="x")
        assert (result.output, result.usage.steps) == ("done", server.requests)


def test_a_task_with_an_object_as_its_output_goes_through_litellm(monkeypatch):
    """output_json: the object is made by the agent's own model, under the gate."""
    with NoteServer() as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        agent = hungry_agent(lite(server), tools=[])
        task = Task(description="Look.", expected_output="a query", agent=agent, output_json=Query)
        result = Guard(adapter, Crew(agents=[agent], tasks=[task]), policy(max_steps=9)).run(topic="x")
        assert set(result.output) == {"query"}
        assert server.requests == result.usage.steps
        assert server.served.tokens == result.usage.tokens


REFUSED = [
    ({"n": 3}, "n=3"),
    ({"additional_params": {"fallbacks": ["gpt-4o-mini"]}}, "fallbacks"),
    ({"additional_params": {"context_window_fallback_dict": {"gpt-4o": "gpt-4o-mini"}}}, "context_window_fallback"),
    ({"additional_params": {"extra_body": {"max_tokens": 9}}}, "max_tokens in extra_body"),
    ({"additional_params": {"extra_body": {"n": 2}}}, "n in extra_body"),
    ({"model": "sagemaker/x"}, "asks sagemaker through litellm"),
    ({"additional_params": {"custom_llm_provider": "vertex_ai"}}, "asks vertex_ai through litellm"),
    ({"model": "openai/responses/gpt-4o"}, "Responses API"),
]


@pytest.mark.parametrize(("given", "named"), REFUSED)
def test_what_litellm_could_do_unbounded_is_refused_in_words(given, named):
    """Before anything runs, with the way out."""
    with HungryServer() as server, pytest.raises(ConfigError, match=named):
        Guard(adapter, hungry_agent(lite(server, **given)), policy())
    assert server.requests == 0


def test_fallbacks_that_litellm_has_for_all_are_refused(monkeypatch):
    """litellm.model_fallbacks."""
    monkeypatch.setattr(litellm, "model_fallbacks", ["gpt-4o-mini"])
    with HungryServer() as server, pytest.raises(ConfigError, match="model_fallbacks"):
        Guard(adapter, hungry_agent(lite(server)), policy())
