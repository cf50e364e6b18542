"""Who does the job: before a run by the three-way rule and the breaker, during it by a forecast. Pure.

A crew that was taken out, or that is new where an older version is known, comes back through probes: it works in a
shadow beside its workflow, whose output counts, until the tests of its record close the breaker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from crew_guard.core.decisions import Stop
from crew_guard.core.events import Judged
from crew_guard.core.reliability import bounds
from crew_guard.core.reliability.bounds import Betavariate
from crew_guard.core.reliability.breaker import Breaker, every
from crew_guard.core.reliability.counts import NO_TRIALS, Counts, Spent
from crew_guard.core.reliability.judging import counted
from crew_guard.core.reliability.records import CrewRecord, of_version
from crew_guard.core.reliability.structure import AllOf, Chain, Leaf, Structure
from crew_guard.core.reliability.trials import END_TO_END, NOBODYS, Subject
from crew_guard.core.reliability.verdict import Estimate, Way, estimate, route
from crew_guard.core.reliance import Part, Reliance
from crew_guard.core.tried import grade_of

_ENOUGH_RUNS = 5
"""Runs from which on a crew's mean cost says what the next one will cost."""
_NOTHING_SPENT = Spent()


class Known(NamedTuple):
    """What a track record says of a crew."""

    record: CrewRecord | None = None
    """Of its latest version, whichever that is."""
    counts: Mapping[Subject, Counts] = {}
    """Of its parts, by subject: all crews share them."""


class Routing(NamedTuple):
    """Where a run goes."""

    to: Way
    why: str
    probe: bool = False
    estimate: Estimate | None = None
    by_parts: bool = True
    """Whether the numbers of the parts decide, and not what was measured end to end."""


def estimated(reliance: Reliance, known: Known, beta: Betavariate) -> Estimate:
    """How reliable this version of the crew is; a host's own crew, whose parts aren't known, is one part."""
    record = known.record if is_of_this_version(reliance, known.record) else None
    confidence = reliance.settings.confidence
    measured = None if record is None else counted(record.end_to_end, reliance.judge, confidence)
    if reliance.structure is None:
        return estimate(Leaf(END_TO_END), {END_TO_END: measured or NO_TRIALS}, measured, confidence, beta)
    return estimate(reliance.structure, _counts(reliance, known), measured, confidence, beta)


def _counts(reliance: Reliance, known: Known) -> dict[str, Counts]:
    """By leaf, the errors of judges taken out."""
    confidence = reliance.settings.confidence
    return {
        part.key: counted(known.counts.get(part.subject, NO_TRIALS), part.judge, confidence) for part in reliance.parts
    }


def is_of_this_version(reliance: Reliance, record: CrewRecord | None) -> bool:
    """Whether a record speaks of this version of the crew."""
    return record is not None and record.version == reliance.version


def routed(reliance: Reliance, known: Known, beta: Betavariate, *, fallback: bool) -> Routing:
    """Where a run goes, whoever else is at it.

    Args:
        fallback: whether the crew has a workflow to go to
    """
    found = estimated(reliance, known, beta)
    if not fallback or reliance.mode != "on_reliability":
        # One that the policy keeps out is not known to the run at all.
        missing = not fallback and reliance.mode != "never"
        why = "it has no workflow" if missing else f"the policy's fallback is {reliance.mode}"
        return Routing("crew", why, estimate=found)
    record = known.record
    if record is not None:
        record = of_version(record, reliance.version, record.updated, reliance.settings)
        if record.breaker.state != "closed" and not _is_enough(reliance, record.breaker, found):
            return _by_breaker(reliance, record.breaker, found)
    if reliance.least is None:
        return Routing("crew", "the policy asks for no threshold", estimate=found)
    way = route(found, reliance.least, reliance.unknown)
    if way.way == "workflow" and way.by != "unknown" and record is not None:
        return _by_figures(reliance, record, Routing("workflow", way.why, estimate=found), beta)
    if way.way == "shadow" and not reliance.held_back:
        return Routing("workflow", f"{way.why}; it can't work in a shadow: its tools are the host's", estimate=found)
    return Routing(way.way, way.why, estimate=found, by_parts=way.by != "measured")


