"""What becomes of each key of crewAI's files: done here, told, refused, or without an effect.

A limit or a check that can't be held is refused, because a crew that runs without it is not the one
that was written down. What only changes how a job is done is told.
"""

from __future__ import annotations

from typing import NamedTuple

_NO_EFFECT = frozenset({"name", "verbose", "cache", "create_directory", "respect_context_window", "date_format"})
"""Said by observers anyway, or of no consequence here; a section is called by its key."""

_AGENT_DONE = ("role", "goal", "backstory", "llm", "tools", "max_iter", "allow_delegation")
_TASK_DONE = (
    "description", "expected_output", "agent", "context", "tools", "markdown", "output_pydantic",
    "output_json", "guardrail",
)  # fmt: skip

_AGENT_REFUSED = {
    "max_rpm": "requests a minute are not held here; limits.max_steps and max_seconds of a policy are",
    "max_execution_time": "a time of one agent's own is not held here; limits.max_seconds of a policy is the run's",
    "max_tokens": "it says nothing of what it counts; a policy's agents.NAME.max_tokens is prompt plus completion",
    "guardrail": "a check of one agent's every answer is not run here; give its tasks a guardrail",
}
_TASK_REFUSED = {
    "human_input": "nobody is asked to look at the answer here",
    "guardrails": "only one check of a task is run here: write guardrail, and put them into one function",
}
_AGENT_TOLD = {
    "function_calling_llm": "the agent's own model asks for tools",
    "max_retry_limit": "a failed call is tried again as the policy's attempts says",
    "guardrail_max_retries": "there is no guardrail that it belongs to",
    "use_system_prompt": "an agent's role is always its system prompt",
    "system_template": "prompts are crew_guard's own",
    "prompt_template": "prompts are crew_guard's own",
    "response_template": "prompts are crew_guard's own",
    "allow_code_execution": "no code is executed; give the agent a tool for it",
    "code_execution_mode": "no code is executed",
    "multimodal": "agents read and write text",
    "reasoning": "no plan is made first; write the plan as a task of its own",
    "max_reasoning_attempts": "no plan is made first",
    "planning": "no plan is made first; write the plan as a task of its own",
    "planning_config": "no plan is made first",
    "inject_date": "the date is not told; write {date} into the goal and give it as an input",
    "knowledge_sources": "there is no knowledge store; give the agent a search tool",
    "knowledge_storage": "there is no knowledge store",
    "knowledge_config": "there is no knowledge store",
    "embedder": "there is no knowledge store",
    "memory": "agents have no memory beyond their run",
    "callbacks": "callbacks are not called; an observer of the Supervisor is told of everything",
    "step_callback": "callbacks are not called; an observer of the Supervisor is told of everything",
    "apps": "crewAI's own platform is not used",
    "mcps": "MCP servers of the file are not connected; give their tools in tools=",
    "skills": "skills are not read; write them into the backstory",
    "tool_failure_policy": "an agent is told of a tool's failure, and may try otherwise",
    "from_repository": "crewAI's own platform is not used",
}
_TASK_TOLD = {
    "output_file": "it is not written; the output is in the result",
    "async_execution": "tasks are done one after another",
    "callback": "callbacks are not called; an observer of the Supervisor is told of everything",
    "callbacks": "callbacks are not called; an observer of the Supervisor is told of everything",
    "guardrail_max_retries": "an answer that its check turns down ends the crew's part",
    "max_retries": "an answer that its check turns down ends the crew's part",
    "allow_crewai_trigger_context": "there is no trigger payload",
    "input_files": "files are not handed over; give the agent a tool that reads them",
    "tool_failure_policy": "an agent is told of a tool's failure, and may try otherwise",
    "security_config": "it is not used",
    "converter_cls": "answers are read by the output's own model",
}


class Keys(NamedTuple):
    """The keys of one of the files."""

    done: tuple[str, ...]
    refused: dict[str, str]
    """With why, and the way out."""
    told: dict[str, str]
    """With what happens instead."""
    no_effect: frozenset[str] = _NO_EFFECT

    @property
    def all(self) -> list[str]:
        """Every key that is known."""
        return [*self.done, *self.refused, *self.told, *self.no_effect]


OF_AGENTS = Keys(_AGENT_DONE, _AGENT_REFUSED, _AGENT_TOLD)
OF_TASKS = Keys(_TASK_DONE, _TASK_REFUSED, _TASK_TOLD)
