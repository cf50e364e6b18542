"""What a guarded run of AutoGen's is asked, and what it gives where it goes on from an earlier one."""

import asyncio
import logging
import threading

import pytest
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, MagenticOneGroupChat, RoundRobinGroupChat
from autogen_agentchat.tools import TeamTool

from crew_guard import guard
from crew_guard.adapters import autogen
from crew_guard.errors import ConfigError
from tests.adapters.autogen_doubles import SYSTEM, HungryClient, WrittenClient, asking
from tests.adapters.guarding import Guard, policy


def speaker(name, client):
    return AssistantAgent(name, client, system_message=SYSTEM)


def written(number=9):
    """A client that says which of its replies it is."""
    return WrittenClient([f"reply {i}" for i in range(1, number + 1)])


def pair(client, **options):
    return RoundRobinGroupChat([speaker("ann", client), speaker("ben", client)], **options)


def texts(messages):
    return [message.content for message in messages]


def given(guarded, inputs):
    """A run on just these inputs."""
    return guarded.start(inputs).future.result(30)


# A team that ends before anybody speaks has no answer


def test_a_team_that_ends_before_anybody_speaks_has_no_answer():
    """Its condition counted on from the stopped run: what the user said is no output, and AutoGen's reason is told."""
    client = written()
    team = pair(client, termination_condition=MaxMessageTermination(4))
    guarded = Guard(autogen, team, policy(max_steps=2))
    assert guarded.run("first").partial == "reply 2"
    again = guarded.run("please go on")
    assert (again.done, again.output, again.partial, again.usage.steps) == (False, None, None, 0)
    assert "Maximum number of messages 4 reached" in again.error
    assert guarded.run("and now").partial == "reply 4"


def test_a_stop_before_anybody_spoke_leaves_nothing():
    """The task itself is nobody's work."""
    result = Guard(autogen, pair(written()), policy(max_steps=0)).run("the task")
    assert (result.status, result.partial) == ("stopped", None)


def test_a_team_behind_a_tool_that_says_nothing_is_not_quoted_with_its_task():
    """Its agent reads why it said nothing."""
    inner = pair(written(), termination_condition=MaxMessageTermination(3))
    tool = TeamTool(inner, name="team", description="asks", return_value_as_last_message=True)
    client = WrittenClient([asking("team", '{"task": "sub task"}')], repeat=True)
    agent = AssistantAgent("boss", client, system_message=SYSTEM, tools=[tool])
    assert Guard(autogen, agent, policy(max_steps=2)).run().status == "stopped"
    result = Guard(autogen, agent, policy(max_steps=2)).run()
    assert result.output.startswith("team said nothing: Maximum number of messages 3 reached")
    assert Guard(autogen, agent, policy(max_steps=3)).run().output == "reply 3"


# A graph


def test_a_stopped_graph_goes_on_with_who_was_refused():
    """Each node speaks once, in three runs of one step each."""
    clients = {name: WrittenClient([f"{name} said"]) for name in ("a", "b", "c")}
    a, b, c = (speaker(name, client) for name, client in clients.items())
    graph = DiGraphBuilder()
    graph.add_node(a).add_node(b).add_node(c).add_edge(a, b).add_edge(b, c)
    guarded = Guard(autogen, GraphFlow([a, b, c], graph.build()), policy(max_steps=1))
    results = [guarded.run(task) for task in ("go", "go on", "and on")]
    assert [result.status for result in results] == ["stopped", "stopped", "done"]
    assert [result.partial or result.output for result in results] == ["a said", "b said", "c said"]
    assert {"a said", "b said"} <= set(texts(clients["c"].asked[0]))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_stopped_graph_waits_for_all_that_it_would_have_waited_for(steps):
    """A fan-out and its join: over all runs each node speaks once, the join after both."""
    clients = {name: WrittenClient([f"{name} said"] * 3) for name in ("a", "b", "c", "d")}
    a, b, c, d = (speaker(name, client) for name, client in clients.items())
    graph = DiGraphBuilder()
    for node in (a, b, c, d):
        graph.add_node(node)
    graph.add_edge(a, b).add_edge(a, c).add_edge(b, d).add_edge(c, d)
    flow = GraphFlow([a, b, c, d], graph.build())
    first = Guard(autogen, flow, policy(max_steps=steps)).run("go")
    again = given(Guard(autogen, flow, policy(max_steps=9)), {"task": None})
    assert (first.status, again.status, again.output) == ("stopped", "done", "d said")
    assert (clients["a"].served.calls, clients["d"].served.calls) == (1, 1)
    assert {"b said", "c said"} <= set(texts(clients["d"].asked[0]))


# Without a task


@pytest.mark.parametrize("inputs", [{}, {"task": None}])
def test_a_team_goes_on_without_a_task(inputs):
    """As AutoGen's team.run() does, after its own end and after a stop."""
    client = written()
    guarded = Guard(autogen, pair(client, max_turns=2), policy(max_steps=3))
    assert guarded.run("start").output == "reply 2"
    assert given(guarded, inputs).output == "reply 4"
    assert texts(client.asked[-1])[-3:] == ["reply 1", "reply 2", "reply 3"][-3:]
    stopped = given(Guard(autogen, guarded.runtime.host, policy(max_steps=1)), inputs)
    assert (stopped.status, stopped.partial) == ("stopped", "reply 5")
    assert given(guarded, inputs).status == "done"