def _is_enough(reliance: Reliance, breaker: Breaker, found: Estimate) -> bool:
    """Whether the crew is proven to do what this policy asks, though another one that asks for more took it out."""
    least = reliance.least
    if least is None or not breaker.is_for_more(least):
        return False
    proof = route(found, least, "workflow")
    # A new version of the crew, that nobody is to blame for, is proven by what it did itself.
    return proof.way == "crew" and (proof.by == "measured" or bool(breaker.culprit))


def _by_breaker(reliance: Reliance, breaker: Breaker, found: Estimate | None) -> Routing:
    why = f"its breaker is {breaker.state.replace('_', '-')}: {breaker.why}"
    if breaker.due(reliance.settings.probes):
        return _probed(reliance, why, found)
    return Routing("workflow", why, estimate=found)


def _by_figures(reliance: Reliance, record: CrewRecord, routing: Routing, beta: Betavariate) -> Routing:
    """What follows where the figures are below the threshold, and nothing has opened the breaker."""
    if record.breaker.since:
        fresh = estimated(reliance, _fresh(record), beta)
        way = route(fresh, reliance.least or 0.0, "crew")
        if way.way == "crew":
            why = "its probes have closed the breaker: figures from before that don't count against it"
            return routing._replace(to="crew", why=why, by_parts=False)
        routing = Routing("workflow", f"{way.why}, since its probes closed the breaker", estimate=fresh)
    return _probed(reliance, routing.why, routing.estimate) if _is_its_turn(record, reliance) else routing


def _fresh(record: CrewRecord) -> Known:
    """What it did itself since its probes closed the breaker."""
    streams = {name: replace(stream, counts=stream.fresh) for name, stream in record.streams.items()}
    counts: dict[Subject, Counts] = {}
    for stream in streams.values():
        if stream.subject is not None:
            counts[stream.subject] = counts.get(stream.subject, NO_TRIALS) + stream.counts
    return Known(replace(record, streams=streams), counts)


def _is_its_turn(record: CrewRecord, reliance: Reliance) -> bool:
    """Whether the next run is one of those in which a crew may show that its figures are of yesterday."""
    return (record.runs + 1) % every(reliance.settings.probes) == 0


def _probed(reliance: Reliance, why: str, found: Estimate | None) -> Routing:
    if not reliance.held_back:
        # A host's own tools don't say what can't be undone: its probe is a run that counts.
        return Routing("crew", f"{why}; this run is its probe", probe=True, estimate=found)
    return Routing("shadow", why, probe=True, estimate=found)


def instead_of_a_probe(routing: Routing) -> Routing:
    """Where a run goes that should have been a probe, while another one is under way."""
    return Routing("workflow", f"{routing.why}; a probe is under way", estimate=routing.estimate)


def figures(routing: Routing, reliance: Reliance) -> dict[str, float]:
    """The numbers behind a routing, as far as they are known."""
    found, known = routing.estimate, {} if reliance.least is None else {"threshold": reliance.least}
    if found is None:
        return known
    known |= {"estimate": found.point, "lower": found.lower, "upper": found.upper, "confidence": found.confidence}
    if found.measured is not None:
        one = found.measured
        known |= {"measured": one.point, "measured_lower": one.lower, "measured_upper": one.upper}
        known["runs"] = one.counts.trials
    return {name: round(value, 6) for name, value in known.items()}


# While it runs


class Left(NamedTuple):
    """What the crew has left of its budget; None where there is no cap."""

    usd: float | None = None
    """What is reserved for calls under way belongs to it: most of it is given back."""
    seconds: float | None = None
    used_usd: float = 0.0
    used_seconds: float = 0.0


