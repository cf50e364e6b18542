"""What a run came to, in words anyone understands: the answer, the path taken and why, what it cost.

Everything is rendered to text first: what writes it decides what a closed pipe means.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from crew_guard.cli.ends import shows
from crew_guard.core.limits import NO_CAP, Caps
from crew_guard.core.result import Result, plain
from crew_guard.core.usage import NOTHING, Usage
from crew_guard.observers.words import clean, count, dollars, end_words, seconds

_PIPED_WIDTH = 160
_LIMITS = {"agents": "agents", "steps": "steps", "tool_calls": "tool calls", "tokens": "tokens", "nano_usd": "money"}


def answer_text(output: Any) -> str:
    """An output as text: a brief with its findings, text as it is, the rest as indented JSON."""
    value = plain(output)
    if isinstance(value, str):
        return clean(value).strip("\n")
    if value is None:
        return ""
    if isinstance(value, dict) and _is_brief(cast(dict[str, Any], value)):
        return _brief(cast(dict[str, Any], value))
    return clean(json.dumps(value, indent=2, ensure_ascii=False))


def _is_brief(value: Mapping[str, Any]) -> bool:
    findings = value.get("findings")
    return isinstance(value.get("answer"), str) and isinstance(findings, list)


def _brief(value: Mapping[str, Any]) -> str:
    parts = [clean(value["answer"]).strip()]
    for number, finding in enumerate(value["findings"], 1):
        if not isinstance(finding, dict):
            parts.append(f"{number}. {clean(str(finding))}")
            continue
        found = cast(dict[str, Any], finding)
        lines = [f"{number}. {clean(str(found.get('claim') or '')).strip()}".rstrip()]
        if quote := clean(str(found.get("quote") or "")).strip():
            lines += [f"   > {line}" for line in quote.splitlines()]
        if source := clean(str(found.get("source") or ""), 300):
            lines.append(f"   {source}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def why_no_answer(result: Result, store: Path | None) -> str:
    """One line: why there is no answer, and how to look closer; store as in `print_summary`."""
    why = why_ended(result)
    if result.status == "running":
        return f"run {result.run_id} is unfinished: it goes on elsewhere, or its process died"
    return f"{result.status}: {why or 'no reason is recorded'}; see {shows(result.run_id, store)}"


def print_summary(result: Result, stream: TextIO, store: Path | None) -> None:
    """Write the answer and the account of one run.

    Args:
        result: how the run ended
        stream: where to
        store: the journal's file, if it is not the default one
    """
    parts: list[RenderableType] = []
    if result.done:
        parts.append(Text(answer_text(result.output)))
    else:
        parts.append(Text(f"No answer. {_sentence(why_ended(result))}", style="bold red"))
        if partial := answer_text(result.partial):
            parts += [Text("\nWhat there was, unfinished and unchecked:", style="bold"), Text(partial)]
    parts += [Text(""), *account(result), Text("")]
    parts.append(Text(f"Look closer: {shows(result.run_id, store)}", style="dim"))
    write(stream, *parts)


def write(stream: TextIO, *parts: RenderableType) -> None:
    """Write parts to a stream, in colour where it is a terminal; a closed pipe is nobody's error."""
    terminal = stream.isatty()
    text = io.StringIO()
    width = shutil.get_terminal_size((100, 24)).columns if terminal else _PIPED_WIDTH
    console = Console(file=text, force_terminal=terminal, width=width, highlight=False, markup=False, emoji=False)
    for part in parts:
        # Text is left to the terminal to wrap, so that what is piped or copied keeps its lines.
        console.print(part, soft_wrap=isinstance(part, Text))
    shown = text.getvalue()
    if not terminal:
        shown = "\n".join(line.rstrip() for line in shown.split("\n"))
    try:
        stream.write(shown)
        stream.flush()
    except BrokenPipeError:
        return


