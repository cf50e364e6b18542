"""Every process of our own runtime, through the public door, on scripted models."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, Verdict, tool
from crew_guard.core.events import Admitted, Refused
from crew_guard.core.messages import ModelRequest
from crew_guard.core.processes import Said, Turns
from crew_guard.errors import ModelError
from crew_guard.testing import MemoryStore, Reply, ScriptedModel


def agent(name: str, **options: Any) -> Agent:
    return Agent(Role(name=name, goal=f"be {name}"), model=name, **options)


ANN, BOB, CY = agent("ann"), agent("bob"), agent("cy")


def go(crew: Crew, models: dict[str, ScriptedModel], store: Any = None, **policy: Any) -> Result:
    supervisor = Supervisor(Policy.model_validate(policy), models=models, store=store or MemoryStore())
    return supervisor.run(crew, {"topic": "gzip"}, run_id="run")


def scripted(**scripts: Any) -> dict[str, ScriptedModel]:
    return {name: ScriptedModel(scripts.get(name, ()), name=name) for name in ("ann", "bob", "cy", "boss", "chair")}


def calls(request: str, **arguments: str) -> Reply:
    pairs = ", ".join(f'"{key}": "{value}"' for key, value in arguments.items())
    return Reply(tools=((request, f"{{{pairs}}}"),))


def handoffs(store: MemoryStore) -> list[Admitted]:
    return [event for event in store.read("run") if isinstance(event, Admitted) and event.kind == "handoff"]


# Parallel


def test_tasks_that_do_not_need_each_other_run_at_once() -> None:
    """Each model waits for the other's call: one after the other would never end."""
    here, there = asyncio.Event(), asyncio.Event()

    def meets(mine: asyncio.Event, other: asyncio.Event) -> Any:
        async def wait() -> None:
            mine.set()
            await other.wait()

        return wait

    models = scripted(ann=[Reply("a", wait=meets(here, there))], bob=[Reply("b", wait=meets(there, here))])
    tasks = [Task("x", "ann", name="one"), Task("y", "bob", name="two")]
    result = go(Crew([ANN, BOB], tasks, process="parallel"), models, limits={"max_seconds": 20})
    assert (result.status, result.output) == ("done", {"one": "a", "two": "b"})
    assert "one:" not in models["bob"].calls[0].messages[1].text


def test_a_task_waits_for_what_it_needs_and_sees_only_that() -> None:
    """Three find, one of them is not needed by the writer; the writer's output is one of two results."""
    models = scripted(ann=["a1", "a2"], bob=["b"], cy=["c"])
    tasks = [
        Task("write", "cy", name="brief", context=["one", "two"]),
        Task("x", "ann", name="one"),
        Task("y", "bob", name="two"),
    ]
    result = go(Crew([ANN, BOB, CY], tasks, process="parallel"), models)
    assert result.output == "c"
    assert models["cy"].calls[0].messages[1].text == "write\n\none:\na1\n\ntwo:\nb"


def test_one_task_that_fails_ends_the_others_and_hands_over_what_there_is() -> None:
    """The second is cancelled in its call; what the first made is in partial."""
    begun = asyncio.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    models = scripted(ann=["a"], bob=[Reply("b", wait=never)], cy=[Reply("", wait=begun), Reply(""), Reply("")])
    tasks = [Task("x", who, name=who) for who in ("ann", "bob", "cy")]
    result = go(Crew([ANN, BOB, CY], tasks, process="parallel"), models, limits={"max_seconds": 20})
    assert (result.status, result.output, result.partial) == ("failed", None, {"ann": "a"})
    assert "cy: the answer is empty" in result.error


def test_a_provider_that_fails_for_good_ends_all_tasks() -> None:
    """Its error is the run's; the other's call is settled as cancelled."""
    begun = asyncio.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    broken = ModelError("no such model", kind="rejected", status=404)
    models = scripted(ann=[Reply(error=broken, wait=begun)], bob=[Reply("b", wait=never)])
    tasks = [Task("x", "ann"), Task("y", "bob")]
    result = go(Crew([ANN, BOB], tasks, process="parallel"), models, limits={"max_seconds": 20})
    assert (result.status, result.error, result.late) == ("failed", "no such model", ())


