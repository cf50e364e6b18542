"""A crew of ours on CrewAI: its own agents, tasks and crew, and the same figures as at home."""

import asyncio
import gc
import threading

import pytest
from pydantic import BaseModel

from crew_guard import Agent, Crew, Role, Supervisor, Task, Verdict, tool
from crew_guard.adapters.crewai.host_crew import CompiledRuntime
from crew_guard.core.usage import Rate, Rates
from crew_guard.errors import ConfigError, ModelError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.clock import no_time_passes
from tests.adapters.guarding import policy

RATES = Rates(Rate(2_000_000_000), Rate(8_000_000_000))


class Note(BaseModel):
    text: str
    number: int


def role(name, **options):
    return Role(name=name, goal=f"be a {name} of {{topic}}", **options)


def looking():
    executions = []

    @tool
    def look(query: str, times: int = 1) -> str:
        """Look something up."""
        executions.append(query)
        return f"found {query} {times}"

    return look, executions


def asks(query):
    return Reply("", tools=(("look", f'{{"query": "{query}"}}'),))


def run(crew, script, runtime, rules=None, **options):
    """One run of a crew, its models' script played from the beginning."""
    model = ScriptedModel(script, rates=RATES, **options)
    store = MemoryStore()
    supervisor = Supervisor(rules or policy(max_steps=30), model=model, store=store, runtime=runtime)
    result = supervisor.run(crew, {"topic": "gzip"}, run_id=runtime)
    return result, model, store


def both(make, script, rules=None, **options):
    """The same crew at home and on CrewAI: (home, hosted), which must cost the same."""
    home, at_home, _ = run(make(), script, "native", rules, **options)
    hosted, abroad, _ = run(make(), script, "crewai", rules, **options)
    assert (hosted.status, hosted.output, hosted.usage) == (home.status, home.output, home.usage)
    assert hosted.agents == home.agents
    assert hosted.verdicts == home.verdicts or [(v.agent, v.task, v.passed) for v in hosted.verdicts] == [
        (v.agent, v.task, v.passed) for v in home.verdicts
    ]
    assert hosted.stopped == home.stopped
    assert [call.messages for call in abroad.calls] == [call.messages for call in at_home.calls]
    return home, hosted


def two_tasks(**options):
    look, _ = looking()

    def make():
        reader, writer = Agent(role("reader"), tools=[look]), Agent(role("writer"))
        read = Task("Read about {topic}.", "reader", name="read")
        return Crew([reader, writer], [read, Task("Write of it.", "writer", name="write", **options)])

    return make


def test_a_sequential_crew_costs_what_it_costs_at_home():
    """Steps, tool calls, tokens, dollars and every message to the model are equal."""
    script = [
        asks("zlib"),
        Reply("", tools=(("look", '{"query": "a"}'), ("look", '{"query": "b"}'))),
        "read",
        "written",
    ]
    home, hosted = both(two_tasks(), script)
    assert (hosted.output, hosted.usage.tool_calls, hosted.usage.steps) == ("written", 3, 4)
    assert hosted.usage.nano_usd == home.usage.nano_usd > 0


def test_an_answer_that_does_not_follow_its_model_is_mended():
    """A structured output is an instance of the task's own class."""
    _, hosted = both(two_tasks(output=Note), ["read", "no JSON", '{"text": "zlib", "number": 2}'])
    assert hosted.output == Note(text="zlib", number=2)
    assert hosted.usage.steps == 3


def test_what_a_model_gets_wrong_is_told_to_it_in_the_same_words():
    """A tool it hasn't got, and arguments that don't fit, start no execution."""
    wrong = Reply("", tools=(("lok", "{}"), ("look", '{"query": 1, "more": 2}'), ("look", '{"query": "ok"}')))
    _, hosted = both(two_tasks(), [wrong, Reply("", tools=(("look", "{"),)), "read", "written"])
    assert hosted.usage.tool_calls == 1


def test_a_verifier_that_says_no_ends_the_crews_part():
    """As at home: the first task's output fails it, and the second never begins."""
    look, _ = looking()

    def make():
        read = Task("Read.", "reader", name="read", verify=lambda output, context: Verdict(passed=False, reason="thin"))
        return Crew([Agent(role("reader"), tools=[look]), Agent(role("writer"))], [read, Task("Write.", "writer")])

    home, hosted = both(make, ["read", "never"])
    assert hosted.status == "failed"
    assert hosted.error == home.error
    assert "thin" in hosted.error
    assert hosted.partial == home.partial == "read"


