"""The track record as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from msgspec import to_builtins

from crew_guard.core.reliability.accounts import Account, Part, Raise, Rating, rating, rating_of_workflow
from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.counts import Counts, Score
from crew_guard.core.reliability.trials import Subject
from crew_guard.ports import KeptRun, KeptVerdict


def account_json(found: Account) -> dict[str, Any]:
    """Everything that is known of a crew."""
    record, parts = found.record, found.estimate
    return {
        "crew": record.crew,
        "version": record.version,
        "versions_before": record.versions,
        "threshold": found.settings.threshold,
        "confidence": found.settings.confidence,
        "tier": tier_of_account(found),
        "next_tier": to_builtins(found.next),
        "estimate": None
        if parts is None
        else {
            "point": parts.point,
            "lower": parts.lower,
            "upper": parts.upper,
            "disagreement": parts.disagreement or None,
            "words": parts.words or None,
            "hand_off": parts.hand_off,
            "culprit": parts.culprit or None,
            "least_tested": parts.least_tested or None,
        },
        "measured": rating_json(found.measured),
        "workflow": None if (of_workflow := rating_of_workflow(found)) is None else rating_json(of_workflow),
        "score": _score(found.score),
        "breaker": _breaker(record.breaker),
        "detectors": {
            "evidence": found.evidence,
            "alarm_after": found.settings.alarm_after,
            "streams": [to_builtins(watch) for watch in found.watches],
        },
        "agents": [_part(part) for part in found.parts],
        "runs": {"crew": record.crew_runs.runs, "workflow": record.workflow_runs.runs, "shadow": record.shadows},
        "faults": record.crew_runs.faults + record.workflow_runs.faults,
        "structure": to_builtins(found.structure),
    }


def tier_of_account(found: Account) -> str:
    """The tier that a crew has proven: by what was measured alone where nothing is known of its parts."""
    return found.measured.tier if found.estimate is None else found.estimate.tier


def agent_json(subject: Subject, counts: Counts, confidence: float) -> dict[str, Any]:
    """One subject's trials in all crews, with the confidence of its bounds."""
    return {**_subject(subject), **rating_json(rating(counts, confidence)), "confidence": confidence}


def rating_json(one: Rating) -> dict[str, Any]:
    """Counts, their bounds, their tier and the way to the next."""
    return {
        "trials": one.counts.trials,
        "good": one.counts.good,
        "rate": one.counts.rate,
        "lower": one.bounds.lower,
        "upper": one.bounds.upper,
        "tier": one.tier,
        "next_tier": to_builtins(one.next),
    }


def run_json(run: KeptRun, found: Account, best: Raise | None) -> dict[str, Any]:
    """One run's verdicts, and what they mean for its crew."""
    named = ("run_id", "crew", "version", "at", "via", "shadow", "usd", "seconds", "faults", "ended_by_fault")
    return {
        **{name: getattr(run.report, name) for name in named},
        "outcome": None if run.outcome is None else run.outcome.grade,
        "verdicts": [_verdict(one) for one in run.verdicts],
        "raise": to_builtins(best),
        "reliability": account_json(found),
    }


def _verdict(one: KeptVerdict) -> dict[str, Any]:
    return {**asdict(one), "subject": None if one.subject is None else _subject(one.subject)}


def _part(part: Part) -> dict[str, Any]:
    subject = {"subject": None if part.subject is None else _subject(part.subject)}
    return {"name": part.name, **subject, **rating_json(part.rating), "p": part.p, "leverage": part.leverage}


def _subject(subject: Subject) -> dict[str, str]:
    return {"role": subject.role, "model": subject.model, "kind": subject.kind, "version": subject.version}


def _breaker(breaker: Breaker) -> dict[str, Any]:
    return {
        "state": breaker.state,
        "since": breaker.since or None,
        "why": breaker.why or None,
        "culprit": breaker.culprit or None,
        "probes": breaker.probes,
        "tests": {name: {"answer": one.answer, "trials": one.trials} for name, one in breaker.tests.items()},
    }


def _score(one: Score | None) -> dict[str, Any] | None:
    return None if one is None else to_builtins(one)