def test_an_output_that_its_verifier_rejects_is_built_on_by_nobody() -> None:
    """The task that needs it never starts."""
    models = scripted(ann=["a"], bob=[])
    tasks = [
        Task("x", "ann", name="one", verify=lambda *_: Verdict(passed=False, reason="wrong")),
        Task("y", "bob", context=["one"]),
    ]
    result = go(Crew([ANN, BOB], tasks, process="parallel"), models)
    assert (result.status, result.partial) == ("failed", "a")
    assert "wrong" in result.error
    assert not models["bob"].calls


# Hierarchical


def led(*tasks: Task, agents: Any = (ANN, BOB), **options: Any) -> Crew:
    manager = options.pop("manager", agent("boss"))
    return Crew(agents, tasks or (Task("About {topic}"),), process="hierarchical", manager=manager, **options)


def test_a_manager_delegates_and_answers() -> None:
    """Each delegation is an action with a parent's place; what a member does inside is charged to the manager, too."""
    store = MemoryStore()
    models = scripted(
        boss=[calls("delegate", agent="ann", task="find {x}"), calls("delegate", agent="bob", task="write"), "all"],
        ann=["notes"],
        bob=["text"],
    )
    result = go(led(), models, store)
    assert (result.status, result.output) == ("done", "all")
    assert [(one.agent, one.target, one.arguments) for one in handoffs(store)] == [
        ("boss", "ann", "find {x}"),
        ("boss", "bob", "write"),
    ]
    inner = [one for one in store.read("run") if isinstance(one, Admitted) and one.target == "scripted:ann"]
    assert inner[0].parent == handoffs(store)[0].action_id
    assert models["ann"].calls[0].messages[1].text == "find {x}"
    assert models["boss"].calls[1].messages[-1].text == "notes"
    assert (result.usage.steps, result.usage.agents) == (5, 3)
    assert result.agents["boss"].steps == 3
    known = models["boss"].calls[0].request.tools[0]
    assert known.name == "delegate"
    assert "- ann: be ann" in known.description
    assert known.parameters["properties"]["agent"]["enum"] == ["ann", "bob"]


def test_two_delegations_of_one_turn_run_at_once() -> None:
    """Each member waits for the other."""
    here, there = asyncio.Event(), asyncio.Event()

    async def left() -> None:
        here.set()
        await there.wait()

    async def right() -> None:
        there.set()
        await here.wait()

    asked = (("delegate", '{"agent": "ann", "task": "x"}'), ("delegate", '{"agent": "bob", "task": "y"}'))
    models = scripted(boss=[Reply(tools=asked), "all"], ann=[Reply("a", wait=left)], bob=[Reply("b", wait=right)])
    assert go(led(), models, limits={"max_seconds": 20}).output == "all"
    assert [message.text for message in models["boss"].calls[1].messages[-2:]] == ["a", "b"]


def test_a_crew_without_a_manager_gets_one() -> None:
    """It runs on the supervisor's own model."""
    crew = Crew([ANN], [Task("x")], process="hierarchical")
    models = scripted(ann=["a"])
    lead = ScriptedModel([calls("delegate", agent="ann", task="x"), "done"])
    result = Supervisor(Policy(), model=lead, models=models, store=MemoryStore()).run(crew)
    assert (result.output, set(result.agents)) == ("done", {"ann", "manager"})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (calls("delegate", agent="dan", task="x"), "Input should be 'ann' or 'bob'"),
        (calls("delegate", agent="ann"), "task: Field required"),
        (calls("dig"), "there is no tool 'dig'; yours: delegate"),
    ],
)
def test_a_delegation_that_makes_no_sense_is_told(asked: Reply, said: str) -> None:
    """And nothing is admitted for it."""
    store = MemoryStore()
    models = scripted(boss=[asked, "done"])
    assert go(led(), models, store).output == "done"
    assert said in models["boss"].calls[1].messages[-1].text
    assert not handoffs(store)


def test_a_member_that_can_not_finish_is_told_to_the_manager() -> None:
    """Three empty answers; the manager goes on without them."""
    models = scripted(boss=[calls("delegate", agent="ann", task="x"), "done"], ann=[Reply("")] * 3)
    assert go(led(), models).output == "done"
    assert models["boss"].calls[1].messages[-1].text == "ann could not finish: the answer is empty"


