"""AutoGen's teams under the gate, held to what their models served."""

import asyncio
import gc
import threading

import pytest
from autogen_agentchat.agents import (
    AssistantAgent,
    BaseChatAgent,
    MessageFilterAgent,
    MessageFilterConfig,
    PerSourceFilter,
    SocietyOfMindAgent,
    UserProxyAgent,
)
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import ExternalTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import (
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import SingleThreadedAgentRuntime
from autogen_core.models import UserMessage

from crew_guard.adapters import autogen
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError
from tests.adapters.autogen_doubles import INFO, SYSTEM, HungryClient, WrittenClient, asking, hungry_agent, look
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer


def speaker(name, client, **options):
    """An agent without tools."""
    return AssistantAgent(name, client, system_message=SYSTEM, **options)


def steps_of(result):
    """Model calls by who made them."""
    return {name: usage.steps for name, usage in result.agents.items() if usage.steps}


def talkers(client, number=2):
    return [speaker(f"talker{i}", client) for i in range(number)]


# RoundRobin


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_max_steps_of_a_round_robin_is_exactly_as_many_model_calls(steps, stream):
    """Whoever speaks: the models served as many calls as the cap says, each charged to its speaker."""
    client = HungryClient(answer_after=0)
    agents = [speaker(name, client, model_client_stream=stream) for name in ("ann", "ben")]
    result = Guard(autogen, RoundRobinGroupChat(agents), policy(max_steps=steps)).run()
    assert client.served.calls == steps == result.usage.steps
    assert (result.status, result.stopped.limit) == ("stopped", "max_steps")
    counted = steps_of(result)
    assert (counted.get("ann", 0), counted.get("ben", 0)) == ((steps + 1) // 2, steps // 2)


@pytest.mark.parametrize("cap", [10_000, 8_001])
def test_a_round_robin_never_passes_its_tokens(cap):
    """What was served stays below the cap; what is left is less than the refused call needed."""
    client = HungryClient()
    agents = [hungry_agent(client), speaker("other", client)]
    result = Guard(autogen, RoundRobinGroupChat(agents), policy(max_tokens=cap)).run()
    assert client.served.tokens == result.usage.tokens <= cap
    assert cap - result.usage.tokens < result.stopped.asked


def test_a_teams_own_end_is_its_end():
    """Below its caps a guarded team stops where its termination condition says, with what it said last."""
    client = HungryClient(answer_after=0)
    team = RoundRobinGroupChat(talkers(client), termination_condition=MaxMessageTermination(4))
    result = Guard(autogen, team, policy(max_steps=10)).run()
    assert (result.status, result.output, client.served.calls) == ("done", "done", 3)
    assert steps_of(result) == {"talker0": 2, "talker1": 1}


def test_a_stopped_team_gives_what_was_said_so_far():
    """The last message goes with the result."""
    client = WrittenClient(["one", "two", "three"])
    result = Guard(autogen, RoundRobinGroupChat(talkers(client)), policy(max_steps=2)).run()
    assert (result.status, result.output, result.partial) == ("stopped", None, "two")


def test_a_team_goes_on_in_its_second_guarded_run():
    """What was said is known, and who was refused speaks first, also after a stop."""
    client = WrittenClient([f"reply {i}" for i in range(1, 8)])
    team = RoundRobinGroupChat(talkers(client), termination_condition=TextMentionTermination("reply 6"))
    guard = Guard(autogen, team, policy(max_steps=3))
    assert guard.run("first").partial == "reply 3"
    again = guard.run("second")
    assert (again.status, again.output, client.served.calls) == ("done", "reply 6", 6)
    assert any(getattr(message, "content", "") == "reply 1" for message in client.asked[-1])


def test_a_teams_state_can_be_kept_and_reset_between_runs():
    """save_state, load_state and reset work on the user's own loop, between runs on the engine's."""
    client = WrittenClient([f"reply {i}" for i in range(1, 20)])
    team = RoundRobinGroupChat(talkers(client), termination_condition=MaxMessageTermination(3))
    guard = Guard(autogen, team, policy(max_steps=9))
    assert guard.run("first").output == "reply 2"
    state = asyncio.run(team.save_state())
    asyncio.run(team.reset())
    assert guard.run("again").output == "reply 4"
    assert not any(getattr(message, "content", "") == "reply 1" for message in client.asked[-1])
    asyncio.run(team.load_state(state))
    assert guard.run("more").output == "reply 6"
    assert any(getattr(message, "content", "") == "reply 1" for message in client.asked[-1])


@pytest.mark.parametrize("steps", [1, 50])
def test_a_team_runs_unguarded_before_and_after(steps):
    """Nothing of the guard is left in classes or objects, and no queue is tied to another loop."""
    client = HungryClient(answer_after=0)
    team = RoundRobinGroupChat(talkers(client), max_turns=2)
    own = [HungryClient.create, AssistantAgent.on_messages_stream, RoundRobinGroupChat.run_stream]

    async def alone():
        return (await team.run(task="go")).stop_reason

    assert "2" in asyncio.run(alone())
    result = Guard(autogen, team, policy(max_steps=steps)).run()
    assert result.usage.steps == min(steps, 2)
    assert [HungryClient.create, AssistantAgent.on_messages_stream, RoundRobinGroupChat.run_stream] == own
    assert all("crew_guard" not in str(value) for agent in team._participants for value in vars(agent).values())
    before = client.served.calls
    assert "2" in asyncio.run(alone())
    assert client.served.calls == before + min(steps, 2)


def test_a_client_called_elsewhere_meanwhile_is_not_gated():
    """The patches are inert outside of the run: a call of the user's own is nobody's step."""
    client, other = HungryClient(answer_after=0), HungryClient(answer_after=0)
    holding, go = threading.Event(), threading.Event()

    def look(query: str) -> str:
        """Look something up."""
        holding.set()
        go.wait(30)
        return "found"

    agent = AssistantAgent("seeker", HungryClient(answer_after=1), tools=[look], system_message=SYSTEM)
    guard = Guard(autogen, RoundRobinGroupChat([agent], max_turns=1), policy(max_steps=1))
    running = guard.start({"task": "go"})
    assert holding.wait(30)
    for one in (client, other):
        asyncio.run(one.create([UserMessage(content="mine", source="user")]))
    go.set()
    assert running.future.result(10).usage.steps == 1
    assert client.served.calls == other.served.calls == 1


# Selector, Swarm, MagenticOne


def test_a_selectors_calls_are_steps_of_its_own():
    """AutoGen's token condition never sees them; here they have a name and count."""
    chooser, client = WrittenClient(["ann", "ben"], repeat=True), HungryClient(answer_after=0)
    agents = [speaker(name, client) for name in ("ann", "ben", "cat")]
    guard = Guard(autogen, SelectorGroupChat(agents, model_client=chooser), policy(max_steps=5))
    result = guard.run()
    assert guard.runtime.members() == ["SelectorGroupChatManager", "ann", "ben", "cat"]
    assert chooser.served.calls + client.served.calls == 5 == result.usage.steps
    assert steps_of(result) == {"SelectorGroupChatManager": 3, "ann": 1, "ben": 1}


def test_a_selector_may_share_its_agents_client():
    """One client, two identities: each is charged for what it asked."""
    client = WrittenClient(["ann", "I say so", "ben", "and I"], repeat=True)
    agents = [speaker(name, client) for name in ("ann", "ben", "cat")]
    team = SelectorGroupChat(agents, model_client=client, termination_condition=MaxMessageTermination(3))
    result = Guard(autogen, team, policy(max_steps=9)).run()
    assert (result.status, steps_of(result)) == ("done", {"SelectorGroupChatManager": 2, "ann": 1, "ben": 1})


def test_a_selector_function_is_no_step_and_its_own_model_is():
    """A function that chooses costs nothing; a model that it asks is a step of the selector."""
    client, asked = HungryClient(answer_after=0), WrittenClient(["whoever"], repeat=True)

    async def choose(thread):
        if len(thread) == 2:
            await asked.create([UserMessage(content=SYSTEM, source="user")])
        return "ben" if len(thread) % 2 else "ann"

    agents = [speaker(name, client) for name in ("ann", "ben")]
    result = Guard(
        autogen, SelectorGroupChat(agents, model_client=client, selector_func=choose), policy(max_steps=4)
    ).run()
    assert (client.served.calls, asked.served.calls, result.usage.steps) == (3, 1, 4)
    assert result.agents["SelectorGroupChatManager"].steps == 1


def test_a_swarm_hands_over_and_its_handoffs_are_recorded():
    """A handoff is no tool call; each agent is charged for its own."""
    client = WrittenClient([asking("transfer_to_ben"), "I am ben", asking("transfer_to_ann"), "I am ann"])
    ann = AssistantAgent("ann", client, handoffs=["ben"], system_message=SYSTEM)
    ben = AssistantAgent("ben", client, handoffs=["ann"], system_message=SYSTEM)
    team = Swarm([ann, ben], termination_condition=TextMentionTermination("I am ann"))
    guard = Guard(autogen, team, policy(max_steps=9, max_tool_calls=0))
    result = guard.run()
    assert (result.status, result.output, result.usage.tool_calls) == ("done", "I am ann", 0)
    assert steps_of(result) == {"ann": 2, "ben": 2}
    moved = [(event.agent, event.target) for event in guard.events("Admitted") if event.kind == "handoff"]
    assert moved == [("ann", "ben"), ("ben", "ann")]


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_magentic_ones_orchestrator_is_bounded_with_its_agents(steps):
    """Facts, plan, ledgers and agents: exactly as many calls as the cap says."""
    ledger = (
        '{"is_request_satisfied": {"reason": "no", "answer": false}, "is_in_loop": {"reason": "no", "answer": false},'
        ' "is_progress_being_made": {"reason": "yes", "answer": true},'
        ' "next_speaker": {"reason": "she can", "answer": "ann"},'
        ' "instruction_or_question": {"reason": "why not", "answer": "go on"}}'
    )
    lead = WrittenClient(["facts", "plan", *[ledger] * 30])
    client = HungryClient(answer_after=0)
    team = MagenticOneGroupChat([speaker("ann", client), speaker("ben", client)], model_client=lead)
    result = Guard(autogen, team, policy(max_steps=steps)).run()
    assert lead.served.calls + client.served.calls == steps == result.usage.steps
    assert result.agents["MagenticOneOrchestrator"].steps == lead.served.calls
    assert (result.status, result.stopped.limit) == ("stopped", "max_steps")


# Parallel speakers


def fan_out(number, make):
    """A start, `number` speakers at once, and an end."""
    builder = DiGraphBuilder()
    start, last = make("start"), make("last")
    branches = [make(f"branch{i}") for i in range(number)]
    for agent in (start, *branches, last):
        builder.add_node(agent)
    for branch in branches:
        builder.add_edge(start, branch).add_edge(branch, last)
    return GraphFlow(builder.get_participants(), builder.build())


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_parallel_speakers_share_one_cap_on_steps(steps):
    """8 speak at once: what all of them were served is the cap."""
    client = HungryClient(answer_after=0)
    result = Guard(autogen, fan_out(8, lambda name: speaker(name, client)), policy(max_steps=steps)).run()
    assert client.served.calls == steps == result.usage.steps
    assert result.stopped.limit == "max_steps"


@pytest.mark.parametrize("cap", [10_000, 8_001])
def test_parallel_speakers_share_one_cap_on_tokens(cap):
    """AutoGen's own condition counts the last of them only; here nothing leaves without a reservation."""
    client = HungryClient()
    team = fan_out(
        8, lambda name: AssistantAgent(name, client, system_message=SYSTEM, tools=[look], max_tool_iterations=9)
    )
    result = Guard(autogen, team, policy(max_tokens=cap)).run()
    assert client.served.tokens == result.usage.tokens <= cap
    assert result.overshoot.tokens == 0


def test_parallel_speakers_are_each_charged_for_their_own():
    """One client object between ten agents, eight of them at once."""
    client = HungryClient(answer_after=0)
    result = Guard(autogen, fan_out(8, lambda name: speaker(name, client)), policy(max_steps=20, max_agents=10)).run()
    assert result.status == "done"
    assert steps_of(result) == {
        "start": 1, "last": 1, **{f"branch{i}": 1 for i in range(8)}
    }  # fmt: skip


# Nested


def test_a_team_within_a_team_is_bounded_by_the_same_cap():
    """An inner team's turns are steps, not one turn of the outer one."""
    client = HungryClient(answer_after=0)
    inner = RoundRobinGroupChat(talkers(client), name="inner", termination_condition=MaxMessageTermination(5))
    team = RoundRobinGroupChat([inner, speaker("outer", client)])
    guard = Guard(autogen, team, policy(max_steps=7))
    result = guard.run()
    assert guard.runtime.members() == ["talker0", "talker1", "outer"]
    assert client.served.calls == 7 == result.usage.steps
    assert result.agents["outer"].steps >= 1


def test_a_society_of_mind_is_charged_for_its_own_words_only():
    """Its inner team's agents have their own."""
    client = HungryClient(answer_after=0)
    inner = RoundRobinGroupChat(talkers(client), termination_condition=MaxMessageTermination(3))
    mind = SocietyOfMindAgent("mind", inner, model_client=client)
    result = Guard(
        autogen, RoundRobinGroupChat([mind, speaker("outer", client)], max_turns=2), policy(max_steps=9)
    ).run()
    counted = steps_of(result)
    assert result.status == "done"
    assert counted == {"talker0": 1, "talker1": 1, "mind": 1, "outer": 1}
    assert sum(counted.values()) == client.served.calls


@pytest.mark.parametrize("kind", ["agent", "team"])
def test_agents_and_teams_behind_tools_are_part_of_the_run(kind):
    """AgentTool and TeamTool: their calls are charged to who made them, the execution to who asked."""
    client = HungryClient(answer_after=0)
    if kind == "agent":
        tool = AgentTool(speaker("ann", client))
    else:
        team = RoundRobinGroupChat([speaker("ann", client)], max_turns=1)
        tool = TeamTool(team, name="ann", description="asks ann")
    boss_client = WrittenClient([asking("ann", '{"task": "help"}'), "thanks"])
    boss = AssistantAgent("boss", boss_client, tools=[tool], system_message=SYSTEM, max_tool_iterations=3)
    result = Guard(autogen, boss, policy(max_steps=9)).run()
    assert (result.status, result.output) == ("done", "thanks")
    assert (result.agents["boss"].steps, result.agents["boss"].tool_calls, result.agents["ann"].steps) == (2, 1, 1)


def test_a_filter_around_an_agent_is_transparent():
    """The agent inside is charged, by its own name."""
    client = HungryClient(answer_after=0)
    rules = MessageFilterConfig(per_source=[PerSourceFilter(source="user", position="first", count=1)])
    agent = MessageFilterAgent("filter", speaker("ann", client), rules)
    guard = Guard(autogen, RoundRobinGroupChat([agent]), policy(max_steps=2))
    assert guard.run().agents["ann"].steps == 2
    assert guard.runtime.members() == ["ann"]


def test_a_person_in_a_team_is_no_model():
    """A UserProxyAgent takes part and costs nothing."""
    client = HungryClient(answer_after=0)
    person = UserProxyAgent("person", input_func=lambda prompt: "go on")
    team = RoundRobinGroupChat([speaker("ann", client), person], max_turns=4)
    result = Guard(autogen, team, policy(max_steps=9)).run()
    assert (result.status, result.output, result.usage.steps) == ("done", "go on", 2)


# Agents of the user's own, and what hides


class Homemade(BaseChatAgent):
    """Keeps its client where nobody looks, and executes tools itself."""

    def __init__(self, name, client, tools=()):
        super().__init__(name, "homemade")
        self.hidden = [{"client": client}]
        self.tools = list(tools)

    produced_message_types = (TextMessage,)

    async def on_messages(self, messages, cancellation_token):
        for tool in self.tools:
            await tool.run_json({"query": "x"}, cancellation_token)
        result = await self.hidden[0]["client"].create([UserMessage(content=SYSTEM, source="user")])
        return Response(chat_message=TextMessage(content=str(result.content), source=self.name))

    async def on_reset(self, cancellation_token):
        pass


def test_an_agent_of_the_users_own_is_gated_wherever_its_client_is():
    """The seam is the client's class, not an attribute of the agent."""
    from autogen_core.tools import FunctionTool

    client = HungryClient(answer_after=0)
    own = Homemade("own", client, [FunctionTool(look, description="looks")])
    result = Guard(autogen, RoundRobinGroupChat([own]), policy(max_steps=3, max_tool_calls=10)).run()
    assert client.served.calls == 3 == result.agents["own"].steps
    assert result.agents["own"].tool_calls == 4


def test_a_client_in_a_tools_closure_is_gated():
    """Also where the tool is a plain function that AutoGen runs in a thread."""
    hidden = HungryClient(answer_after=0)

    def ask(query: str) -> str:
        """Ask somebody else."""
        return asyncio.run(hidden.create([UserMessage(content=SYSTEM, source="user")])).content

    client = WrittenClient([asking("ask", '{"query": "x"}'), "done"])
    agent = AssistantAgent("ann", client, tools=[ask], system_message=SYSTEM, max_tool_iterations=3)
    result = Guard(autogen, agent, policy(max_steps=9)).run()
    assert (result.status, result.usage.steps, hidden.served.calls) == ("done", 3, 1)
    assert result.agents["ann"].steps == 3


def test_a_client_that_retries_within_a_call_pays_a_step_each_time():
    """A wrapper that asks its inner client three times is three attempts."""

    class Stubborn(HungryClient):
        def __init__(self):
            super().__init__()
            self.inner = HungryClient(answer_after=0)

        async def create(self, messages, **options):
            for _ in range(3):
                result = await self.inner.create(messages, **options)
            return result

    client = Stubborn()
    result = Guard(autogen, RoundRobinGroupChat([speaker("ann", client)]), policy(max_steps=5)).run()
    assert client.inner.served.calls == 5 == result.usage.steps
    assert client.inner.served.tokens == result.usage.tokens


def test_a_class_made_during_the_run_is_gated():
    """A tool may define, or import, its client only when it is called."""
    made = []

    async def ask(query: str) -> str:
        """Ask somebody else."""

        class Late(HungryClient):
            async def create(self, messages, **options):
                return await super().create(messages, **options)

        made.append(Late(answer_after=0))
        return (await made[0].create([UserMessage(content=SYSTEM, source="user")])).content

    client = WrittenClient([asking("ask", '{"query": "x"}'), "done"])
    agent = AssistantAgent("ann", client, tools=[ask], system_message=SYSTEM, max_tool_iterations=3)
    result = Guard(autogen, agent, policy(max_steps=9)).run()
    assert (result.usage.steps, made[0].served.calls) == (3, 1)
    make = type(made[0]).create
    assert make.__qualname__.endswith("Late.create")


# Refused


def test_a_team_with_a_runtime_of_its_own_is_refused():
    """Its messages are handled by tasks that began outside of the run."""
    team = RoundRobinGroupChat(talkers(HungryClient()), runtime=SingleThreadedAgentRuntime())
    with pytest.raises(ConfigError, match="runtime of its own"):
        Guard(autogen, team, policy())


def test_an_agent_that_holds_another_sdk_is_refused_by_name():
    """A client of OpenAI's own goes past every seam of AutoGen."""
    import openai

    agent = Homemade("own", HungryClient())
    agent.memory = {"embedder": openai.AsyncOpenAI(api_key="none")}
    with pytest.raises(ConfigError, match=r"agent 'own'\.memory\['embedder'\] is a openai"):
        Guard(autogen, RoundRobinGroupChat([agent]), policy())


def test_two_runs_of_one_team_at_once_are_refused():
    """Also where only an agent of it is in both."""
    holding, go = threading.Event(), threading.Event()

    def hold(query: str) -> str:
        """Look something up."""
        holding.set()
        go.wait(30)
        return "found"

    client = WrittenClient([asking("hold", '{"query": "x"}')])
    agent = AssistantAgent("ann", client, tools=[hold], system_message=SYSTEM)
    running = Guard(autogen, RoundRobinGroupChat([agent], max_turns=1), policy()).start({"task": "go"})
    assert holding.wait(30)
    second = Guard(autogen, RoundRobinGroupChat([agent]), policy()).run()
    go.set()
    assert running.future.result(10).status == "done"
    assert "'ann' is in a guarded run already" in second.error


# Stopping


def test_a_kill_ends_a_team_with_all_that_it_has_in_flight():
    """Eight speakers in a tool each: all are ended, the runtime is stopped, and the team can run again."""
    begun, ended = [], []
    everyone = threading.Event()

    async def wait(query: str) -> str:
        """Wait for ever."""
        begun.append(query)
        if len(begun) == 8:
            everyone.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(query)

    def make(name):
        if not name.startswith("branch"):
            return speaker(name, HungryClient(answer_after=0))
        client = WrittenClient([asking("wait", '{"query": "x"}')])
        return AssistantAgent(name, client, tools=[wait], system_message=SYSTEM)

    team = fan_out(8, make)
    guard = Guard(autogen, team, policy(max_agents=20))
    running = guard.start({"task": "go"})
    assert everyone.wait(10)
    assert guard.supervisor.kill(guard.run_id)
    assert (running.future.result(30).stopped.reason, len(begun)) == ("killed", 8)
    for _ in range(200):
        if len(ended) == 8 and team._runtime._run_context is None:
            break
        everyone.clear()
        everyone.wait(0.01)
    assert len(ended) == 8
    assert (team._runtime._run_context, team._is_running) == (None, False)
    assert not team._runtime._background_tasks
    gc.collect()


def test_a_kill_ends_teams_within_teams():
    """A team as a participant, and one behind a tool: neither runtime is left, and both can run again."""
    begun, ended = threading.Event(), threading.Event()

    async def wait(query: str) -> str:
        """Wait for ever."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = WrittenClient([asking("wait", '{"query": "x"}'), "back again"])
    inmost = RoundRobinGroupChat(
        [AssistantAgent("ann", client, tools=[wait], system_message=SYSTEM)], name="inmost", max_turns=1
    )
    boss_client = WrittenClient([asking("inmost", '{"task": "help"}')], repeat=True)
    boss = AssistantAgent("boss", boss_client, tools=[TeamTool(inmost, "inmost", "helps")], system_message=SYSTEM)
    inner = RoundRobinGroupChat([boss], name="inner", max_turns=1)
    outer = RoundRobinGroupChat([inner], max_turns=1)
    guard = Guard(autogen, outer, policy())
    running = guard.start({"task": "go"})
    assert begun.wait(10)
    assert guard.supervisor.kill(guard.run_id)
    assert running.future.result(30).stopped.reason == "killed"
    assert ended.wait(30)
    for _ in range(500):
        if not any(team._is_running for team in (outer, inner, inmost)):
            break
        threading.Event().wait(0.01)
    assert [team._runtime._run_context for team in (outer, inner, inmost)] == [None] * 3
    again = guard.run()
    assert (again.status, "back again" in again.output) == ("done", True)


def test_a_refused_speaker_ends_those_that_speak_beside_it():
    """AutoGen would wait for them: for a tool that never ends, for ever."""
    begun, ended = asyncio.Event(), threading.Event()

    async def wait(query: str) -> str:
        """Wait for ever."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    class Patient(HungryClient):
        async def create(self, messages, **options):
            await begun.wait()
            return await super().create(messages, **options)

    client = WrittenClient([asking("wait", '{"query": "x"}')])
    waits = AssistantAgent("waits", client, tools=[wait], system_message=SYSTEM)
    other = AssistantAgent("other", Patient(), tools=[look], system_message=SYSTEM, max_tool_iterations=5)
    builder = DiGraphBuilder()
    builder.add_node(waits).add_node(other)
    result = Guard(autogen, GraphFlow([waits, other], builder.build()), policy(max_steps=3)).run()
    assert ended.wait(30)
    assert (result.status, result.stopped.limit, result.usage.steps) == ("stopped", "max_steps", 3)


def test_an_external_termination_ends_the_team():
    """The user's own stop still works during a guarded run."""
    stop = ExternalTermination()
    client = HungryClient(answer_after=0)

    async def look(query: str) -> str:
        """Look something up."""
        stop.set()
        return "found"

    agent = hungry_agent(HungryClient(), tools=[look], max_tool_iterations=1)
    team = RoundRobinGroupChat([agent, speaker("ann", client)], termination_condition=stop)
    result = Guard(autogen, team, policy(max_steps=9)).run()
    assert (result.status, client.served.calls, result.usage.steps) == ("done", 0, 1)


# The real client


def test_real_clients_in_a_team_are_clamped_and_charged():
    """Over HTTP, streamed and not: what the server billed is what the run says."""
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    with HungryServer(answer="ann or ben") as server:
        options = {"model": "gpt-4o", "api_key": "none", "base_url": server.url, "model_info": INFO}
        client = OpenAIChatCompletionClient(**options)
        agents = [speaker("ann", client), speaker("ben", client, model_client_stream=True)]
        result = Guard(autogen, RoundRobinGroupChat(agents), policy(max_tokens=10_000)).run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert result.unreported == 0
        assert steps_of(result) == {"ann": 3, "ben": 2}


@pytest.mark.parametrize("status", [429, 500])
def test_one_attempt_of_a_teams_client_is_one_request(status):
    """The SDK's own retries are off."""
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    with HungryServer(status=status) as server:
        options = {"model": "gpt-4o", "api_key": "none", "base_url": server.url, "model_info": INFO}
        team = RoundRobinGroupChat([speaker("ann", OpenAIChatCompletionClient(**options))])
        result = Guard(autogen, team, policy(max_steps=5)).run()
        assert (server.requests, result.usage.steps, result.status) == (1, 1, "failed")


def test_two_agents_tools_of_one_name_share_its_cap():
    """One cap on the name, each execution charged to who asked for it."""
    clients = [WrittenClient([asking("look", '{"query": "x"}')], repeat=True) for _ in range(2)]
    agents = [
        AssistantAgent(f"agent{i}", client, tools=[look], system_message=SYSTEM) for i, client in enumerate(clients)
    ]
    rules = Policy.model_validate({"tools": {"limits": {"look": {"max_tool_calls": 3}}}, "limits": {"max_steps": 6}})
    result = Guard(autogen, RoundRobinGroupChat(agents), rules).run()
    assert result.usage.tool_calls == 3
    assert {name: usage.tool_calls for name, usage in result.agents.items()} == {"agent0": 2, "agent1": 1}


@pytest.mark.parametrize("before", [0, 1])
def test_what_ends_a_team_is_told_without_autogens_traceback(before):
    """As it was raised in the agent; no path of this machine is in the result or the journal."""

    class Down(HungryClient):
        async def create(self, messages, **options):
            raise ConnectionResetError("the line is dead")

    team = RoundRobinGroupChat([speaker("up", WrittenClient(["hello"])), speaker("down", Down())][1 - before :])
    guard = Guard(autogen, team, policy(max_steps=5))
    result = guard.run()
    assert (result.status, result.error) == ("failed", "ConnectionResetError: the line is dead")
    assert result.partial == ("hello" if before else None)
    assert not [event for event in guard.store.read(guard.run_id) if "site-packages" in str(event)]