def test_a_task_s_guardrails_hold():
    """What is turned down is mended in the same conversation."""
    seen = []

    def polite(output):
        seen.append(output)
        return (True, output) if "please" in output else (False, "say please")

    _, hosted = both(two_tasks(guardrails=[polite]), ["read", "now", "now, please"])
    assert hosted.output == "now, please"
    assert seen == ["now", "now, please"] * 2


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_is_exactly_as_many_model_calls(steps):
    """The refusal ends the host's run, and what there is so far is kept."""
    home, hosted = both(two_tasks(), lambda request: asks("more"), policy(max_steps=steps))
    assert hosted.usage.steps == steps
    assert hosted.stopped.limit == "max_steps"
    assert hosted.partial == home.partial


@pytest.mark.parametrize("cap", [{"max_tool_calls": 2, "max_steps": 9}, {"max_tokens": 3000}])
def test_other_caps_stop_it_where_they_stop_it_at_home(cap):
    """A tool's cap is told to the agent, a run's ends it: the same on both."""
    both(two_tasks(), lambda request: asks("more"), policy(**cap), obeys_limit=True)


def test_a_provider_that_fails_is_tried_again_by_the_gate_alone():
    """Two attempts and two steps, and none by CrewAI's own retries."""
    throttled = ModelError("too many: rate limit", kind="unreachable")
    _, hosted = both(two_tasks(), [throttled, "read", "written"])
    assert hosted.usage.steps == 3
    result, model, _ = run(two_tasks()(), [ModelError("rate limit exceeded", kind="rejected")], "crewai")
    assert (result.status, len(model.calls)) == ("failed", 1)
    assert "rate limit exceeded" in result.error


def parallel_crew(count=8):
    agents = [Agent(role(f"reader{i}")) for i in range(count)]
    tasks = [Task("Read about {topic}.", f"reader{i}", name=f"read{i}") for i in range(count)]
    last = Task("Join.", "joiner", name="join", context=[task.name for task in tasks])
    return Crew([*agents, Agent(role("joiner"))], [*tasks, last], process="parallel")


def test_a_parallel_crew_runs_its_tasks_at_the_same_time():
    """Eight branches wait for each other, then one joins them: the same figures as at home."""

    def script(meeting):
        return lambda request: "joined" if "Join." in request.messages[1].text else Reply("read", wait=meeting.wait)

    home, at_home, _ = run(parallel_crew(), script(asyncio.Barrier(8)), "native")
    hosted, abroad, _ = run(parallel_crew(), script(asyncio.Barrier(8)), "crewai")
    assert (hosted.output, hosted.usage, hosted.agents) == (home.output, home.usage, home.agents)
    assert hosted.output == "joined"
    assert abroad.billed == at_home.billed


def test_an_agent_has_several_tasks_at_the_same_time():
    """They wait for each other, each with its own conversation, and the agent is one: what it uses is charged to it."""
    look, _ = looking()
    tasks = [Task(f"Read {name}.", "reader", name=name) for name in "abc"]
    tasks.append(Task("Join.", "reader", name="join", context=[*"abc"]))

    def script(meeting):
        def answer(request):
            said = request.messages[1].text
            if "Join." in said:
                return "joined"
            if answers := [message.text for message in request.messages if message.speaker == "tool"]:
                return f"{said[5]}: {answers}"
            asked = asks(said[5])
            return Reply("", tools=asked.tools, wait=meeting.wait)

        return answer

    rules = policy(max_agents=1, max_steps=7, max_tool_calls=3)
    crew = Crew([Agent(role("reader"), tools=[look])], tasks, process="parallel")
    home, _, _ = run(crew, script(asyncio.Barrier(3)), "native", rules)
    hosted, _, _ = run(crew, script(asyncio.Barrier(3)), "crewai", rules)
    assert (hosted.status, hosted.output, hosted.error) == ("done", "joined", "")
    assert (hosted.usage, hosted.agents) == (home.usage, home.agents)
    assert (list(hosted.agents), hosted.usage.agents, hosted.usage.steps) == (["reader"], 1, 7)


@pytest.mark.parametrize("cap", [{"max_steps": 5}, {"max_tokens": 700}])
def test_parallel_branches_share_one_cap(cap):
    """No fan-out overshoots."""
    result, model, _ = run(parallel_crew(), lambda request: "read" * 20, "crewai", policy(**cap))
    assert result.status == "stopped"
    assert len(model.calls) == result.usage.steps <= cap.get("max_steps", 9)
    assert model.billed.tokens == result.usage.tokens <= cap.get("max_tokens", 10**9)


def managed():
    look, _ = looking()
    return Crew([Agent(role("worker"), tools=[look])], [Task("Do it for {topic}.", name="do")], process="hierarchical")


def test_a_manager_delegates_by_crewais_own_tool():
    """A handoff, the worker's work inside of it, and the same figures as at home."""
    give = Reply("", tools=(("delegate", '{"agent": "worker", "task": "look it up"}'),))
    script = [give, asks("zlib"), "it is a library", "managed"]
    both(managed, script)
    _, _, store = run(managed(), script, "crewai")
    admitted = [event for event in store.read("crewai") if type(event).__name__ == "Admitted"]
    handoff = next(event for event in admitted if event.kind == "handoff")
    assert (handoff.agent, handoff.target) == ("manager", "worker")
    assert [event.parent for event in admitted if event.agent == "worker" and event.kind == "model_call"] == [
        handoff.action_id
    ] * 2