def test_an_agent_goes_on_without_a_task():
    """It is asked with what it knows."""
    client = written()
    guarded = Guard(autogen, speaker("ann", client), policy())
    guarded.run("start")
    assert given(guarded, {}).output == "reply 2"
    assert texts(client.asked[-1])[1:] == ["start", "reply 1"]


def test_a_team_whose_state_was_loaded_goes_on_without_a_task():
    """In another process, say."""
    before = pair(written(), max_turns=1)
    Guard(autogen, before, policy()).run("start")
    state = asyncio.run(before.save_state())
    client = written()
    after = pair(client, max_turns=1)
    asyncio.run(after.load_state(state))
    assert given(Guard(autogen, after, policy()), {}).output == "reply 1"
    assert "start" in texts(client.asked[-1])


@pytest.mark.parametrize("make", [lambda client: speaker("ann", client), pair])
def test_what_has_heard_nothing_needs_a_task(make):
    """Unless None is meant: then it begins with its own instructions, as in AutoGen."""
    client = written()
    guarded = Guard(autogen, make(client), policy(max_steps=1))
    assert "needs a task, for it has nothing to go on with" in given(guarded, {}).error
    assert client.served.calls == 0
    given(guarded, {"task": None})
    assert client.served.calls == 1


def test_who_needs_no_task_needs_none():
    """A person is asked."""
    person = UserProxyAgent("user", input_func=lambda prompt: "hello")
    assert given(Guard(autogen, person, policy()), {}).output == "hello"


def test_magentic_one_needs_a_task_each_time():
    """AutoGen's own would fail in an assertion."""
    client = written()
    team = MagenticOneGroupChat([speaker("ann", client)], client)
    result = given(Guard(autogen, team, policy()), {"task": None})
    assert "needs a task each time" in result.error
    assert client.served.calls == 0


# What is no task


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"tsk": "x"}, "no 'tsk'"),
        (
            {"task": "x", "cancellation_token": 1, "output_task_messages": False},
            "'cancellation_token', 'output_task_me",
        ),
        ({"task": "x", "input": "y"}, "no 'input'"),
        ({"task": 5}, "a task is a text, a message of AutoGen's (TextMessage, say), or a list of messages, not an int"),
        ({"task": ["x"]}, "not a str"),
        ({"task": ""}, "this one is empty"),
        ({"task": []}, "this one is empty"),
    ],
)
@pytest.mark.parametrize("make", [lambda client: speaker("ann", client), pair])
def test_inputs_that_are_no_task_are_refused_by_name(make, inputs, told):
    """A clear error, before anything runs."""
    client = written()
    result = given(Guard(autogen, make(client), policy()), inputs)
    assert (result.status, client.served.calls) == ("failed", 0)
    assert result.error.startswith("ConfigError: ")
    assert told in result.error


@pytest.mark.parametrize("make", [lambda client: speaker("ann", client), lambda client: pair(client, max_turns=1)])
@pytest.mark.parametrize("name", ["task", "input"])
def test_a_task_may_be_messages(make, name):
    """One, or several in a list or a tuple."""
    said = TextMessage(content="hello", source="user")
    for task in (said, [said, said], (said,)):
        client = written()
        assert given(Guard(autogen, make(client), policy()), {name: task}).output == "reply 1"
        assert "hello" in texts(client.asked[0])


def test_a_message_that_is_given_by_itself_is_told_its_name():
    """The error of run() says how to give it."""
    guarded = guard(speaker("ann", written()), policy=policy())
    with pytest.raises(ConfigError, match=r"not a TextMessage.*run\(\{'task': …\}\)"):
        guarded.run(TextMessage(content="my password", source="user"))


# What AutoGen logs


def nested(client):
    """A team in a team."""
    return RoundRobinGroupChat([pair(client), speaker("cy", client)])


@pytest.mark.parametrize("make", [pair, nested])
def test_a_stop_is_no_error_of_autogens_log(make, caplog):
    """The result tells it; what else goes wrong is logged as ever."""
    with caplog.at_level(logging.WARNING):
        result = Guard(autogen, make(written()), policy(max_steps=1)).run()
    assert (result.status, caplog.records) == ("stopped", [])


def test_a_kill_is_no_error_of_autogens_log(caplog):
    """Nor is all that it ends."""
    begun = threading.Event()

    class Waiting(HungryClient):
        async def create(self, messages, **options):
            begun.set()
            await asyncio.Event().wait()

    guarded = Guard(autogen, pair(Waiting()), policy())
    with caplog.at_level(logging.WARNING):
        running = guarded.start({"task": "go"})
        assert begun.wait(10)
        guarded.supervisor.kill(guarded.run_id)
        assert running.future.result(10).stopped.reason == "killed"
    assert caplog.records == []


def test_an_error_of_the_users_own_is_logged_as_ever(caplog):
    """A stop before it changes nothing."""

    class Failing(HungryClient):
        async def create(self, messages, **options):
            raise KeyError("a fault of the client's")

    with caplog.at_level(logging.WARNING):
        Guard(autogen, pair(written()), policy(max_steps=1)).run()
        result = Guard(autogen, pair(Failing()), policy()).run()
    assert result.status == "failed"
    assert any("KeyError" in str(record.exc_info) for record in caplog.records)
