"""A crew on AutoGen's agents and teams: what its models are asked and what it costs is as on our own runtime."""

import asyncio
import logging
import threading

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from pydantic import BaseModel

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Verdict, tool
from crew_guard.core.processes import Turns
from crew_guard.core.usage import Rate, Rates
from crew_guard.errors import ConfigError, ModelError
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

RATES = Rates(Rate(2_000_000_000), Rate(8_000_000_000))


class Notes(BaseModel):
    """What was found."""

    facts: list[str]


@tool
def search(query: str) -> str:
    """Find passages."""
    return f"passages about {query}"


@tool
def broken(query: str) -> str:
    """Never works."""
    raise KeyError(query)


def agent(name, **options):
    return Agent(Role(name=name, goal=f"be {name}", instructions="Look at {topic}."), model=name, **options)


def calls(request, **arguments):
    pairs = ", ".join(f'"{key}": "{value}"' for key, value in arguments.items())
    return Reply(tools=((request, f"{{{pairs}}}"),))


ANN, BOB, CY = agent("ann", tools=[search, broken]), agent("bob"), agent("cy")


def sequential():
    """Tools, one that raises, one that is not there, arguments that are no JSON; a structured answer that is mended."""
    tasks = [
        Task("Find out about {topic}.", "ann", output=Notes, name="notes"),
        Task("Write it down.", "bob", name="brief", verify=lambda output, _: Verdict(passed="gzip" in output)),
    ]
    ann = [
        Reply("I look.", tools=(("search", '{"query": "gzip"}'), ("broken", '{"query": "x"}'))),
        Reply(tools=(("nothing", "{}"), ("search", "no json"), ("search", '{"wrong": 1}'), ("search", "[]"))),
        "no JSON at all",
        '```json\n{"facts": ["gzip is old"]}\n```',
    ]
    return Crew([ANN, BOB], tasks), {"ann": ann, "bob": ["", "gzip is old"]}


def retried():
    """A provider that fails once: each attempt is a step."""
    error = ModelError("it broke", kind="malformed")
    return Crew([BOB], [Task("Say it.", "bob")]), {"bob": [error, "said"]}


def parallel():
    """Two at once, and one that needs both."""
    tasks = [
        Task("One.", "ann", name="one"),
        Task("Two.", "bob", name="two"),
        Task("Both.", "cy", name="both", context=["one", "two"]),
    ]
    scripts = {"ann": [calls("search", query="a"), "first"], "bob": ["second"], "cy": ["third"]}
    return Crew([ANN, BOB, CY], tasks, process="parallel"), scripts


def hierarchical():
    """A manager delegates twice and answers."""
    boss = [calls("delegate", agent="ann", task="look"), calls("delegate", agent="bob", task="write"), "all done"]
    scripts = {"boss": boss, "ann": [calls("search", query="a"), "found"], "bob": ["written"]}
    crew = Crew([ANN, BOB], [Task("Do it.")], process="hierarchical", manager=agent("boss"))
    return crew, scripts


def handed_over():
    """From one to the next and back."""
    ann = [calls("search", query="a"), calls("handoff", agent="bob", reason="yours"), "the end"]
    crew = Crew([ANN, BOB], [Task("Talk.", "ann")], process="handoff")
    return crew, {"ann": ann, "bob": [calls("handoff", agent="ann", reason="no, yours")]}


def conversation():
    """In turns until a phrase, with a conclusion."""
    scripts = {"ann": ["hello", calls("search", query="a"), "so be it. DONE.", '{"facts": ["x"]}'], "bob": ["hi, ann"]}
    crew = Crew([ANN, BOB], [Task("Agree.", output=Notes)], process="conversation", turns=Turns(until="DONE"))
    return crew, scripts


def chaired():
    """Somebody says who speaks next, until all is said."""
    scripts = {"ann": ["hello"], "bob": ["hi"], "cy": ["hey"], "chair": ["cy", "bob, please", "DONE"]}
    crew = Crew(
        [ANN, BOB, CY], [Task("Talk.")], process="conversation", turns=Turns(max_turns=9), selector=agent("chair")
    )
    return crew, scripts


CREWS = [sequential, retried, parallel, hierarchical, handed_over, conversation, chaired]


def run(crew, scripts, runtime, **limits):
    models = {name: ScriptedModel(script, name=name, rates=RATES) for name, script in scripts.items()}
    rules = Policy.model_validate({"limits": {"max_usd": 9, **limits}})
    supervisor = Supervisor(rules, models=models, store=MemoryStore(), runtime=runtime)
    return supervisor.run(crew, {"topic": "gzip"}), models


@pytest.mark.parametrize("make", CREWS)
def test_a_scripted_crew_is_the_same_on_autogen_as_on_our_own_runtime(make):
    """Each request's messages, the result, and everyone's steps, tool calls, tokens and dollars."""
    ours, our_models = run(*make(), "native")
    theirs, their_models = run(*make(), "autogen")
    assert (theirs.status, theirs.output, theirs.partial) == (ours.status, ours.output, ours.partial) != ("failed",)
    for name, model in our_models.items():
        assert [call.messages for call in their_models[name].calls] == [call.messages for call in model.calls]
        assert their_models[name].billed == model.billed
    assert theirs.usage == ours.usage
    assert theirs.agents == ours.agents
    assert ours.status == "done"


