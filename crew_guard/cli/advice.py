"""What the advisor found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from crew_guard.core.reliability.advising import Advice, Option, Proof, Rescue
from crew_guard.core.reliability.dropping import Watched
from crew_guard.core.reliability.reasons import WORDS
from crew_guard.core.reliability.simulating import Figure, Played, Simulation
from crew_guard.core.reliability.ways import Assumption, Case, Way
from crew_guard.observers.words import clean, seconds

_UNKNOWN = "unknown"


def advice_parts(advice: Advice, sources: Sequence[str]) -> Iterator[RenderableType]:
    """The recommendation, the ways beside each other, and everything behind it."""
    yield Text(f"{clean(advice.job, 80)}: {WORDS[advice.recommended]}", style="bold green")
    yield Text(f"Rule: {clean(advice.rule)}\n")
    yield _options_table(advice)
    yield from _list("Why", advice.numbers)
    rescues = [_rescue_words(one, advice.monthly) for one in advice.rescues]
    yield from _list(f"The crew with the {WORDS[advice.recommended]} to fall back to", rescues)
    yield from _list("Steps that need a person", list(_people_words(advice)) or ["none is said to be irreversible"])
    yield from _list("Straight passes that prove it", [_proof_words(proof) for proof in advice.proofs])
    yield from _list("Warnings", advice.warnings, "yellow")
    yield from _list("Figures from", sources)
    yield from _list("Assumed", list(assumed_lines(advice.assumed)), "dim")


def assumed_lines(assumed: Sequence[Assumption]) -> Iterator[str]:
    """Assumptions, those that say the same of several keys in one line."""
    by_text: dict[str, list[str]] = {}
    for one in assumed:
        by_text.setdefault(one.assumed, []).append(one.key)
    for text, keys in by_text.items():
        yield f"{', '.join(keys)}: {text}"


def _list(title: str, lines: Sequence[str], style: str = "") -> Iterator[Text]:
    if lines:
        yield Text(f"\n{title}", style="bold")
        for line in lines:
            yield Text(f"  {clean(line)}", style=style)


def _options_table(advice: Advice) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("Way", no_wrap=True)
    for name in ("Success", "Bound", "A task", "A month", "Wrong a month", "Time", "Good for"):
        table.add_column(name, justify="right" if name != "Good for" else "left", no_wrap=True)
    for option in advice.options:
        for case in option.way.cases:
            table.add_row(*_row(advice, option, case))
    return table


def _row(advice: Advice, option: Option, case: Case) -> Iterator[Text]:
    way, first = option.way, case is option.way.cases[0]
    chosen = option is advice.options[0]
    yield Text(_way_name(way) if first else f"  {_case_name(case)}", style="green" if chosen and first else "")
    yield Text(_share(case.success))
    yield Text("none" if case.lower is None else _share(case.lower))
    yield Text(_usd(way.usd) if first else "")
    yield Text(_usd(option.usd_month) if first else "")
    wrong = None if case.success is None or advice.monthly is None else (1 - case.success) * advice.monthly
    yield Text(_UNKNOWN if wrong is None else f"{wrong:,.0f}")
    yield Text("" if not first else _UNKNOWN if way.seconds is None else seconds(way.seconds))
    proven = "" if option.proven else ", as described"
    yield Text(f"{option.tier}{proven}" if case is way.decisive and option.tier else "")


def _way_name(way: Way) -> str:
    return f"crew of {way.agents}" if way.form == "crew" else WORDS[way.form]


def _case_name(case: Case) -> str:
    return "a person catches all" if case.catches == 1 else f"a person catches {case.catches:g}"


def _people_words(advice: Advice) -> Iterator[str]:
    for one in advice.people:
        yield f"{one.step}: {one.who or 'nobody is named'}, because {one.why}"
    usd, monthly = advice.person_usd, advice.monthly
    if usd is not None:
        month = "" if monthly is None else f", {_usd(_times(usd, monthly))} a month"
        yield f"their look costs {_usd(usd)} a task{month}, besides what stands above"
    if advice.person_seconds is not None:
        month = "" if monthly is None else f", {advice.person_seconds * monthly / 3600:,.1f} hours a month"
        yield f"their look takes {seconds(advice.person_seconds)} a task{month}, besides the times above"


def _rescue_words(one: Rescue, monthly: float | None) -> str:
    cost = "" if one.usd is None else f", {_usd(one.usd)} a task"
    month = "" if one.usd is None or monthly is None else f", {_usd(_times(one.usd, monthly))} a month"
    return f"{one.caught:.0%} of its failures noticed: {one.formula} = {one.success:.3f}{cost}{month}"


def _proof_words(one: Proof) -> str:
    chance = ""
    if one.chance is not None:
        chance = f"; if the prediction is true, so many in a row come with a chance of {one.chance:.1%}"
    return f"{one.level}, at least {one.least:g}: {one.passes:,} tasks that all succeed{chance}"


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3f}"


def _usd(value: Decimal | float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"${value:,.2f}" if value == 0 or abs(value) >= Decimal("0.1") else f"${value:.4f}"


def _times(usd: Decimal, tasks: float) -> Decimal:
    return usd * Decimal(str(tasks))


def simulation_parts(found: Simulation, seed: int, sources: Sequence[str]) -> Iterator[RenderableType]:
    """What playing the ways showed, each figure beside the arithmetic."""
    yield Text(f"{clean(found.job, 80)}: {found.runs:,} tasks each way, seed {seed}\n", style="bold")
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("Way", no_wrap=True)
    for name in ("Success", "95 %", "Arithmetic", "A task", "Arithmetic", "Time", "p50", "p95", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    for played in found.played:
        table.add_row(*_played_row(played))
    yield table
    apart = [line for one in found.played for line in _apart(one)]
    if apart:
        head = "Outside of the simulation's 95 % interval, as 1 of 20 figures is that is right"
        yield from _list(head, apart, "yellow")
    elif found.played:
        yield Text("\nEvery figure of the arithmetic lies in the simulation's 95 % interval.")
    if found.watched is not None:
        yield from _list("The crew with the breaker, where a step drops", list(_watched_words(found.watched)))
    yield from _list("Left out", found.left_out, "yellow")
    yield from _list("Figures from", sources)
    yield from _list("Assumed", list(assumed_lines(found.assumed)), "dim")


def _watched_words(one: Watched) -> Iterator[str]:
    yield f"{one.histories:,} histories of {one.tasks:,} tasks; the drop opened the breaker in {one.seen:.0%}"
    if one.delay is not None:
        ends = one.delay_interval
        spread = "" if ends is None else f" ({ends.lower:.0f} to {ends.upper:.0f})"
        yield f"{one.delay:.0f} tasks{spread} from the drop to that; it named the right step in {one.culprit or 0:.0%}"
    yield f"it opened before the drop in {one.false_alarms:.1%} of them"
    cost = "" if one.usd is None else f", {_usd(one.usd)} a task"
    beside = f"unwatched {one.unwatched:.3f}, by an oracle {one.oracle:.3f}"
    yield f"success over all tasks {one.success:.3f}{cost}; {beside}"


def _apart(played: Played) -> Iterator[str]:
    """What of a way's arithmetic lies outside of its interval."""
    latency = played.latency
    every = {"success": played.success, "cost": played.usd, "time": None if latency is None else latency.mean}
    for name, figure in every.items():
        if figure is not None and not figure.agrees:
            low, high = figure.interval
            by_arithmetic = f"by arithmetic {figure.arithmetic:.4f}, played {low:.4f} to {high:.4f}"
            yield f"{_played_name(played)}: {name}, {by_arithmetic}"