@pytest.mark.parametrize(("cap", "depth"), [(0, 0), (1, 1), (2, 2), (None, 3)])
def test_delegation_nests_as_deep_as_max_depth(cap: int | None, depth: int) -> None:
    """Each delegates to the next; the one that may not is told so, and answers by itself."""
    agents = [agent(name, delegates=True) for name in ("ann", "bob", "cy")]
    chain = {"boss": "ann", "ann": "bob", "bob": "cy"}

    def play(name: str) -> Any:
        def reply(request: ModelRequest) -> Reply | str:
            last = request.messages[-1]
            if last.speaker == "tool" or name not in chain:
                return f"{name} says {last.text}" if last.speaker == "tool" else name
            return calls("delegate", agent=chain[name], task="go")

        return reply

    store = MemoryStore()
    models = {name: ScriptedModel(play(name), name=name) for name in ("boss", "ann", "bob", "cy")}
    result = go(led(agents=agents), models, store, limits={} if cap is None else {"max_depth": cap})
    assert result.status == "done"
    assert len(handoffs(store)) == depth
    refused = [event for event in store.read("run") if isinstance(event, Refused)]
    assert [event.stop.limit for event in refused] == (["max_depth"] if cap is not None else [])
    if cap is not None:
        assert f"max_depth of run: the cap is {cap}, {cap} used, 1 more needed" in str(result.output)


def test_nobody_calls_one_who_waits_for_the_answer() -> None:
    """A member that delegates sees neither itself nor who is above it: there is no circle to get into."""
    agents = [agent("ann", delegates=True), agent("bob", delegates=True)]
    models = scripted(
        boss=[calls("delegate", agent="ann", task="x"), "done"],
        ann=[calls("delegate", agent="bob", task="x"), "a"],
        bob=["b"],
    )
    assert go(led(agents=agents), models).output == "done"
    assert models["ann"].calls[0].request.tools[0].parameters["properties"]["agent"]["const"] == "bob"
    assert not models["bob"].calls[0].request.tools


def test_the_managers_cap_holds_for_what_it_sets_off() -> None:
    """Two steps of the boss: its own first and the member's; then all is over, and says whose cap it was."""
    models = scripted(boss=[calls("delegate", agent="ann", task="x")] * 9, ann=["a"] * 9)
    result = go(led(), models, agents={"boss": {"max_steps": 2}})
    assert result.status == "stopped"
    assert result.stopped is not None
    assert (result.stopped.scope, result.stopped.limit, result.usage.steps) == ("agent:boss", "max_steps", 2)


def test_managers_count_as_agents() -> None:
    """Two members and a manager are three."""
    result = go(led(), scripted(boss=["x"]), limits={"max_agents": 2})
    assert result.stopped is not None
    assert result.stopped.limit == "max_agents"
    assert result.usage.steps == 0


# Handoff


def test_an_agent_hands_over_and_the_other_goes_on() -> None:
    """It sees all that was said under its own name; the first one is asked no more."""
    store = MemoryStore()

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    crew = Crew([agent("ann", tools=(look,)), BOB], [Task("help {topic}", "ann")], process="handoff")
    models = scripted(ann=[calls("look"), calls("handoff", agent="bob", reason="a refund")], bob=["refunded"])
    result = go(crew, models, store)
    assert (result.status, result.output) == ("done", "refunded")
    assert [(one.agent, one.target, one.arguments) for one in handoffs(store)] == [("ann", "bob", "a refund")]
    messages = models["bob"].calls[0].messages
    assert messages[0].text == "You are bob. be bob"
    assert [message.text for message in messages[1:]] == ["help gzip", "", "seen", "", "bob goes on: a refund"]
    assert [one.name for one in models["bob"].calls[0].request.tools] == ["handoff"]


def test_of_two_handoffs_in_one_turn_the_first_counts() -> None:
    """The other is told so, for whoever goes on."""
    store = MemoryStore()
    asked = (("handoff", '{"agent": "bob", "reason": "r"}'), ("handoff", '{"agent": "cy", "reason": "s"}'))
    models = scripted(ann=[Reply(tools=asked)], bob=["b"])
    result = go(Crew([ANN, BOB, CY], [Task("x", "ann")], process="handoff"), models, store)
    assert (result.output, len(handoffs(store))) == ("b", 1)
    assert models["bob"].calls[0].messages[-1].text == "not to cy: the conversation goes to bob"