@pytest.mark.parametrize("make", CREWS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_max_steps_is_the_same_and_exact_on_autogen(make, steps):
    """Stopped or done: as many model calls, and what there is so far."""
    ours, _ = run(*make(), "native", max_steps=steps)
    theirs, models = run(*make(), "autogen", max_steps=steps)
    assert sum(len(model.calls) for model in models.values()) == theirs.usage.steps == ours.usage.steps
    assert (theirs.status, theirs.stopped) == (ours.status, ours.stopped)
    if make is not parallel:  # how far the others got when one was refused is a matter of chance
        assert theirs.partial == ours.partial


def test_its_agents_and_teams_are_autogens_own(monkeypatch):
    """Names kept; a conversation is a RoundRobinGroupChat, with a selector a SelectorGroupChat."""
    seen = []
    for kind in (AssistantAgent, RoundRobinGroupChat, SelectorGroupChat):
        name = "run" if kind is not AssistantAgent else "on_messages_stream"
        monkeypatch.setattr(kind, name, _noting(seen, getattr(kind, name)))
    run(*conversation(), "autogen")
    run(*chaired(), "autogen")
    run(*sequential(), "autogen")
    assert {"RoundRobinGroupChat", "SelectorGroupChat"} <= {type(one).__name__ for one in seen}
    names = {one.name for one in seen if isinstance(one, AssistantAgent)}
    assert names == {"ann", "bob", "cy", "chair"}


def _noting(seen, original):
    def noted(self, *args, **options):
        seen.append(self)
        return original(self, *args, **options)

    return noted


def test_a_name_that_autogen_does_not_take_is_kept_for_everyone_else():
    """AutoGen takes identifiers only: policies, ledgers and the other agents still read the crew's own name."""
    scripts = {"the writer": ["hello", "bye DONE"], "bob": ["hi"]}
    crew = Crew([agent("the writer"), BOB], [Task("Talk.")], process="conversation", turns=Turns(until="DONE"))
    ours, our_models = run(crew, scripts, "native")
    theirs, models = run(crew, scripts, "autogen")
    assert theirs.agents == ours.agents
    assert [call.messages for call in models["bob"].calls] == [call.messages for call in our_models["bob"].calls]


def test_two_names_that_autogen_takes_for_one_are_refused():
    """Nothing runs where one agent would be taken for another."""
    crew = Crew([agent("the writer"), agent("the-writer")], [Task("x", "the writer")])
    with pytest.raises(ConfigError, match="the_writer"):
        run(crew, {"the writer": [], "the-writer": []}, "autogen")


def test_a_kill_ends_a_tool_in_flight():
    """What there is so far goes with the result, and AutoGen's task of the tool is ended."""
    begun, ended = threading.Event(), threading.Event()

    @tool
    async def wait(query: str) -> str:
        """Wait for ever."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    models = {"ann": ScriptedModel([Reply("I wait.", tools=(("wait", '{"query": "x"}'),))], name="ann")}
    supervisor = Supervisor(Policy(), models=models, store=MemoryStore(), runtime="autogen")
    crew = Crew([agent("ann", tools=[wait])], [Task("x")])
    results = []
    thread = threading.Thread(target=lambda: results.append(supervisor.run(crew, {"topic": "x"}, run_id="r")))
    thread.start()
    assert begun.wait(10)
    assert supervisor.kill("r")
    thread.join(10)
    assert results[0].stopped.reason == "killed"
    assert ended.wait(30)


@pytest.mark.parametrize(
    ("turns", "limits", "why"),
    [
        (Turns(until="DONE"), {"max_steps": 2}, "max_steps"),
        (Turns(until="DONE", max_turns=2), {}, "came to no end in 2 turns"),
    ],
)
def test_a_conversation_that_is_ended_is_no_error_of_autogens_log(turns, limits, why, caplog):
    """The result tells it, as on our own runtime; no traceback does."""
    crew = Crew([ANN, BOB], [Task("Talk.", "ann")], process="conversation", turns=turns)
    scripts = {"ann": ["one", "three"], "bob": ["two"]}
    ours, _ = run(crew, scripts, "native", **limits)
    with caplog.at_level(logging.WARNING):
        theirs, _ = run(crew, scripts, "autogen", **limits)
    assert why in f"{theirs.stopped} {theirs.error}"
    assert (theirs.status, theirs.stopped, theirs.error) == (ours.status, ours.stopped, ours.error)
    assert (theirs.partial, theirs.agents, caplog.records) == (ours.partial, ours.agents, [])


def test_a_conversation_hears_an_answer_as_its_guardrail_fixed_it():
    """Each request is the same as on our own runtime, the speaker's own context included."""
    crew = Crew([ANN, BOB], [Task("Talk.", "ann")], process="conversation", turns=Turns(max_turns=4))
    scripts = {"ann": ["it is hunter22", "bye"], "bob": ["mine is hunter22", "bye"]}
    rules = {"content": {"outputs": [{"topics": {"forbid": ["hunter2+"], "action": "fix"}}]}}
    asked = {}
    for runtime in ("native", "autogen"):
        models = {name: ScriptedModel(script, name=name) for name, script in scripts.items()}
        supervisor = Supervisor(Policy.model_validate(rules), models=models, store=MemoryStore(), runtime=runtime)
        assert supervisor.run(crew, {"topic": "gzip"}).output == "bye"
        asked[runtime] = {name: [call.messages for call in model.calls] for name, model in models.items()}
    assert asked["autogen"] == asked["native"]
    assert "hunter22" not in str(asked["autogen"]["bob"][0])