def _played_name(played: Played) -> str:
    looks = "" if played.catches is None else f", a person catches {played.catches:.0%}"
    noticed = "" if played.caught is None else f", {played.caught:.0%} noticed"
    return f"{WORDS[played.way]}{noticed}{looks}"


def _played_row(played: Played) -> Iterator[str]:
    success, usd, latency = played.success, played.usd, played.latency
    yield _played_name(played)
    yield f"{success.value:.4f}"
    yield f"{success.interval.lower:.4f} to {success.interval.upper:.4f}"
    yield f"{success.arithmetic:.4f}"
    yield _usd(None if usd is None else usd.value)
    yield _usd(None if usd is None else usd.arithmetic)
    if latency is None:
        yield from (_UNKNOWN,) * 4
    else:
        yield from (seconds(value) for value in (latency.mean.value, latency.p50, latency.p95, latency.p99))


def advice_json(advice: Advice, sources: Sequence[str]) -> dict[str, Any]:
    """Everything as JSON values; money in dollars, times in seconds."""
    return {
        "job": advice.job,
        "recommended": advice.recommended,
        "rule": advice.rule,
        "numbers": list(advice.numbers),
        "target": advice.target,
        "tasks_a_month": advice.monthly,
        "options": [_option_json(option) for option in advice.options],
        "crew_with_fallback": [{**one._asdict(), "usd": _float(one.usd)} for one in advice.rescues],
        "people": [one._asdict() for one in advice.people],
        "person_usd": _float(advice.person_usd),
        "person_seconds": advice.person_seconds,
        "proofs": [one._asdict() for one in advice.proofs],
        "warnings": list(advice.warnings),
        "sources": list(sources),
        "assumed": [one._asdict() for one in advice.assumed],
    }


def _option_json(option: Option) -> dict[str, Any]:
    way = option.way
    return {
        "way": way.form,
        "agents": way.agents,
        "steps": [_part_json(part) for part in way.parts],
        "success": way.decisive.success,
        "lower": way.decisive.lower,
        "cases": [case._asdict() for case in way.cases],
        "usd": _float(way.usd),
        "usd_month": _float(option.usd_month),
        "failures_month": option.failures_month,
        "seconds": way.seconds,
        "reaches_target": option.reaches,
        "tier": option.tier,
        "proven": option.proven,
    }


def _part_json(part: Any) -> dict[str, Any]:
    seconds_of = None if part.time is None else part.time._asdict()
    return {**part._asdict(), "usd": _float(part.usd), "time": seconds_of}


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def simulation_json(found: Simulation, seed: int, sources: Sequence[str]) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "job": found.job,
        "runs": found.runs,
        "seed": seed,
        "ways": [_played_json(one) for one in found.played],
        "left_out": list(found.left_out),
        "drop": None if found.watched is None else found.watched._asdict(),
        "sources": list(sources),
        "assumed": [one._asdict() for one in found.assumed],
    }


def _played_json(played: Played) -> dict[str, Any]:
    latency = played.latency
    told: dict[str, Any] = {"way": played.way, "catches": played.catches, "caught": played.caught}
    told["success"] = _figure_json(played.success)
    told["usd"] = None if played.usd is None else _figure_json(played.usd)
    told["seconds"] = None
    if latency is not None:
        ends = list(latency.p95_interval)
        told["seconds"] = {
            "mean": _figure_json(latency.mean), "p50": latency.p50, "p95": latency.p95,
            "p95_interval": ends, "p99": latency.p99,
        }  # fmt: skip
    return told


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "value": figure.value,
        "interval": list(figure.interval),
        "arithmetic": figure.arithmetic,
        "agrees": figure.agrees,
    }