def forecast(
    reliance: Reliance, known: Known, verdicts: Sequence[Judged], left: Left, beta: Betavariate, *, by_parts: bool
) -> Stop | None:
    """Why the rest of a crew's tasks is not worth beginning: it can't reach the threshold, or won't fit.

    Args:
        verdicts: on the crew's tasks so far, all of them good
        left: of the crew's own budget, the workflow's reserve taken off
        by_parts: whether the parts' numbers count; what was measured end to end may say otherwise
    """
    done = _finished(reliance, {one.task for one in verdicts})
    rest = _without(reliance.structure, done)
    if rest is None or reliance.least is None:
        return None
    worst = _worth(reliance, verdicts, by_parts=by_parts)
    best = bounds.upper(rest, _counts(reliance, known), reliance.settings.confidence, beta) if by_parts else 1.0
    if min(worst, best) < reliance.least:
        detail = (
            f"the rest of the crew can't reach {reliance.least:g}: what is done is worth {worst:.3g}, "
            f"and the tasks to come succeed in at most {best:.3g} of the runs"
        )
        return Stop("unreliable", "crew", detail=detail)
    record = known.record
    if record is None or not is_of_this_version(reliance, record) or _is_its_turn(record, reliance):
        return None
    to_come = [part.key for part in _to_come(reliance, done)]
    return _too_dear(record, to_come, len(to_come) / len(reliance.parts), left) if to_come else None


def _worth(reliance: Reliance, verdicts: Sequence[Judged], *, by_parts: bool) -> float:
    """What the whole is worth at most, by what is judged so far; 1 where it has a verifier, which may think otherwise.

    Where the parts' numbers count all of them do; where measured outcomes say otherwise, those of the results.
    """
    if reliance.verified:
        return 1.0
    return min((grade_of(one) for one in verdicts if by_parts or one.task in reliance.results), default=1.0)


def _finished(reliance: Reliance, judged: Collection[str]) -> set[str]:
    """The keys of the parts that must be finished where these tasks are judged, by a verifier of their own or not."""
    tasks = {*judged, *reliance.before(judged)}
    if isinstance(reliance.structure, Chain):
        last = max((place for place, part in enumerate(reliance.parts) if part.task in judged), default=-1)
        tasks.update(part.task for part in reliance.parts[: last + 1])
    return {part.key for part in reliance.parts if part.task in tasks}


def _without(structure: Structure | None, done: Collection[str]) -> Structure | None:
    """What is left of a crew's structure; None where that is nothing."""
    if not isinstance(structure, Chain | AllOf):
        return None  # a single task is the whole crew
    left = tuple(part for part in structure.parts if isinstance(part, Leaf) and part.name not in done)
    return Chain(left) if left else None


def _to_come(reliance: Reliance, done: Collection[str]) -> list[Part]:
    """The parts that are not begun yet: in a parallel crew each begins as soon as what it needs is there."""
    left = [part for part in reliance.parts if part.key not in done]
    if isinstance(reliance.structure, Chain):
        return left
    made = {part.task for part in reliance.parts if part.key in done}
    return [part for part in left if not made.issuperset(part.needs)]


def _usd_of(record: CrewRecord, parts: Collection[str], share: float) -> float:
    """What these parts, which are a share of the crew, cost on average; of the crew's mean where that isn't known."""
    known = [record.costs.get(key, _NOTHING_SPENT) for key in {*parts}]
    if any(one.runs < _ENOUGH_RUNS for one in known):
        return record.crew_runs.usd / record.crew_runs.runs * share
    beside = record.costs.get(NOBODYS, _NOTHING_SPENT)
    return sum(one.usd / one.runs for one in known) + share * beside.usd / max(1, beside.runs)


def _too_dear(record: CrewRecord, parts: Collection[str], share: float, left: Left) -> Stop | None:
    """Why the rest won't fit; a forecast never asks for more than a mean run has still to come."""
    runs = record.crew_runs
    if runs.runs < _ENOUGH_RUNS:
        return None
    for limit, rest, mean, has, used in (
        ("max_usd", _usd_of(record, parts, share), runs.usd / runs.runs, left.usd, left.used_usd),
        ("max_seconds", runs.seconds / runs.runs * share, runs.seconds / runs.runs, left.seconds, left.used_seconds),
    ):
        needs = min(rest, mean - used)  # tasks aren't equally dear: the dear ones may be done
        if has is not None and needs > has:
            shown = [f"${value:.4g}" if limit == "max_usd" else f"{value:.3g} s" for value in (needs, has)]
            detail = f"the rest of the crew won't fit its budget: it takes {shown[0]} on average, {shown[1]} is left"
            return Stop("unreliable", "crew", limit, has + used, used, needs, detail)
    return None
