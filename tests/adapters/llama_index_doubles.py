"""Workflows and models of LlamaIndex that would rather not be bounded."""

import asyncio
import contextlib
import json
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import PrivateAttr
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.adapters.loopback import Served

SYSTEM = "You look things up until you know everything there is to know. " * 18
"""Longer in tokens than the 1,000 that the doubles bill for a prompt, counted in bytes."""


def openai_like(server, **options):
    """The real client, at a server on loopback."""
    options = {"model": "small", "api_key": "none", "api_base": server.url, "is_chat_model": True, **options}
    return OpenAILike(**{"is_function_calling_model": True, **options})


class HungryLLM(FunctionCallingLLM):
    """Always wants another tool, and bills what it is let."""

    answer_after: int | None = None
    reports: bool = True
    obeys: bool = True
    parallel: int = 1
    calls: int = 0
    """Its own counter: state of the object that a call changes."""
    _served: Any = PrivateAttr(default_factory=Served)

    @property
    def served(self):
        return self._served

    @property
    def metadata(self):
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name="hungry", num_output=2000)

    def chat(self, messages, max_tokens=None, **kwargs):
        self.calls += 1
        number, completion = self._served.bill(max_tokens if self.obeys else None)
        usage = {"prompt_tokens": self._served.prompt, "completion_tokens": completion} if self.reports else None
        raw = {"usage": usage} if usage else {}
        if self.answer_after is not None and number > self.answer_after:
            return ChatResponse(message=ChatMessage("done", role="assistant"), raw=raw)
        blocks = [TextBlock(text="")]
        for one in (f"{number}.{position}" for position in range(self.parallel)):
            blocks += [ToolCallBlock(tool_call_id=f"c{one}", tool_name="look", tool_kwargs={"query": f"q{one}"})]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), raw=raw)

    async def achat(self, messages, **kwargs):
        return self.chat(messages, **kwargs)

    def stream_chat(self, messages, **kwargs):
        yield ChatResponse(message=ChatMessage("loo", role="assistant"), delta="loo")
        yield self.chat(messages, **kwargs)

    async def astream_chat(self, messages, **kwargs):
        async def pieces():
            for piece in self.stream_chat(messages, **kwargs):
                yield piece

        return pieces()

    def complete(self, prompt, formatted=False, **kwargs):
        response = self.chat([ChatMessage(prompt)], **kwargs)
        return CompletionResponse(text=response.message.content or "more", raw=response.raw)

    async def acomplete(self, prompt, formatted=False, **kwargs):
        return self.complete(prompt, **kwargs)

    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield self.complete(prompt, **kwargs)

    async def astream_complete(self, prompt, formatted=False, **kwargs):
        async def pieces():
            yield self.complete(prompt, **kwargs)

        return pieces()

    def _prepare_chat_with_tools(self, tools, user_msg=None, chat_history=None, **kwargs):
        specs = [tool.metadata.to_openai_tool() for tool in tools]
        return {"messages": [*(chat_history or []), *([user_msg] if user_msg else [])], "tools": specs}

    def get_tool_calls_from_response(self, response, error_on_no_tool_call=True, **kwargs):
        asked = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        return [
            ToolSelection(
                tool_id=one.tool_call_id,
                tool_name=one.tool_name,
                tool_kwargs=one.tool_kwargs if isinstance(one.tool_kwargs, dict) else json.loads(one.tool_kwargs),
            )
            for one in asked
        ]


def hungry_agent(llm, name="seeker", streaming=False, tools=None, **options):
    """An agent whose executions are counted in `executions`."""
    executions = []

    def look(query: str) -> str:
        """Look something up."""
        executions.append(query)
        return f"something about {query}"

    tools = [FunctionTool.from_defaults(look)] if tools is None else tools
    agent = FunctionAgent(name=name, description=f"{name} looks things up", tools=tools, llm=llm, streaming=streaming,
                          system_prompt=SYSTEM, timeout=None, **options)  # fmt: skip
    return agent, executions


class AskingWorkflow(Workflow):
    """Asks its model in a step, in one of the eight ways, as often as it is let."""

    def __init__(self, llm, method="acomplete", times=50, swallow=False, **options):
        super().__init__(timeout=None, **options)
        self.in_a_thread = type(llm).class_name() == "GenAI"  # its blocking methods run a loop of their own
        self.method, self.times, self.swallow = method, times, swallow
        self.hidden = lambda: llm  # as in a closure: no attribute that is one
        self.caught = 0

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        """Ask again and again."""
        said = ""
        for _ in range(self.times):
            try:
                said = await self.asked(getattr(self.hidden(), self.method))
            except Exception:
                if not self.swallow:
                    raise
                self.caught += 1
        return StopEvent(result=said)

    async def asked(self, method):
        prompt = SYSTEM if "complete" in self.method else [ChatMessage(SYSTEM)]
        if self.in_a_thread and not self.method.startswith("a"):
            return await asyncio.to_thread(self.whole, method, prompt)
        if not self.method.startswith("a"):
            return self.whole(method, prompt)
        made = await method(prompt)
        if self.method.startswith("astream"):
            return [str(piece) async for piece in made][-1]
        return str(made)

    def whole(self, method, prompt):
        made = method(prompt)
        return [str(piece) for piece in made][-1] if self.method.startswith("stream") else str(made)


class Part(Event):
    """One of the things to do at once."""

    number: int


class Done(Event):
    """One of them is done."""


def side_by_side(llm, parts=8):
    """A workflow whose one step has as many workers as there is to do, and as often as it is let."""
    return _FanOut(parts, lambda number: _ask_often(llm))


def eight_agents(llm, **options):
    """Eight agents at once inside of one workflow."""

    async def ask(number):
        agent, _ = hungry_agent(llm, f"seeker_{number}")
        with contextlib.suppress(Exception):
            await agent.run(user_msg="Find everything.", **options)

    return _FanOut(8, ask)


async def _ask_often(llm):
    for _ in range(50):
        await llm.acomplete(SYSTEM)


class _FanOut(Workflow):
    def __init__(self, parts, work):
        super().__init__(timeout=None)
        self.parts, self.one = parts, work

    @step
    async def begin(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number) for number in range(self.parts)]

    @step(num_workers=8)
    async def work(self, ev: Part) -> Done:
        await self.one(ev.number)
        return Done()

    @step
    async def end(self, ev: list[Done]) -> StopEvent:
        return StopEvent(result=len(ev))