def account(result: Result) -> list[RenderableType]:
    """The path taken and why, what it cost against each cap, and the verdicts."""
    parts: list[RenderableType] = [_facts(result), Text(""), cost_table(result)]
    if result.verdicts:
        parts.append(Text("\nVerdicts", style="bold"))
        for verdict in result.verdicts:
            word, style = ("passed", "green") if verdict.passed else ("failed", "red")
            reason = f": {clean(verdict.reason, 500)}" if verdict.reason else ""
            parts.append(Text(f"  {clean(verdict.agent, 40)}, {clean(verdict.task, 40)}: {word}{reason}", style=style))
    if result.overshoot != NOTHING:
        over = result.overshoot
        parts.append(
            Text(f"\nBilled beyond what was reserved: {over.tokens:,} tokens, {dollars(over.nano_usd)}", style="yellow")
        )
    if result.unreported:
        calls = count(result.unreported, "model call")
        parts.append(Text(f"\n{calls} named no usage: charged as reserved", style="yellow"))
    if result.late:
        parts.append(
            Text(f"\nCould not be ended in time: {', '.join(clean(one, 60) for one in result.late)}", style="yellow")
        )
    return parts


def why_ended(result: Result) -> str:
    """The stop, and the error, in words."""
    return end_words(result.stopped, result.error, 500)


def path_words(result: Result) -> str:
    """Which way the job went, and why."""
    if result.via == "crew":
        return "the crew did it"
    if result.via == "workflow":
        if not result.fell_back:
            return "the workflow did it"
        return f"the fixed workflow did it, because the crew did not: {clean(result.fell_back, 500)}"
    if result.fell_back:
        return f"the crew did not do it ({clean(result.fell_back, 500)}), and its workflow did not either"
    return "it did not finish"


def reliability_words(result: Result) -> str | None:
    """What is known of the crew's reliability, in a line; None where nothing is reckoned."""
    known = result.reliability
    if known is None:
        return None
    parts: list[str] = []
    if known.lower is not None and known.upper is not None:
        parts.append(f"{known.estimate:.3f}, {known.lower:.3f} to {known.upper:.3f}, from its parts")
    if known.measured is not None and known.measured_lower is not None and known.measured_upper is not None:
        rate = f"{known.measured:.3f}, {known.measured_lower:.3f} to {known.measured_upper:.3f}"
        parts.append(f"measured {rate} in {count(known.runs, 'run')}")
    if known.tier:
        parts.append(known.tier)
    if known.threshold is not None:
        parts.append(f"threshold {known.threshold:g}")
    if known.breaker != "closed":
        parts.append(f"breaker {known.breaker.replace('_', '-')}")
    if known.problem:
        parts.append(f"not kept: {clean(known.problem, 200)}")
    return "; ".join(parts) or "nothing is known yet"


def _facts(result: Result) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Status", Text(result.status, style="green" if result.done else "red"))
    table.add_row("Path", Text(_sentence(path_words(result))))
    if not result.done and (why := why_ended(result)):
        table.add_row("Reason", Text(_sentence(why)))
    if (known := reliability_words(result)) is not None:
        table.add_row("Reliability", Text(known))
    table.add_row("Run", Text(clean(result.run_id, 80)))
    return table


def cost_table(result: Result) -> Table:
    """What was used against each cap; a limit without a cap says so."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for name, justify in (("Limit", "left"), ("Used", "right"), ("Cap", "right")):
        table.add_column(name, justify=cast(Any, justify), no_wrap=True)
    for name in Caps._fields:
        cap = getattr(result.caps, name)
        used = result.usage.tokens if name == "tokens" else getattr(result.usage, name)
        if name == "agents" and result.fell_back:
            # The cap holds for the crew and for its workflow, each for itself: their sum says nothing.
            continue
        figure = dollars if name == "nano_usd" else "{:,}".format
        full = cap < NO_CAP and used >= cap
        table.add_row(
            _LIMITS[name], Text(figure(used), style="red" if full else ""), "none" if cap >= NO_CAP else figure(cap)
        )
    most = "none" if result.max_seconds is None else seconds(result.max_seconds)
    table.add_row("time", seconds(result.seconds), most)
    return table


def agents_table(agents: Mapping[str, Usage], who: str = "Agent") -> Table:
    """What each agent and node used."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    columns: Sequence[str] = (who, "Steps", "Tool calls", "Input", "Output", "Money")
    for name in columns:
        table.add_column(name, justify="left" if name == who else "right", no_wrap=True)
    for name, used in agents.items():
        figures = (used.steps, used.tool_calls, used.input_tokens, used.output_tokens)
        table.add_row(Text(clean(name, 40)), *(f"{figure:,}" for figure in figures), dollars(used.nano_usd))
    return table


def _sentence(text: str) -> str:
    """The text with a capital, unless it begins with a name such as max_steps."""
    first = text.split(" ", 1)[0]
    return text if "_" in first or ":" in first else text[:1].upper() + text[1:]
