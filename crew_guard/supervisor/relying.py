"""One run as its reliability sees it: where it goes, what was judged, whether the rest is worth it, what is kept.

Reading and writing the track record happens on a thread. What decides is pure: core/routing.py and core/tried.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from threading import Lock
from typing import Any

from loguru import logger

from crew_guard.core.events import Judged, Routed, Via
from crew_guard.core.limits import NO_CAP
from crew_guard.core.plain import error_words
from crew_guard.core.reliability.records import CrewRecord, crew_grade
from crew_guard.core.reliability.trials import RunReport, Subject, Trial, adherence, is_alone
from crew_guard.core.reliability.verdict import Estimate
from crew_guard.core.reliance import Reliance
from crew_guard.core.roles import Agent
from crew_guard.core.routing import (
    Known,
    Left,
    Routing,
    estimated,
    figures,
    forecast,
    instead_of_a_probe,
    is_of_this_version,
    routed,
)
from crew_guard.core.standing import Reliability, standing
from crew_guard.core.tried import (
    costs_of,
    counts_at_all,
    done_and_verified,
    is_refused,
    node_trials,
    outcome_of,
    own_outcome,
    trials_of,
    with_the_failed,
    workflow_outcome,
)
from crew_guard.core.usage import NANO
from crew_guard.core.verdicts import TaskContext, Verify
from crew_guard.errors import StoreError
from crew_guard.ports import Gate, Model, Recorded, Resuming, RuntimeResult, TasksDone, TrackRecord
from crew_guard.supervisor.finding import Ended
from crew_guard.supervisor.gate import Gatekeeper
from crew_guard.threads import in_thread
from crew_guard.workflows.hearing import hear

_LONGEST_WAIT = 2.0
"""Seconds past the run's own deadline that its track record may take."""
_KEPT_PROBE = "the probe of run {} is not given back: {}"
_MOMENT = 0.1
"""Seconds that a result waits for its probe to be given back where the run's loop is blocked."""
_RUN_OUT = ("limit", "deadline", "idle")
"""Stops that an agent who waits for its provider runs into, having nothing but attempts to spend."""
_LONGEST_PROBE = 3_600.0
"""Seconds until a probe without a deadline, of a process that died say, no longer blocks the next one."""


@dataclass(frozen=True, slots=True)
class Relied:
    """What a run needs where its reliability counts."""

    reliance: Reliance
    track: TrackRecord | None
    """None where the store keeps none: then nothing is decided, and verdicts are the run's own affair."""
    verify: Verify | None
    """Of the output as a whole."""
    model_for: Callable[[Agent], Model]
    """Gives judges their models."""
    subjects: Mapping[str, Subject] = field(default_factory=dict[str, Subject])
    """Of a workflow that runs by itself: whose record a verdict goes into, by node and by NODE/AGENT."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A workflow that goes on from what the crew has finished, seen as a plain one."""

    name: str
    workflow: Resuming
    done: Mapping[str, Any]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """See Workflow.run."""
        return await self.workflow.resume(inputs, gate, TasksDone(self.done))


