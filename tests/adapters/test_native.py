"""Our own runtime, through the public door: crews on a scripted model."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, TaskContext, Verdict, chain, tool
from crew_guard.errors import ConfigError, JournalConflictError, ModelError
from crew_guard.testing import MemoryStore, Reply, ScriptedModel


class Brief(BaseModel):
    title: str
    lines: int


@tool
async def look(query: str) -> list[str]:
    """Look it up."""
    return [f"about {query}"]


ROLE = Role(name="researcher", goal="Find out about {topic}")
fixed = chain(lambda inputs: f"fixed {inputs['topic']}", name="fixed")


def look_call(query: str = "gzip") -> Reply:
    return Reply(tools=(("look", f'{{"query": "{query}"}}'),))


def go(model: ScriptedModel, *tasks: Task, tools: Any = (look,), fallback: Any = None, **policy: Any) -> Result:
    crew = Crew([Agent(ROLE, tools)], tasks or (Task("Find what is known about {topic}"),), fallback=fallback)
    supervisor = Supervisor(Policy.model_validate(policy), model=model, store=MemoryStore())
    return supervisor.run(crew, {"topic": "gzip"})


def test_an_agent_thinks_acts_observes_and_finishes() -> None:
    """It asks for a tool, reads the result and answers; each is counted once."""
    model = ScriptedModel([look_call(), "gzip compresses"])
    result = go(model)
    assert (result.status, result.output, result.via) == ("done", "gzip compresses", "crew")
    assert (result.usage.steps, result.usage.tool_calls) == (2, 1)
    assert result.usage.tokens == model.billed.tokens
    system, user, asked, answered = model.calls[1].messages
    assert "Find out about gzip" in system.text
    assert user.text == "Find what is known about gzip"
    assert asked.tool_requests[0].name == "look"
    assert (answered.speaker, answered.text) == ("tool", '["about gzip"]')
    assert answered.tool_request_id == asked.tool_requests[0].id


def test_a_task_sees_what_the_tasks_before_it_made() -> None:
    """The second prompt holds the first output, under its task's name."""
    model = ScriptedModel(["notes on gzip", "the brief"])
    result = go(model, Task("Find", name="notes"), Task("Write", name="brief"))
    assert result.output == "the brief"
    assert "notes:\nnotes on gzip" in model.calls[1].messages[1].text


def test_an_answer_that_does_not_fit_its_model_is_mended() -> None:
    """The agent is told what is wrong, and answers again; fenced JSON is read as it is."""
    model = ScriptedModel(['{"title": "gzip"}', '```json\n{"title": "gzip", "lines": 3}\n```'])
    result = go(model, Task("Write", output=Brief))
    assert result.output == Brief(title="gzip", lines=3)
    assert "lines: Field required" in model.calls[1].messages[-1].text
    assert model.calls[0].request.output_schema == Brief.model_json_schema()


def test_an_answer_that_is_never_mended_is_a_failure_with_its_text_kept() -> None:
    """Three tries, no output, and what it said is in partial."""
    result = go(ScriptedModel(["no json"], repeat=True), Task("Write", output=Brief))
    assert (result.status, result.output, result.partial) == ("failed", None, "no json")
    assert "researcher" in result.error
    assert result.usage.steps == 3


def test_an_answer_cut_at_its_longest_is_not_an_answer() -> None:
    """The budget clamps the completion: half a text is never handed over as a whole one."""
    result = go(ScriptedModel(["x" * 4_000]), limits={"max_tokens": 1_000}, completion_min=10)
    assert (result.status, result.output) == ("failed", None)
    assert "cut at its longest length" in result.error


def test_a_stopped_run_hands_over_what_there_was() -> None:
    """The cap on steps ends it after a tool's result: that is in partial, and nothing in output."""
    result = go(ScriptedModel([look_call()], repeat=True), limits={"max_steps": 1})
    assert (result.status, result.output, result.partial) == ("stopped", None, '["about gzip"]')


def test_a_run_ended_at_its_deadline_hands_over_what_there_was() -> None:
    """The first task is done, the second one's provider never answers."""

    async def never() -> None:
        await asyncio.Event().wait()

    model = ScriptedModel(["notes on gzip", Reply("x", wait=never)])
    result = go(model, Task("Find", name="notes"), Task("Write"), limits={"max_seconds": 0.05})
    assert (result.status, result.output) == ("stopped", None)
    assert result.stopped is not None
    assert result.stopped.limit == "max_seconds"
    assert result.partial == {"notes": "notes on gzip"}


