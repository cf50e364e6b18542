"""A LlamaIndex agent as it is written without crew_guard, and the one line that bounds it.

pip install 'crew-guard[llama-index]' && python examples/guard_llama_index.py
"""

import asyncio

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, ToolCallBlock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from crew_guard import Limits, Policy, guard

SEARCHES: list[str] = []


async def search(query: str) -> str:
    """Find passages about the query."""
    SEARCHES.append(query)
    return f"something about {query}, but there is more"


class InsatiableModel(FunctionCallingLLM):
    """Stands in for OpenAI(model="gpt-4.1-mini"): 40 times it wants another search."""

    asked: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name="insatiable")

    async def achat(self, messages, max_tokens=None, **kwargs):
        self.asked += 1
        raw = {"usage": {"prompt_tokens": 200, "completion_tokens": 20}}
        if self.asked > 40:
            return ChatResponse(message=ChatMessage("That is all.", role="assistant"), raw=raw)
        wish = ToolCallBlock(
            tool_call_id=f"call_{self.asked}", tool_name="search", tool_kwargs={"query": f"gzip, part {self.asked}"}
        )
        return ChatResponse(message=ChatMessage(role="assistant", blocks=[wish]), raw=raw)

    def chat(self, messages, **kwargs):
        raise NotImplementedError("the agent is asynchronous")

    complete = acomplete = stream_chat = astream_chat = stream_complete = astream_complete = chat

    def _prepare_chat_with_tools(self, tools, chat_history=None, **kwargs):
        return {"messages": chat_history or [], "tools": [tool.metadata.to_openai_tool() for tool in tools]}

    def get_tool_calls_from_response(self, response, error_on_no_tool_call=True, **kwargs):
        wishes = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        return [ToolSelection(tool_id=w.tool_call_id, tool_name=w.tool_name, tool_kwargs=w.tool_kwargs) for w in wishes]


def agent_as_you_write_it() -> FunctionAgent:
    """Nothing of crew_guard in here."""
    return FunctionAgent(name="seeker", tools=[search], llm=InsatiableModel(), streaming=False)


async def on_its_own() -> None:
    await agent_as_you_write_it().run(user_msg="What is gzip?", max_iterations=50)


def main() -> None:
    """The same agent twice: on its own, then bounded."""
    asyncio.run(on_its_own())
    print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(agent_as_you_write_it(), policy=Policy(limits=Limits(max_steps=6, max_tool_calls=4)))
    result = guarded.run("What is gzip?")
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
