"""What takes part in a version, row by row as docs/hosts.md has it, of graphs and of workflows; and what doesn't."""

import json
from functools import partial
from types import FunctionType

import pytest
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import StructuredTool
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from llama_index.core.agent.react.formatter import ReActChatFormatter
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.tools import FunctionTool
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard import Policy, guard
from crew_guard.adapters import langgraph, llama_index
from crew_guard.store.memory import MemoryStore
from tests.adapters import llama_index_doubles
from tests.adapters.defined_hosts import NamedChat
from tests.adapters.langgraph_doubles import Findings

FREE = Policy.model_validate({"limits": {"max_steps": 20}})


def definition(adapter, host):
    """What is read of it, as it is digested."""
    return json.dumps(adapter.runtime_for(host, lambda _: None).definition(), sort_keys=True)


def look_up(query: str) -> str:
    """Look something up."""
    return query


def chat(model):
    return NamedChat(model=model)


# Graphs


NAMED_CHAT = NAMED_MESSAGE = NAMED_TEMPLATE = None
"""What `by_name` looks up."""


def by_name(_):
    later = [lambda: NAMED_CHAT.invoke([NAMED_MESSAGE])]
    return [later[0](), NAMED_TEMPLATE]


def templated(text):
    return ChatPromptTemplate.from_messages([("system", text)])


class Editor:
    """Has what a node of its uses as attributes."""

    def __init__(self, text, model, tool):
        self.chain = templated(text) | chat(model)
        self.tools = [tool]

    def edit(self, _):
        return {"found": [self.chain.invoke({}), self.tools]}


class Critic:
    """Is a node itself."""

    def __init__(self, model):
        self.model = chat(model)

    def __call__(self, _):
        return {"found": [self.model.invoke("x")]}


def closing(**held):
    """A function that holds these in its closure."""

    def work(_):
        return {"found": [held_here, text, message, tool, template]}

    held_here, text, message, tool, template = (held[name] for name in ("model", "text", "message", "tool", "template"))
    return work


def defaulting(text, message, model):
    def work(_, told=text, *, asked=message, by=model):
        return {"found": [told, asked, by]}

    return work


def branching(*ends):
    return {end: end for end in ends}


def inner_graph(node, end, model):
    held = chat(model)
    made = StateGraph(Findings)
    for name in sorted({node, "last"}):
        made.add_node(name, lambda _: {"found": [held.invoke("x")]})
    made.add_edge(START, node)
    made.add_edge(node, end)
    return made.compile()


def tool_named(name):
    return StructuredTool.from_function(look_up, name=name)


def handing(text, _, *, message=None):
    return {"found": [text, message]}


def wrapped(text):
    """As a decorator leaves it that keeps its function somewhere else."""

    def around(_):
        return {"found": []}

    around.__wrapped__ = lambda _: {"found": [text]}
    return around


GRAPH = {
    "node": "writer",
    "edge": END,
    "joined": ("writer", "editor"),
    "ends": ("named", "given"),
    "branch": "decide",
    "closure_model": "small",
    "closure_text": "be brief",
    "closure_message": "be kind",
    "closure_template": "be exact",
    "closure_tool": "look",
    "attribute_model": "small",
    "attribute_template": "edit it",
    "attribute_tool": "look",
    "callable_model": "small",
    "named_model": "small",
    "named_message": "by name",
    "named_template": "by name, too",
    "default_text": "by default",
    "default_message": "by default, too",
    "default_model": "small",
    "partial_text": "handed in",
    "partial_message": "handed in, too",
    "wrapped_text": "within",
    "bound_tool": "look",
    "inner_node": "first",
    "inner_end": "last",
    "inner_model": "small",
}


