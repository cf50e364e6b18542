"""AutoGen agents that would rather not be bounded."""

from types import MappingProxyType

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage
from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, ModelInfo, RequestUsage, SystemMessage

from tests.adapters.loopback import Served

SYSTEM = "You look things up until you know everything there is to know. " * 18
"""Longer in tokens than the 1,000 that the doubles bill for a prompt, counted in bytes."""
INFO = ModelInfo(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)


class HungryClient(ChatCompletionClient):
    """Always wants another tool, and bills what it is let."""

    component_type = "model"

    def __init__(self, answer_after=None, reports=True, obeys=True, parallel=1, answer="done"):
        self.served = Served()
        self.answer_after, self.reports, self.obeys = answer_after, reports, obeys
        self.parallel, self.answer = parallel, answer

    async def create(
        self,
        messages,
        *,
        tools=(),
        tool_choice="auto",
        json_output=None,
        extra_create_args=MappingProxyType({}),
        cancellation_token=None,
    ):
        number, completion = self.served.bill(extra_create_args.get("max_tokens") if self.obeys else None)
        usage = RequestUsage(self.served.prompt, completion) if self.reports else RequestUsage(0, 0)
        if self.answer_after is not None and number > self.answer_after:
            return CreateResult(finish_reason="stop", content=self.answer, usage=usage, cached=False)
        calls = [
            FunctionCall(id=f"c{number}.{i}", name="look", arguments=f'{{"query": "q{number}.{i}"}}')
            for i in range(self.parallel)
        ]
        return CreateResult(finish_reason="function_calls", content=calls, usage=usage, cached=False)

    async def create_stream(self, messages, **kwargs):
        result = await self.create(messages, **kwargs)
        yield "loo"
        yield "king"
        yield result

    async def close(self):
        pass

    def actual_usage(self):
        return RequestUsage(0, 0)

    def total_usage(self):
        return RequestUsage(0, 0)

    def count_tokens(self, messages, *, tools=()):
        return 0

    def remaining_tokens(self, messages, *, tools=()):
        return 0

    @property
    def capabilities(self):
        return INFO

    @property
    def model_info(self):
        return INFO


def asking(tool, arguments="{}"):
    """A reply that asks for a tool."""
    return [FunctionCall(id="c1", name=tool, arguments=arguments)]


class WrittenClient(HungryClient):
    """Says what is written, in order, and remembers what it was asked."""

    def __init__(self, replies, repeat=False):
        super().__init__(answer_after=0)
        self.replies, self.repeat, self.asked = replies, repeat, []

    async def create(self, messages, **options):
        self.asked.append(list(messages))
        result = await super().create(messages, **options)
        number = len(self.asked) - 1
        result.content = self.replies[number % len(self.replies) if self.repeat else number]
        return result


async def look(query: str) -> str:
    """Look something up."""
    return f"found {query}"


class SwallowingAgent(AssistantAgent):
    """Catches every error, and tries again 50 times."""

    caught = 0

    async def on_messages_stream(self, messages, cancellation_token):
        for _ in range(50):
            try:
                await self._model_client.create([SystemMessage(content=SYSTEM)])
            except Exception:
                self.caught += 1
        message = TextMessage(content="all is well", source=self.name)
        yield Response(chat_message=message)


def hungry_agent(client, kind=AssistantAgent, **options):
    """An agent with one tool that counts its executions in `agent.executions`."""
    executions = []

    async def look(query: str) -> str:
        """Look something up."""
        executions.append(query)
        return f"found {query}"

    options = {"max_tool_iterations": 40, "system_message": SYSTEM, "tools": [look], **options}
    agent = kind("seeker", client, **options)
    agent.executions = executions
    return agent
