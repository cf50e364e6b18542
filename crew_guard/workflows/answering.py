"""One question to a model, through the gate: its answer as text, or as an instance of a pydantic model.

An answer that doesn't follow the model, or that a guardrail turns down, may be mended twice, each time a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from crew_guard.core.decisions import Stop
from crew_guard.core.messages import Message, ModelReply, ModelRequest
from crew_guard.core.tools import misfit
from crew_guard.errors import PolicyDeniedError
from crew_guard.ports import CallTerms, Gate, Model
from crew_guard.workflows.context import NodeContext, NodeFailedError

_REPAIRS = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked, and what its answer must follow."""

    model: Model
    prompt: str | Message | Sequence[Message]
    output: type[BaseModel] | None = None
    max_tokens: int | None = None
    system: str = ""

    def messages(self, node: str) -> list[Message]:
        """The prompt as messages.

        Raises:
            NodeFailedError: it is neither a text nor messages
        """
        prompt: Any = self.prompt
        if isinstance(prompt, str):
            prompt = Message("user", prompt)
        given = cast("list[Any]", [prompt] if isinstance(prompt, Message) else prompt)
        if not isinstance(given, list | tuple) or not all(isinstance(each, Message) for each in given) or not given:  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(cast("object", prompt)).__name__
            raise NodeFailedError(f"{node} must return its prompt, a text or a list of Message, not a {kind}")
        first = [Message("system", self.system)] if self.system else []
        return [*first, *given]


async def answered(question: Question, context: NodeContext) -> Any:
    """The model's answer. See NodeContext.ask."""
    gate, node, model, output = context.gate, context.node, question.model, question.output
    refuse_unpriced(model, node, dollars=context.dollars)
    messages = question.messages(node)
    if context.problem:
        messages.append(Message("user", f"The answer before was turned down: {context.problem}"))
    schema = output.model_json_schema() if output else None
    name = output.__name__ if output else "output"
    overhead = model.bound_request((), schema)
    problem = ""
    for _ in range(_REPAIRS + 1):
        tokens = sum(map(model.bound, messages)) + overhead
        request = ModelRequest(tuple(messages), (), schema, name, tokens)
        reply = await gate.call_model(node, model, request, CallTerms(question.max_tokens))
        made, problem = _parsed(reply, output)
        if not problem:
            made, problem = await _guarded(gate, node, made)
            if not problem:
                return made
        messages += [Message("assistant", reply.text), Message("user", f"{problem}\nAnswer again, mended.")]
    raise NodeFailedError(problem)


def refuse_unpriced(model: Model, node: str, *, dollars: bool) -> None:
    """A cap in dollars would not hold for a model whose price nobody knows.

    Raises:
        PolicyDeniedError
    """
    if dollars and model.rates is None:
        detail = f"no price is known for {model.name}, and the caps of {node} limit dollars: give it one in the policy"
        raise PolicyDeniedError(Stop("denied", f"node:{node}", "max_usd", detail=detail))


def _parsed(reply: ModelReply, output: type[BaseModel] | None) -> tuple[Any, str]:
    """The answer, and what is wrong with it."""
    if reply.finish not in ("stop", "tool_calls", "end_turn"):
        cut = "was cut at its longest length" if reply.finish == "length" else f"was ended with {reply.finish!r}"
        raise NodeFailedError(f"the model's answer {cut}")
    text = reply.text.strip()
    if output is None:
        return reply.text, "" if text else "the answer is empty"
    if text.startswith("```") and text.endswith("```"):
        text = text.removesuffix("```").split("\n", 1)[-1]  # models like to fence JSON
    try:
        return output.model_validate_json(text), ""
    except Exception as error:  # noqa: BLE001  a validator of a user's may raise what it likes
        return None, misfit(error, "the answer")


async def _guarded(gate: Gate, node: str, made: Any) -> tuple[Any, str]:
    check = await gate.check("outputs", node, node, made)
    if check.outcome != "reject":
        return (check.value if check.outcome == "fix" else made), ""
    if not check.mendable:
        raise NodeFailedError(f"the answer was turned down by {check.reason}")
    return None, f"Your answer was turned down by {check.reason}"