def graph_of(**changed):
    """A graph with all that is read of one, or something else in one place."""
    it = {**GRAPH, **changed}
    globals_of = {
        "NAMED_CHAT": chat(it["named_model"]),
        "NAMED_MESSAGE": SystemMessage(it["named_message"]),
        "NAMED_TEMPLATE": templated(it["named_template"]),
    }
    closure = closing(
        model=chat(it["closure_model"]),
        text=it["closure_text"],
        message=SystemMessage(it["closure_message"]),
        tool=tool_named(it["closure_tool"]),
        template=templated(it["closure_template"]),
    )
    bound = chat("small").bind_tools([tool_named(it["bound_tool"])])
    made = StateGraph(Findings)
    made.add_node(it["node"], closure)
    editor = Editor(it["attribute_template"], it["attribute_model"], tool_named(it["attribute_tool"]))
    made.add_node("editor", editor.edit)
    made.add_node("critic", Critic(it["callable_model"]))
    made.add_node("named", FunctionType(by_name.__code__, globals_of))
    defaults = it["default_text"], SystemMessage(it["default_message"]), chat(it["default_model"])
    made.add_node("given", defaulting(*defaults))
    made.add_node("handed", partial(handing, it["partial_text"], message=SystemMessage(it["partial_message"])))
    made.add_node("wrapped", wrapped(it["wrapped_text"]))
    made.add_node("bound", lambda _: {"found": [bound.invoke("x")]})
    made.add_node("inner", inner_graph(it["inner_node"], it["inner_end"], it["inner_model"]))
    made.add_edge(START, it["node"])
    made.add_edge(START, "editor")
    made.add_edge([it["node"] if name == "writer" else name for name in it["joined"]], "critic")

    def decide(_):
        return it["ends"][0]

    decide.__name__ = it["branch"]
    made.add_conditional_edges("critic", decide, branching(*it["ends"]))
    for name in ("handed", "bound", "inner", "wrapped"):
        made.add_edge("named", name)
    made.add_edge("given", it["edge"])
    return made.compile()


GRAPHS_CHANGES = {
    "node": "author",
    "edge": "critic",
    "joined": ("writer", "editor", "handed"),
    "ends": ("named", "given", "bound"),
    "branch": "choose",
    "inner_node": "begin",
    "inner_end": END,
    **{
        name: "other" for name, value in GRAPH.items() if isinstance(value, str) and "_" in name and "inner" not in name
    },
    "inner_model": "other",
}


def test_a_graph_that_is_made_once_more_is_the_same():
    """And each row of the table is changed below."""
    assert definition(langgraph, graph_of()) == definition(langgraph, graph_of())
    assert GRAPHS_CHANGES.keys() == GRAPH.keys()


@pytest.mark.parametrize("change", GRAPHS_CHANGES)
def test_each_part_of_a_graph_takes_part_in_its_version(change):
    """Nodes, edges, joins, branches, subgraphs; models, tools, messages, templates and texts where nodes hold them."""
    changed = graph_of(**{change: GRAPHS_CHANGES[change]})
    assert definition(langgraph, changed) != definition(langgraph, graph_of())


def test_what_a_graphs_nodes_collect_is_no_part_of_it():
    """Messages and texts in lists, in mappings and in attributes may be what a run left there."""

    class Writer:
        def __init__(self, said):
            self.said, self.last, self.message = [said], said, SystemMessage(said)

        def work(self, _):
            return {"found": [self.said, self.last, self.message]}

    def made(said):
        log, by_turn = [AIMessage(said), said], {"1": AIMessage(said)}
        graph = StateGraph(Findings)
        graph.add_node("method", Writer(said).work)
        graph.add_node("closure", lambda _: {"found": [log, by_turn]})
        graph.add_edge(START, "method")
        graph.add_edge("method", "closure")
        return graph.compile()

    assert definition(langgraph, made("one")) == definition(langgraph, made("two"))


def test_a_graph_is_read_before_its_first_run_only():
    """What its nodes are made of may be changed by a run, and a graph stays as it was compiled."""
    model = chat("small")
    graph = StateGraph(Findings)
    graph.add_node("writer", lambda _: {"found": [model.model]})
    graph.add_edge(START, "writer")
    compiled = graph.compile()
    runtime = langgraph.runtime_for(compiled, lambda _: None)
    first = runtime.definition()
    model.model = "large"
    assert runtime.definition() == first
    assert langgraph.runtime_for(compiled, lambda _: None).definition() != first


def test_an_entrypoint_goes_by_what_it_holds():
    """It has no builder to look at."""

    def made(model):
        held = chat(model)

        @entrypoint()
        def digest(text: str) -> str:
            return held.invoke(text).text

        return digest

    assert definition(langgraph, made("small")) == definition(langgraph, made("small"))
    assert definition(langgraph, made("small")) != definition(langgraph, made("large"))


# Workflows and agents of LlamaIndex


class NamedLLM(llama_index_doubles.HungryLLM):
    """An LLM with a name."""

    model: str


class OtherAgent(FunctionAgent):
    """Of a class of one's own."""


def llm(model):
    return NamedLLM(model=model, answer_after=0)


AGENT = {
    "kind": FunctionAgent,
    "name": "ann",
    "description": "Looks things up.",
    "system_prompt": "Be brief.",
    "state_prompt": "So far: {state} {msg}",
    "early_stopping_method": "force",
    "can_handoff_to": ["bob"],
    "model": "small",
    "tool": "look",
}