def test_a_worker_that_fails_is_refused_where_the_run_is_over():
    """The cap holds across manager and worker."""
    give = Reply("", tools=(("delegate", '{"agent": "worker", "task": "look it up"}'),))

    def script(request):
        return asks("more") if any(spec.name == "look" for spec in request.tools) else give

    _, hosted = both(managed, script, policy(max_steps=4))
    assert (hosted.usage.steps, hosted.stopped.limit) == (4, "max_steps")


def test_the_host_has_its_own_objects_and_calls_its_own_callbacks():
    """Names are kept, and a task_callback of CrewAI hears each task's output."""
    heard, crews = [], []

    def listener(crew):
        crews.append(crew)
        crew.task_callback = lambda output: heard.append((output.name, output.agent, output.raw))

    model = ScriptedModel(["read", "written"])
    runtime = CompiledRuntime(two_tasks()(), lambda agent: model, [listener])
    supervisor = Supervisor(policy(max_steps=9), store=MemoryStore())
    result = supervisor.run_runtime(runtime, {"topic": "x"}, name="crew").future.result(30)
    assert result.output == "written"
    assert heard == [("read", "reader", "read"), ("write", "writer", "written")]
    assert [agent.role for agent in crews[0].agents] == ["reader", "writer"]
    assert [tool.name for tool in crews[0].agents[0].tools] == ["look"]


def test_a_deadline_ends_the_hosts_work():
    """A model that never answers, and a tool that blocks its thread: the result comes, and names the thread."""

    async def never():
        time_is_up()
        await asyncio.Event().wait()

    with no_time_passes() as time_is_up:
        result, model, _ = run(two_tasks()(), [Reply("late", wait=never)], "crewai", policy(max_seconds=9))
    assert (result.status, result.stopped.limit, len(model.calls)) == ("stopped", "max_seconds", 1)
    go, over = threading.Event(), threading.Event()

    @tool
    def stuck() -> str:
        """Never come back."""
        time_is_up()
        go.wait(60)
        over.set()
        return "late"

    crew = Crew([Agent(role("reader"), tools=[stuck])], [Task("Read.")])
    with no_time_passes() as time_is_up:
        result, _, _ = run(crew, [Reply("", tools=(("stuck", "{}"),))], "crewai", policy(max_seconds=9))
    assert not over.is_set()
    go.set()
    assert (result.stopped.limit, result.late) == ("max_seconds", ("reader/stuck",))


def test_nothing_is_said_of_what_a_deadline_ended(caplog):
    """No task of the run's is left with an error that nobody reads."""
    never = Reply("late", wait=lambda: asyncio.Event().wait())
    result, _, _ = run(two_tasks()(), [never], "crewai", policy(max_seconds=1))
    assert result.stopped.limit == "max_seconds"
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("process", ["handoff", "conversation"])
def test_a_process_that_crewai_has_not_is_refused_by_name(process):
    """The error names the process, the host and those it has."""
    from crew_guard.core.processes import Turns

    turns = {"turns": Turns(max_turns=2)} if process == "conversation" else {}
    crew = Crew([Agent(role("a")), Agent(role("b"))], [Task("Talk.", "a")], process=process, **turns)
    with pytest.raises(ConfigError, match=f"CrewAI has no process {process}; it has sequential, parallel"):
        run(crew, ["x"], "crewai")


def staged(verify=None):
    names = {"a": (), "b": (), "c": ("a",), "d": ("a", "b"), "e": ("c",)}
    tasks = [Task(f"Do {name}.", name, name=name, context=needs) for name, needs in names.items()]
    tasks[1] = Task("Do b.", "b", name="b", context=(), verify=verify)
    return Crew([Agent(role(name)) for name in names], tasks, process="parallel")


def test_tasks_that_need_each_other_run_in_stages():
    """Each gets the outputs it names, and all that nobody takes up are the crew's output."""

    def script(request):
        said = request.messages[1].text
        return f"{said[3]}({''.join(one for one in 'abcde' if f'{one}:' in said)})"

    home, _, _ = run(staged(), script, "native")
    hosted, _, _ = run(staged(), script, "crewai")
    assert hosted.output == home.output == {"d": "d(ab)", "e": "e(c)"}
    assert hosted.usage == home.usage
    assert hosted.agents == home.agents


def test_a_verifier_that_says_no_ends_the_other_branches():
    """What it failed is not among what there is so far."""
    hosted, model, _ = run(staged(lambda output, context: False), lambda request: "text", "crewai")
    assert hosted.status == "failed"
    assert "verifier of b said no" in hosted.error
    assert "b" not in hosted.partial
    assert len(model.calls) < 5