def test_a_handoff_for_good_is_no_depth() -> None:
    """max_depth 0 forbids delegation, not handoffs."""
    models = scripted(ann=[calls("handoff", agent="bob", reason="r")], bob=["b"])
    crew = Crew([ANN, BOB], [Task("x", "ann")], process="handoff")
    assert go(crew, models, limits={"max_depth": 0}).output == "b"


def test_handing_to_and_fro_is_bounded_by_the_gate() -> None:
    """No counter of its own: the steps run out."""
    models = {
        "ann": ScriptedModel([calls("handoff", agent="bob", reason="r")], name="ann", repeat=True),
        "bob": ScriptedModel([calls("handoff", agent="ann", reason="r")], name="bob", repeat=True),
    }
    result = go(Crew([ANN, BOB], [Task("x", "ann")], process="handoff"), models, limits={"max_steps": 7})
    assert result.stopped is not None
    assert (result.stopped.limit, result.usage.steps) == ("max_steps", 7)


# Conversation


def talk(*tasks: Task, agents: Any = (ANN, BOB), **options: Any) -> Crew:
    return Crew(agents, tasks or (Task("Discuss {topic}"),), process="conversation", **options)


def test_agents_talk_in_turns_until_a_phrase() -> None:
    """Each hears what the others said, by name, and what it said itself."""
    models = scripted(ann=["draft one", "draft two"], bob=["too short", "APPROVED"])
    result = go(talk(turns=Turns("APPROVED", ended_by="bob")), models)
    assert (result.status, result.output, result.usage.steps) == ("done", "draft two", 4)
    said = [(message.speaker, message.text) for message in models["ann"].calls[1].messages[1:]]
    assert said == [("user", "Discuss gzip"), ("assistant", "draft one"), ("user", "bob: too short")]


def test_a_conversation_ends_after_its_turns() -> None:
    """Without a condition that is its end; with one it is unfinished."""
    crew = talk(turns=Turns(max_turns=3))
    assert go(crew, scripted(ann=["1", "3"], bob=["2"])).output == "3"
    unfinished = go(talk(turns=Turns("APPROVED", max_turns=3)), scripted(ann=["1", "3"], bob=["2"]))
    assert (unfinished.status, unfinished.partial) == ("failed", "3")
    assert "no end in 3 turns" in unfinished.error


def test_a_function_of_what_was_said_ends_it() -> None:
    """One that raises ends it, too, and says so."""

    def agreed(said: Any) -> bool:
        assert all(isinstance(one, Said) for one in said)
        return len(said) > 1 and said[-1].text == said[-2].text

    assert go(talk(turns=Turns(agreed)), scripted(ann=["4", "5"], bob=["5"])).output == "5"
    broken = go(talk(turns=Turns(lambda said: said[99])), scripted(ann=["1"]))
    assert "until raised IndexError" in broken.error


def test_a_selector_says_who_speaks_and_counts_as_an_agent() -> None:
    """It names one; a muddle takes the next in order; DONE ends the conversation."""
    crew = talk(agents=(ANN, BOB, CY), turns=Turns(max_turns=9), selector=agent("chair"))
    models = scripted(ann=["a1", "a2"], bob=["b"], cy=["c"], chair=["cy, please", "ann or bob?", "bob", "DONE"])
    result = go(crew, models)
    assert (result.status, result.output) == ("done", "b")
    assert [len(models[name].calls) for name in ("ann", "bob", "cy", "chair")] == [2, 1, 1, 4]
    assert result.usage.agents == 4


class Decision(BaseModel):
    price: int


def test_the_opener_concludes_where_the_task_has_a_model() -> None:
    """One more step, with the schema; the talk itself is free."""
    crew = talk(Task("Agree", "bob", output=Decision), turns=Turns(max_turns=2))
    models = scripted(bob=["3?", '{"price": 5}'], ann=["5!"])
    result = go(crew, models)
    assert result.output == Decision(price=5)
    assert [call.request.output_schema is None for call in models["bob"].calls] == [True, False]


def test_a_conversation_without_end_is_bounded_by_the_gate() -> None:
    """Its phrase never comes, so the steps run out; what was said last is kept."""
    models = scripted(ann=[f"a{n}" for n in range(99)], bob=[f"b{n}" for n in range(99)])
    result = go(talk(turns=Turns("APPROVED")), models, limits={"max_steps": 5})
    assert result.stopped is not None
    assert (result.stopped.limit, result.usage.steps, result.partial) == ("max_steps", 5, "a2")
