"""A model says whether content may go on. It is asked through the gate, as an agent of its own."""

from __future__ import annotations

import secrets

from crew_guard.core.content import PASSED, Check, JudgeRule, rejected
from crew_guard.core.messages import ModelRequest
from crew_guard.core.verdicts import SAID_SCHEMA, judge_messages, said
from crew_guard.guardrails.base import Runs, Shipped
from crew_guard.ports import CallTerms, Content, Model


class JudgeGuardrail(Shipped):
    """Anything but a clear yes in the form that was asked for is a no."""

    runs: Runs = "gate"

    def __init__(self, rule: JudgeRule, model: Model) -> None:
        self.name = rule.name
        self._rule = rule
        self._model = model

    async def check(self, content: Content) -> Check:
        """One model call, in as many attempts as the policy allows.

        Raises:
            RefusedError: there is no budget for it
            ModelError: its provider failed for good
        """
        mark = f"TEXT-{secrets.token_hex(6)}"
        messages = judge_messages(self._rule.rule, content.text, mark)
        bound = sum(map(self._model.bound, messages)) + self._model.bound_request((), SAID_SCHEMA)
        request = ModelRequest(messages, (), SAID_SCHEMA, "verdict", bound)
        terms = CallTerms(self._rule.max_tokens, min(32, self._rule.max_tokens))
        reply = await content.gate.call_model(self._rule.name, self._model, request, terms)
        return _verdict(reply.text)


def _verdict(text: str) -> Check:
    answer = said(text)
    if answer is None:
        return rejected("the judge gave no verdict", mendable=False)
    passed, reason = answer
    return PASSED if passed else rejected(reason)