def agent_of(**changed):
    it = {**AGENT, **changed}
    kind, model, tool = (it.pop(name) for name in ("kind", "model", "tool"))
    return kind(llm=llm(model), tools=[FunctionTool.from_defaults(look_up, name=tool)], timeout=None, **it)


AGENTS_CHANGES = {
    **{name: f"{value} More." for name, value in AGENT.items() if isinstance(value, str)},
    "kind": OtherAgent,
    "early_stopping_method": "generate",
    "can_handoff_to": ["eve"],
}


REACT = {"system_header": "Think. {context} {tool_desc} {tool_names}", "context": "It is about files."}


def react_of(**changed):
    return ReActAgent(name="ann", llm=llm("small"), formatter=ReActChatFormatter(**{**REACT, **changed}))


TEAM = {
    "root_agent": "ann",
    "handoff_prompt": "Hand over to {agent_info}",
    "handoff_output_prompt": "{to_agent} goes on: {reason}",
    "state_prompt": "So far: {state} {msg}",
}


def team_of(prompt="Be brief.", **changed):
    members = [agent_of(system_prompt=prompt), agent_of(name="bob", can_handoff_to=None)]
    return AgentWorkflow(members, timeout=None, **{**TEAM, **changed})


TEAMS_CHANGES = {**{name: f"{value} more" for name, value in TEAM.items()}, "root_agent": "bob", "prompt": "Talk."}


def workflow_of(kind="Digest", named="begin", **changed):
    """A workflow of one's own, and all that it may have for attributes."""

    class Made(Workflow):
        async def begin(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    begin = Made.begin
    begin.__qualname__ = "Made.begin"
    made = type(kind, (Workflow,), {named: step(begin)})(timeout=None)
    made.llm, made.agent, made.team = llm("small"), agent_of(), team_of()
    vars(made).update(changed)
    return made


WORKFLOWS_CHANGES = {
    "kind": "Brief",
    "named": "start",
    "llm": llm("large"),
    "agent": agent_of(system_prompt="Talk."),
    "team": team_of(handoff_prompt="Over to {agent_info}"),
    "second": llm("small"),
}
CHANGES = [
    *((agent_of, {name: value}) for name, value in AGENTS_CHANGES.items()),
    *((react_of, {name: f"{value} Look."}) for name, value in REACT.items()),
    *((team_of, {name: value}) for name, value in TEAMS_CHANGES.items()),
    *((workflow_of, {name: value}) for name, value in WORKFLOWS_CHANGES.items()),
    *((workflow_of, {"agent": agent_of(**{name: AGENTS_CHANGES[name]})}) for name in ("kind", "state_prompt")),
]


@pytest.mark.parametrize(
    ("made", "change"), CHANGES, ids=[f"{made.__name__} {next(iter(change))}" for made, change in CHANGES]
)
def test_each_part_of_a_workflow_takes_part_in_its_version(made, change):
    """Classes, steps, agents' texts, models, tools and handoffs, a team's prompts, and what a workflow has of them."""
    assert definition(llama_index, made()) == definition(llama_index, made())
    assert definition(llama_index, made(**change)) != definition(llama_index, made())


def test_what_a_step_makes_is_no_part_of_its_workflow():
    """Attributes count that held something when it was guarded: another one there is another version."""

    class Brief(Workflow):
        made = None

        def __init__(self):
            super().__init__(timeout=None)
            self.own, self.later = llm("small"), None

        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            self.made = self.made or llm("made by a run")
            self.later = self.later or agent_of()
            return StopEvent(result=str(await self.made.acomplete("x")))

    workflow = Brief()
    guarded = guard(workflow, FREE, verify=lambda *_: True, store=MemoryStore())

    def version():
        result = guarded.run({"task": "x"})
        assert result.done, result
        return result.reliability.version

    first = version()
    assert version() == first
    workflow.own = llm("large")
    second = version()
    workflow.own = agent_of()
    third = version()
    workflow.own.system_prompt = "Talk."
    assert len({first, second, third, version()}) == 4


def test_a_prompt_that_is_changed_between_two_runs_is_another_version():
    """Of an agent and of a team that is guarded itself."""
    agent, team = agent_of(), team_of()
    runtimes = [llama_index.runtime_for(host, lambda _: None) for host in (agent, team)]
    before = [runtime.definition() for runtime in runtimes]
    agent.system_prompt = team.agents["bob"].system_prompt = "Talk."
    assert all(runtime.definition() != old for runtime, old in zip(runtimes, before, strict=True))
