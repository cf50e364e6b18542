"""Hearing a verifier: a function on a thread, a coroutine, or a judge whose model is asked through the gate."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from crew_guard.core.messages import ModelRequest
from crew_guard.core.plain import plain
from crew_guard.core.roles import Agent, Role
from crew_guard.core.verdicts import (
    SAID_SCHEMA,
    Judge,
    TaskContext,
    Verdict,
    Verify,
    judge_messages,
    raised,
    said,
    verdict_of,
)
from crew_guard.errors import ModelError, RefusedError
from crew_guard.ports import CallTerms, Gate, Model
from crew_guard.workflows.calling import call, named_while_on, what_was_raised


async def hear(
    verify: Verify, output: Any, context: TaskContext, gate: Gate, model_for: Callable[[Agent], Model], *, whose: str
) -> Verdict:
    """What a verifier says of an output. One that raises, or whose answer is none, has not said yes.

    Args:
        whose: the agent, or crew, whose output it is: a function that can't be ended is named as WHOSE/verify
        model_for: gives a judge its model, by `seat_of`
    Raises:
        RefusedError: there is no budget for the judge
        ModelError: the judge's provider failed for good
    """
    if isinstance(verify, Judge):
        return await _judged(verify, output, gate, model_for(seat_of(verify)))
    function = named_while_on(verify, partial(gate.in_thread, f"{whose}/verify"))
    try:
        return verdict_of(await call(function, output, context))
    except (RefusedError, ModelError):
        raise
    except Exception as error:  # noqa: BLE001  a verifier that raises has not said yes
        return raised(what_was_raised(error))


def seat_of(judge: Judge) -> Agent:
    """The judge as policies and the gate know it: an identity with a model."""
    return Agent(Role(name=judge.name, goal=judge.question, model=judge.model))


async def _judged(judge: Judge, output: Any, gate: Gate, model: Model) -> Verdict:
    messages = judge_messages(judge.question, _as_text(output), f"TEXT-{secrets.token_hex(6)}")
    bound = sum(map(model.bound, messages)) + model.bound_request((), SAID_SCHEMA)
    request = ModelRequest(messages, (), SAID_SCHEMA, "verdict", bound)
    reply = await gate.call_model(judge.name, model, request, CallTerms(judge.max_tokens, min(32, judge.max_tokens)))
    answer = said(reply.text)
    passed, reason = (False, "the judge gave no verdict") if answer is None else answer
    return Verdict(passed, reason, source="judge")


def _as_text(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(plain(output), ensure_ascii=False)