@dataclass(slots=True)
class Relying:
    """The reliability of one run."""

    relied: Relied
    gate: Gatekeeper
    routing: Routing = field(default_factory=lambda: Routing("crew", ""))
    _known: Known = field(default_factory=Known)
    _crew: Ended | None = None
    """How the crew's part ended; None where it had none."""
    _heard: int = 0
    """Verdicts until then: the others are the workflow's."""
    _seconds: float = 0.0
    _left: bool = False
    """Whether nobody waits for the route any more."""
    _has_probe: bool = False
    """Whether the run holds its crew's probe, and gives it back."""
    _handing: Lock = field(default_factory=Lock)
    """Held while the one is looked at and the other changed: both threads do."""
    _kept_it: bool = False
    """Whether the run was handed to the track record, its probe with it."""

    @property
    def decides(self) -> bool:
        """Whether anything is decided by reliability."""
        reliance = self.relied.reliance
        return reliance.least is not None and not reliance.alone and self.relied.track is not None

    # Before

    async def route(self, *, fallback: bool, seconds: float) -> Routing:
        """Where the run goes; recorded where reliability decides.

        Args:
            seconds: of the run so far
        Raises:
            StoreError: the track record can't be read, or not in the run's time
        """
        if not self.decides:
            return self.routing
        try:
            async with asyncio.timeout(self._patience(seconds)):
                routing = await in_thread(self._route, fallback=fallback)
        except TimeoutError:
            with self._handing:
                self._left = True  # before the thread has its probe: then it gives it back itself
            raise StoreError("the track record could not be read in the time that the run has") from None
        self.routing = routing
        told = figures(routing, self.relied.reliance)
        self.gate.record(Routed, routing.to, self.gate.redact(routing.why), told, routing.probe)
        if routing.to == "shadow":
            self.gate.shadow = True
        elif fallback and routing.to == "crew" and self.relied.reliance.mode == "on_reliability":
            self.gate.on_verdict = self._look_ahead
        return routing

    def _route(self, *, fallback: bool) -> Routing:
        self._known = self._read()
        routing = routed(self.relied.reliance, self._known, self._draw(), fallback=fallback)
        track = self.relied.track
        if not routing.probe or track is None:
            return routing
        now, seconds = self.gate.clock.now(), self.gate.policy.limits.max_seconds
        until = now + (_LONGEST_PROBE if seconds is None else seconds + 1)
        mine = track.begin_probe(self.relied.reliance.crew, self.gate.run_id, until, now=now)
        with self._handing:
            self._has_probe = mine and not self._left
        if mine and not self._has_probe:
            track.end_probe(self.relied.reliance.crew, self.gate.run_id)
        return routing if mine else instead_of_a_probe(routing)

    def _patience(self, seconds: float) -> float | None:
        """How long a run that took so many seconds may wait for its track record; None where it has no deadline."""
        cap = self.gate.policy.limits.max_seconds
        return None if cap is None else max(0.0, cap - seconds) + _LONGEST_WAIT

    def _read(self) -> Known:
        reliance, track = self.relied.reliance, self.relied.track
        assert track is not None  # noqa: S101  the caller looked
        own = track.crew(reliance.crew, reliance.version)
        record = track.crew(reliance.crew) if own is None else own
        if record is not None and is_alone(record.version) != reliance.alone:
            record = track.crew(reliance.crew, like=reliance.version)
        return Known(record, track.counts({part.subject for part in reliance.parts}))

    def _draw(self) -> Callable[[float, float], float]:
        return Random(self.gate.run_id).betavariate  # noqa: S311  no secret: the same run draws the same

    # During

    async def verified(
        self, work: Callable[[], Coroutine[Any, Any, RuntimeResult]], gate: Gate, inputs: Mapping[str, Any]
    ) -> RuntimeResult:
        """The work's result, unfinished where the verifier of the whole says no."""
        result = await work()
        if result.partial or self.relied.verify is None:
            return result
        guarding = self.gate.guarding
        context = TaskContext(inputs if guarding is None else guarding.inputs, result.outputs)
        crew, model_for = self.relied.reliance.crew, self.relied.model_for
        verdict = await hear(self.relied.verify, result.output, context, gate, model_for, whose=crew)
        if verdict.blames and not self.relied.reliance.blamed(verdict.blames):
            told = f"it blames {verdict.blames!r}, which is no agent and no task of the crew"
            verdict = replace(verdict, blames="", reason=f"{verdict.reason} ({told})")
        gate.judged(crew, "output", replace(verdict, source="outcome"))
        if verdict.passed:
            return result
        why = verdict.reason or "no reason given"
        return replace(result, partial=True, reason=f"the verifier of the output said no: {why}")

    def _look_ahead(self, verdict: Judged) -> None:
        """After a verdict on the crew: end its part where the rest is not worth it."""
        state = self.gate.state
        if not verdict.passed or verdict.source == "outcome" or state.side != "crew":
            return  # a "no" ends the crew by itself, and after the outcome there is nothing to come
        left = self.gate.headroom.remaining("crew", "")  # of the crew: an agent's own cap is no other's
        held = state.ledgers["crew"].reserved.nano_usd
        usd = None if left.nano_usd == NO_CAP else (left.nano_usd + held) / NANO
        room = Left(usd, left.seconds, state.used("crew").nano_usd / NANO, self.gate.headroom.elapsed())
        by_parts = self.routing.by_parts
        reliance = self.relied.reliance
        stop = forecast(reliance, self._known, state.verdicts, room, self._draw(), by_parts=by_parts)
        if stop is not None:
            self.gate.stop("crew", stop)

    def crew_ended(self, ended: Ended, seconds: float) -> None:
        """The crew's part is over; what is judged from here on is its workflow's.

        Args:
            seconds: of the run so far
        """
        self._crew, self._seconds, self._heard = self._seen(ended), seconds, len(self.gate.state.verdicts)
        self.gate.on_verdict, self.gate.outage = None, False

    def _seen(self, ended: Ended) -> Ended:
        """How a side ended, an outage that lasted until a limit of its own being what ended it."""
        if ended.stop is None or ended.stop.reason not in _RUN_OUT or not self.gate.outage:
            return ended
        return replace(ended, stop=None, fault=True)

    def done(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """What of the crew's outputs is finished and verified, for a workflow that can go on from there."""
        if self.gate.shadow:
            return {}
        verified = done_and_verified(self.relied.reliance, self.gate.state.verdicts[: self._heard])
        return {task: output for task, output in outputs.items() if task in verified}

    # After

    async def keep(self, workflow: Ended | None, seconds: float) -> Reliability:
        """Add the run to the track record, and say what is known of the crew now. Never raises for the record's sake.

        Args:
            workflow: how the workflow's part ended; None where it had none
            seconds: of the whole run
        """
        told: dict[str, Any] = {}
        if self.decides:
            told = {"routed": self.routing.to, "why": self.routing.why}
        record, found = None, self.routing.estimate
        try:
            report = self._report(None if workflow is None else self._seen(workflow), seconds)
            if report is not None:
                told["outcome"] = crew_grade(report)
            if self.relied.track is not None:
                self._kept_it = True
                async with asyncio.timeout(self._patience(seconds)):
                    record, found = await in_thread(self._kept, report=report)
        except TimeoutError:
            told["problem"] = "the track record took too long: whether the run was added to it is unknown"
        except Exception as error:  # noqa: BLE001  the job is done: what goes wrong with its record costs no result
            told["problem"] = self.gate.redact(str(error) if isinstance(error, StoreError) else error_words(error))
            self._warn("the reliability of run {} is not kept: {}", error)
        reliance = self.relied.reliance
        return standing(reliance.version, reliance.settings, record, found, **told)

    async def let_go(self) -> None:
        """Give the probe back where the run ended without handing itself to the track record. Never raises."""
        track = self.relied.track
        if not self._has_probe or self._kept_it or track is None:
            return
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                await in_thread(track.end_probe, crew=self.relied.reliance.crew, run_id=self.gate.run_id)
        except Exception as error:  # noqa: BLE001  it ends by itself later, and the run has an error of its own
            self._warn(_KEPT_PROBE, error)

    def abandoned(self) -> None:
        """Give the probe back though the run's loop is blocked: from any thread, in a moment at most. Never raises."""
        with self._handing:
            self._left = True  # before the thread has its probe: then it gives it back itself
        track = self.relied.track
        if track is None or not self._has_probe or self._kept_it:
            return

        def end() -> None:
            try:
                track.end_probe(crew=self.relied.reliance.crew, run_id=self.gate.run_id)
            except Exception as error:  # noqa: BLE001  it ends by itself later
                self._warn(_KEPT_PROBE, error)

        thread = threading.Thread(target=end, name="crew_guard probe", daemon=True)
        thread.start()
        thread.join(_MOMENT)

    def _warn(self, told: str, error: Exception) -> None:
        logger.warning(told, self.gate.run_id, self.gate.redact(error_words(error)))

    def _kept(self, *, report: RunReport | None) -> tuple[CrewRecord | None, Estimate | None]:
        reliance, track = self.relied.reliance, self.relied.track
        assert track is not None  # noqa: S101  the caller looked
        try:
            if report is not None:
                track.add(report, reliance.settings, reliance.structure)
        finally:
            if self._has_probe:
                track.end_probe(reliance.crew, self.gate.run_id)
        known = self._read()
        record = known.record if is_of_this_version(reliance, known.record) else None
        return record, estimated(reliance, known, self._draw())

    def _report(self, workflow: Ended | None, seconds: float) -> RunReport | None:
        """What the run adds to its crew's record; None where it says nothing of it.

        A shadow's figures are the crew's: what its workflow did beside it is nobody's trial.
        """
        crew, reliance, verdicts = self._crew, self.relied.reliance, self.gate.state.verdicts
        first, side = crew or workflow, "fallback" if crew is None or reliance.alone else "crew"
        if first is None or not counts_at_all(first.stop, self.gate.state.used(side)):
            return None
        if reliance.alone:
            return self._of_itself(first)
        trials, grade = self._tried(crew) if crew else ((), None)
        if crew is not None and (workflow is None or self.gate.shadow):
            via: Via = "workflow" if workflow else "crew"
            costs = self._costs() if crew.done and workflow is None and len(reliance.parts) > 1 else {}
            return self._figures(via, self._seconds, crew.fault, trials=trials, outcome=grade, costs=costs)
        if workflow is None:
            return None
        own, outcome = verdicts[self._heard :], None
        if not counts_at_all(workflow.stop):
            if crew is None:
                return None
            own = []  # what a person ended says nothing of the workflow; how the crew had ended stays true
        elif not workflow.fault and not is_refused(workflow.stop):
            outcome = workflow_outcome(reliance, own, done=workflow.done)
        worker = workflow.workflow
        known: Mapping[str, Subject] = worker.subjects() if isinstance(worker, Recorded) else {}
        nodes = node_trials(worker.name if worker else "", own, known)
        found = {"trials": (*trials, *nodes), "outcome": outcome, "crew_grade": grade}
        return self._figures("workflow", seconds, workflow.fault, **found)

    def _costs(self) -> dict[str, float]:
        state = self.gate.state
        used = {agent: usage.nano_usd / NANO for agent, usage in state.usage_by_agent().items()}
        return costs_of(self.relied.reliance, used, state.used("run").nano_usd / NANO)

    def _of_itself(self, ended: Ended) -> RunReport:
        """What a workflow that ran by itself adds to its own record."""
        reliance, verdicts = self.relied.reliance, self.gate.state.verdicts[: self._heard]
        trials = node_trials(reliance.crew, verdicts, self.relied.subjects, "alone")
        if not ended.done and not ended.fault:
            trials = with_the_failed(reliance, trials, verdicts, ended.stop, ended.node)
        unseen = ended.fault or is_refused(ended.stop)
        outcome = None if unseen else own_outcome(reliance, verdicts, done=ended.done)
        return self._figures("workflow", self._seconds, ended.fault, trials=trials, outcome=outcome)

    def _tried(self, crew: Ended) -> tuple[tuple[Trial, ...], float | None]:
        """The trials of the crew's parts, and its own end-to-end grade.

        It has none where an outage or a forecast ended it: nobody saw how it would end. Nor did anybody once a shadow
        held back a tool: what was judged after it, good or bad, is no trial.
        """
        reliance, verdicts = self.relied.reliance, self.gate.state.verdicts[: self._heard]
        if self.gate.held_back is not None:
            return trials_of(reliance, verdicts[: self.gate.held_back]), None
        trials = trials_of(reliance, verdicts, crew.stop, crew.by)
        unseen = crew.fault or (crew.stop is not None and crew.stop.reason == "unreliable")
        return trials, None if unseen else outcome_of(reliance, verdicts, done=crew.done)

    def _figures(self, via: Via, seconds: float, fault: bool, **found: Any) -> RunReport:
        reliance = self.relied.reliance
        usd = self.gate.state.used("crew" if self.gate.shadow else "run").nano_usd / NANO
        return RunReport(
            run_id=self.gate.run_id,
            crew=reliance.crew,
            version=reliance.version,
            at=self.gate.clock.now(),
            usd=usd,
            seconds=round(seconds, 6),
            cost_adherence=adherence(reliance.target_usd, usd),
            latency_adherence=adherence(reliance.target_seconds, seconds),
            via=via,
            shadow=self.gate.shadow,
            faults=max(self.gate.faults, int(fault or (self._crew is not None and self._crew.fault))),
            ended_by_fault=fault,
            **found,
        )
