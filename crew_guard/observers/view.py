"""The live view of runs: who does what, the budgets as bars against their caps, the latest steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crew_guard.core.limits import NO_CAP, Caps, Ledger
from crew_guard.observers.words import Line, Teller, Tone, clean, count, dollars, seconds

STYLES: dict[Tone, str] = {"plain": "dim", "good": "green", "bad": "red", "warn": "yellow"}
_MOST_RUNS = 3
_BAR = 24
_NEARLY_USED = 0.9


def draw(runs: Mapping[str, Teller], recent: Sequence[Line], now: float) -> RenderableType:
    """Everything that is under way.

    Args:
        runs: by id
        recent: the latest lines, the newest last
        now: Unix seconds
    """
    parts: list[RenderableType] = []
    going = [(run_id, teller) for run_id, teller in runs.items() if not teller.state.ended]
    for run_id, teller in going[:_MOST_RUNS]:
        parts += _one(run_id, teller, now)
    if len(going) > _MOST_RUNS:
        parts.append(Text(f"and {len(going) - _MOST_RUNS} more runs", style="dim"))
    parts += [Text(str(line), style=STYLES[line.tone], no_wrap=True, overflow="ellipsis") for line in recent]
    return Group(*parts)


def _one(run_id: str, teller: Teller, now: float) -> list[RenderableType]:
    state = teller.state
    if state.started is None:
        return []
    elapsed = max(0.0, now - state.started.at)
    side = "its workflow" if state.side == "fallback" else "the crew"
    head = Text(clean(state.started.crew, 40), style="bold")
    head.append(f"  {clean(run_id, 12)}  {side} at work, {seconds(elapsed)}", style="dim")
    return [head, _agents(teller), _budgets(state.ledgers["run"], elapsed, state.started.max_seconds)]


def _agents(teller: Teller) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, used in ((name, teller.state.used(f"agent:{name}")) for name in teller.agents()):
        doing = teller.doing(name)
        spent = f"{count(used.steps, 'step')}, {count(used.tokens, 'token')}" if used.steps else ""
        table.add_row(
            Text(clean(name, 24), style="bold" if doing and doing != "has finished" else ""),
            Text(doing, no_wrap=True, overflow="ellipsis"),
            Text(spent, style="dim"),
        )
    return table


def _budgets(run: Ledger, elapsed: float, max_seconds: float | None) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in Caps._fields[1:]:
        used, cap = run.used.of(name), getattr(run.caps, name)
        label = "money" if name == "nano_usd" else name.replace("_", " ")
        figure = dollars if name == "nano_usd" else "{:,}".format
        _budget(table, label, (figure(used), figure(cap)), (used, cap))
    caps = NO_CAP if max_seconds is None else max_seconds
    _budget(table, "time", (seconds(elapsed), seconds(caps)), (elapsed, caps))
    return table


def _budget(table: Table, label: str, figures: tuple[str, str], amounts: tuple[float, float]) -> None:
    used, cap = amounts
    if cap >= NO_CAP:
        table.add_row(label, "", Text(figures[0]))
        return
    full = used >= cap * _NEARLY_USED
    style = "red" if full else "green"
    bar = ProgressBar(total=cap or 1, completed=min(used, cap), width=_BAR, complete_style=style, finished_style="red")
    table.add_row(label, bar, Text(f"{figures[0]} of {figures[1]}"))
