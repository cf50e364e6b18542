"""How reliable a run's crew is, for `runs show`: the route from its journal, the figures from the track record.

A Result has the figures of its run's end. Nobody kept those: what is known now is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crew_guard.cli.reliability import account_of
from crew_guard.cli.unreported import why_unreported
from crew_guard.core.events import Event, Routed
from crew_guard.core.standing import Reliability, standing
from crew_guard.errors import StoreError
from crew_guard.observers.words import Teller
from crew_guard.ports import KeptRun, TrackRecord


def standing_of(run_id: str, events: Sequence[Event], teller: Teller, track: TrackRecord) -> Reliability | None:
    """What is known of the reliability of a run's crew; None where nothing of the run was judged or routed.

    Args:
        events: the run's journal
        teller: which has folded them
        track: of the same store
    """
    routed = next((event for event in events if isinstance(event, Routed)), None)
    told: dict[str, Any] = {} if routed is None else {"routed": routed.to, "why": routed.why}
    try:
        run = track.run(run_id)
        if run is not None:
            return _kept(run, track, told)
        problem = why_unreported(teller, routed=routed is not None)
    except StoreError as error:
        problem = str(error)
    if routed is None and not teller.state.verdicts:
        return None
    figures: dict[str, Any] = {} if routed is None else {**routed.figures}
    if "runs" in figures:
        figures["runs"] = int(figures["runs"])
    known = {name: value for name, value in figures.items() if name in Reliability.__slots__}
    return Reliability("", **known, **told, problem=problem)


def _kept(run: KeptRun, track: TrackRecord, told: dict[str, Any]) -> Reliability:
    report = run.report
    record = track.crew(report.crew, report.version)
    outcome = report.crew_grade
    if report.own or report.shadow:
        outcome = None if run.outcome is None else run.outcome.grade
    if record is None:
        raise StoreError(f"crew {report.crew!r} has no record of the version that ran")
    found = account_of(track, record, report.version)
    return standing(report.version, found.settings, record, found.estimate, **told, outcome=outcome)