def test_several_tools_of_one_turn_run_at_the_same_time() -> None:
    """Each waits for the other: one after the other would never end."""
    here, there = asyncio.Event(), asyncio.Event()

    @tool
    async def left() -> str:
        """Left."""
        here.set()
        await there.wait()
        return "left"

    @tool
    async def right() -> str:
        """Right."""
        there.set()
        await here.wait()
        return "right"

    model = ScriptedModel([Reply(tools=(("left", "{}"), ("right", "{}"))), "both"])
    result = go(model, tools=(left, right), limits={"max_seconds": 20})
    assert (result.output, result.usage.tool_calls) == ("both", 2)
    assert [message.text for message in model.calls[1].messages[-2:]] == ["left", "right"]


def test_a_blocking_tool_runs_beside_the_loop() -> None:
    """Two threads wait for each other, while the loop goes on."""
    meet = threading.Barrier(2, timeout=20)

    @tool
    def wait_for_the_other(side: str) -> str:
        """Wait."""
        meet.wait()
        return side

    asked = (("wait_for_the_other", '{"side": "a"}'), ("wait_for_the_other", '{"side": "b"}'))
    result = go(ScriptedModel([Reply(tools=asked), "met"]), tools=(wait_for_the_other,))
    assert result.output == "met"


def raises() -> str:
    """Fail."""
    raise KeyError("no such row")


def exits() -> str:
    """Exit."""
    raise SystemExit(3)


def opaque() -> object:
    """Give back what isn't JSON."""
    return object()


def huge() -> str:
    """Give back 100 MB."""
    return "x" * 100_000_000


async def raises_slowly() -> str:
    """Raise its own deadline's error."""
    raise TimeoutError("the database took too long")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, "KeyError: 'no such row'"),
        (exits, "SystemExit"),
        (opaque, "not JSON"),
        (huge, "[cut: 100,000,000 characters in all"),
        (raises_slowly, "the database took too long"),
    ],
)
def test_whatever_a_tool_does_its_agent_reads_it_and_goes_on(function: Callable[..., Any], said: str) -> None:
    """It raises, exits, returns an object or 100 MB: one message for the agent, and the run goes on."""
    bad = tool(function)
    model = ScriptedModel([Reply(tools=((bad.name, "{}"),)), "went on"])
    result = go(model, tools=(bad,))
    assert (result.output, result.usage.tool_calls) == ("went on", 1)
    message = model.calls[1].messages[-1].text
    assert said in message
    assert len(message) < 25_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"query": 3}', "query: Input should be a valid string (got 3)"),
        ("{}", "query: Field required"),
        ("not json", "Invalid JSON"),
        ('{"query": "x", "more": 1}', "more: Extra inputs are not permitted"),
    ],
)
def test_arguments_that_do_not_fit_start_no_execution(arguments: str, said: str) -> None:
    """The agent is told what was expected; no tool call is counted."""
    model = ScriptedModel([Reply(tools=(("look", arguments),)), "went on"])
    result = go(model)
    assert (result.output, result.usage.tool_calls) == ("went on", 0)
    assert said in model.calls[1].messages[-1].text


def test_a_tool_that_is_not_there_is_said_to_be_missing() -> None:
    """With the names of those that are."""
    model = ScriptedModel([Reply(tools=(("dig", "{}"),)), "went on"])
    assert go(model).output == "went on"
    assert model.calls[1].messages[-1].text == "there is no tool 'dig'; yours: look"


def test_a_closed_tool_is_told_to_the_agent_and_a_denied_one_too() -> None:
    """The second call is over the tool's cap: the agent reads so, and answers without it."""
    model = ScriptedModel([look_call(), look_call(), "with one look"])
    crew = Crew([Agent(ROLE, (look,))], [Task("Find")])
    policy = Policy.model_validate({"tools": {"limits": {"look": {"max_tool_calls": 1}}}})
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew, {"topic": "gzip"})
    assert (result.output, result.usage.tool_calls) == ("with one look", 1)
    assert "look was refused" in model.calls[2].messages[-1].text


