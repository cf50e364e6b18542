"""Guardrails on content that ship, and the ways to bring your own.

A guardrail looks at Content and answers with a Check: PASSED, fixed(value) or rejected(reason).
"""

from __future__ import annotations

from crew_guard.core.content import PASSED, Check, fixed, rejected
from crew_guard.guardrails.adapt import as_guardrail, crewai_guardrail, validator
from crew_guard.ports import Content

__all__ = ["PASSED", "Check", "Content", "as_guardrail", "crewai_guardrail", "fixed", "rejected", "validator"]