def test_a_tool_past_its_seconds_is_ended() -> None:
    """Its max_seconds ends the execution; the agent reads why."""

    @tool
    async def stuck() -> str:
        """Never come back."""
        await asyncio.Event().wait()
        return "never"

    model = ScriptedModel([Reply(tools=(("stuck", "{}"),)), "without it"])
    crew = Crew([Agent(ROLE, (stuck,))], [Task("Find")])
    policy = Policy.model_validate({"tools": {"limits": {"stuck": {"max_seconds": 0.01}}}})
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew, {"topic": "gzip"})
    assert result.output == "without it"
    assert "ended after 0.01 s" in model.calls[1].messages[-1].text


def says_no(output: Any, context: TaskContext) -> Verdict:
    """Never satisfied."""
    return Verdict(passed=False, reason=f"not about {context.inputs['topic']}")


def raises_instead(output: Any, context: TaskContext) -> bool:
    """Broken."""
    raise ZeroDivisionError("verifier")


@pytest.mark.parametrize(("verify", "said"), [(says_no, "not about gzip"), (raises_instead, "ZeroDivisionError")])
def test_a_crew_whose_verifier_says_no_falls_back(verify: Any, said: str) -> None:
    """The reason is in the result; the crew's output is not."""
    result = go(ScriptedModel(["an answer"]), Task("Find", verify=verify), fallback=fixed)
    assert (result.via, result.output) == ("workflow", "fixed gzip")
    assert said in result.fell_back
    assert [verdict.passed for verdict in result.verdicts] == [False]


def test_each_attempt_at_a_provider_is_a_step() -> None:
    """Two failures and an answer are three steps; a rejection bills no tokens, a broken stream does."""
    busy = ModelError("busy", kind="throttled", status=429, retry_after=0)
    broken = ModelError("cut", kind="broken", retry_after=0, text="half")
    model = ScriptedModel([Reply(error=busy), Reply(error=broken, tokens=7), "answer"])
    result = go(model)
    assert (result.output, result.usage.steps) == ("answer", 3)
    assert result.usage.tokens >= model.billed.tokens
    assert result.unreported == 1


def test_what_a_provider_rejects_is_not_tried_again() -> None:
    """One step, its message in the error."""
    model = ScriptedModel([ModelError("no such model: set another", kind="rejected", status=404)])
    result = go(model)
    assert (result.status, result.usage.steps, result.usage.tokens) == ("failed", 1, 0)
    assert "no such model" in result.error


def test_attempts_stop_at_the_cap_on_steps() -> None:
    """A provider that is always busy: two steps are two requests."""
    busy = ModelError("busy", kind="throttled", status=429, retry_after=0)
    model = ScriptedModel([Reply(error=busy)], repeat=True)
    result = go(model, limits={"max_steps": 2}, attempts=9)
    assert len(model.calls) == 2
    assert result.stopped is not None
    assert result.stopped.limit == "max_steps"


def test_a_prompt_beyond_the_models_window_fails_before_it_is_sent() -> None:
    """No step, and the numbers."""
    result = go(ScriptedModel(["answer"], window=50))
    assert (result.status, result.usage.steps) == ("failed", 0)
    assert "does not fit the window" in result.error


def test_an_input_that_is_missing_is_named() -> None:
    """With those that are there; nothing runs."""
    model = ScriptedModel(["answer"])
    crew = Crew([Agent(ROLE)], [Task("About {topic} for {reader}")])
    with pytest.raises(ConfigError, match=r"needs the input \{reader\}; given: topic"):
        Supervisor(model=model, store=MemoryStore()).run(crew, {"topic": "gzip"})
    assert not model.calls


def test_an_input_is_never_expanded_itself() -> None:
    """A value that looks like a variable stays as it is."""
    model = ScriptedModel(["answer"])
    crew = Crew([Agent(ROLE)], [Task("About {topic}")])
    Supervisor(model=model, store=MemoryStore()).run(crew, {"topic": "{secret} {topic}"})
    assert model.calls[0].messages[1].text == "About {secret} {topic}"


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Crew([], [Task("x")]), "has no agents"),
        (lambda: Crew([Agent(ROLE)], []), "has no tasks"),
        (lambda: Crew([Agent(ROLE), Agent(ROLE)], [Task("x", agent="researcher")]), "two agents are named"),
        (lambda: Crew([Agent(ROLE)], [Task("x", agent="writer")]), "names the agent 'writer'"),
        (lambda: Agent(Role(name="r", goal="g", tools=("read",)), (look,)), "allows the tools read, not 'look'"),
    ],
)
def test_a_crew_that_can_not_work_is_refused_where_it_is_built(build: Callable[[], Any], said: str) -> None:
    """With the names that would be right."""
    with pytest.raises(ValueError, match=said):
        build()


def test_run_works_inside_a_running_loop() -> None:
    """As in a notebook: the caller's loop is blocked, the run's own is not."""

    async def cell() -> Result:
        return go(ScriptedModel([look_call(), "answer"]))

    assert asyncio.run(cell()).output == "answer"


def test_arun_is_the_same_in_async_code() -> None:
    """Two runs at once on the caller's loop."""

    async def both() -> list[Result]:
        model = ScriptedModel(["answer"], repeat=True)
        supervisor = Supervisor(model=model, store=MemoryStore())
        crew = Crew([Agent(ROLE)], [Task("x")])
        return list(await asyncio.gather(*(supervisor.arun(crew, {"topic": "t"}) for _ in range(2))))

    assert [result.output for result in asyncio.run(both())] == ["answer", "answer"]


def test_cancelling_arun_ends_the_run_and_its_record() -> None:
    """The provider never answers; the caller goes away; the journal says how it ended."""
    store, begun = MemoryStore(), threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def caller() -> None:
        supervisor = Supervisor(model=ScriptedModel([Reply("x", wait=never)]), store=store)
        task = asyncio.create_task(supervisor.arun(Crew([Agent(ROLE)], [Task("x")]), {"topic": "t"}, run_id="gone"))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while store.runs()[0].ended is None:
            await asyncio.sleep(0)

    asyncio.run(caller())
    assert store.runs()[0].status == "stopped"


def test_a_run_can_be_killed_from_another_thread() -> None:
    """The result comes at once, and says who killed it."""
    begun = threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    supervisor = Supervisor(model=ScriptedModel([Reply("x", wait=never)]), store=MemoryStore())
    results: list[Result] = []
    crew = Crew([Agent(ROLE)], [Task("x")], fallback=fixed)
    thread = threading.Thread(target=lambda: results.append(supervisor.run(crew, {"topic": "t"}, run_id="doomed")))
    thread.start()
    assert begun.wait(20)
    assert supervisor.kill("doomed", "wrong customer")
    thread.join(20)
    assert (results[0].status, results[0].output) == ("stopped", None)
    assert "wrong customer" in str(results[0].stopped)
    assert not supervisor.kill("doomed")


def test_an_async_tool_that_blocks_the_loop_does_not_hold_the_result() -> None:
    """The caller's thread takes the result at the deadline and names the action; later runs have a loop."""
    release = threading.Event()

    @tool
    async def blocks() -> str:
        """Block the loop."""
        release.wait(30)
        return "never"

    crew = Crew([Agent(ROLE, (blocks,))], [Task("x")])
    policy = Policy.model_validate({"limits": {"max_seconds": 0.05}})
    model = ScriptedModel([Reply(tools=(("blocks", "{}"),))])
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew, {"topic": "t"})
    assert (result.status, result.late) == ("stopped", ("researcher/blocks",))
    assert go(ScriptedModel(["answer"])).output == "answer"
    release.set()


def test_a_run_id_is_used_once() -> None:
    """The second run with it is refused before anything is asked of a model."""
    model = ScriptedModel(["answer"], repeat=True)
    supervisor = Supervisor(model=model, store=MemoryStore())
    crew = Crew([Agent(ROLE)], [Task("x")])
    supervisor.run(crew, {"topic": "t"}, run_id="mine")
    with pytest.raises(JournalConflictError):
        supervisor.run(crew, {"topic": "t"}, run_id="mine")
    assert len(model.calls) == 1


def test_what_is_no_crew_is_told_where_to_go() -> None:
    """guard() takes a host's own."""
    with pytest.raises(ConfigError, match=r"guard\(\) takes"):
        Supervisor(store=MemoryStore()).run("crew")  # type: ignore[arg-type]
