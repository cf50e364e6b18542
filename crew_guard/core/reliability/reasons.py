"""Why the advisor says what it says: every rule with its numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from math import prod

from crew_guard.core.reliability.intervals import frechet
from crew_guard.core.reliability.jobs import CrewProposal, JobDescription, needs_model
from crew_guard.core.reliability.ways import TIMES, Case, Part, Way

FEW_AGENTS = 3
MANY_AGENTS = 5
WORDS: dict[str, str] = {
    "workflow": "workflow",
    "hybrid": "hybrid",
    "agent_loop": "agent loop",
    "crew": "crew",
    "crew_with_fallback": "crew with fallback",
}


def compared(job: JobDescription, chosen: Way, found: Sequence[Way]) -> Iterator[str]:
    """How the chosen way stands beside the others, in one sentence each."""
    for way in (chosen, *(other for other in found if other is not chosen)):
        yield f"{WORDS[way.form]}: {case_words(way.decisive)}{_money_words(job, way)}"
        for case in way.cases:
            if case is not way.decisive:
                yield f"{WORDS[way.form]}, {looks_words(case)}: {case_words(case)}"
    rights = [right for part in chosen.parts if (right := part.right(chosen.decisive.catches)) is not None]
    if chosen.decisive.success is not None and len(rights) > 1:
        ends = frechet(rights)
        yield (
            f"these products take failures to be independent; whatever they have to do with each other, the "
            f"{WORDS[chosen.form]} is right between {ends.lower:.3f} and {ends.upper:.3f} of the time"
        )
    if (weakest := weakest_part(chosen)) is not None:
        part, gain = weakest
        yield (
            f"the weakest step of the {WORDS[chosen.form]} is {part.name}: "
            f"if it were always right the whole would gain {gain:.3f}"
        )


def weakest_part(way: Way) -> tuple[Part, float] | None:
    """The part whose failures cost the most, and what the whole would gain without them."""
    success, catches = way.decisive.success, way.decisive.catches
    if not success:
        return None
    worst = min(way.parts, key=lambda part: part.right(catches) or 0.0)
    right = worst.right(catches)
    return None if not right or right == 1 else (worst, success / right - success)


def case_words(case: Case) -> str:
    """A case as arithmetic: 0.93^5 = 0.696, at least 0.61."""
    if case.success is None:
        return f"{case.formula}: unknown"
    if case.measured and case.lower is not None and case.upper is not None:
        parts = "" if case.by_parts is None else f"; this counts, and not its parts' product, {case.by_parts:.3f}"
        return f"{case.formula} = {case.success:.3f}, {case.lower:.3f} to {case.upper:.3f}{parts}"
    bound = "" if case.lower is None else f", lower bound {case.lower:.3f}"
    return f"{case.formula} = {case.success:.3f}{bound}"


def looks_words(case: Case) -> str:
    """What a case takes of the person who looks."""
    if case.catches is None:
        return "if nobody looks"
    if case.catches == 1:
        return "if the person who looks catches everything that is wrong in what they see"
    return f"if the person who looks catches {case.catches:g} of what is wrong in what they see"


def _money_words(job: JobDescription, way: Way) -> str:
    if way.usd is None:
        return "; its cost is unknown"
    each = f"; ${way.usd:,.2f} a task"
    if job.volume is None:
        return each
    monthly = job.volume.monthly
    return f"{each} {TIMES} {monthly:,.10g} a month = ${way.usd * Decimal(str(monthly)):,.2f}"


def target_words(wanted: float, way: Way) -> str:
    """Whether a way reaches the target."""
    success = way.decisive.success or 0.0
    word = "reaches" if success >= wanted else "misses"
    return f"the {WORDS[way.form]} {word} the target of {wanted:g}: {way.decisive.formula} = {success:.3f}"


def warnings(job: JobDescription, chosen: Way, found: Sequence[Way]) -> Iterator[str]:
    """What speaks against what is proposed, or against relying on the recommendation as it stands."""
    if job.crew is not None and job.crew.agents > FEW_AGENTS:
        whole = next(way.decisive for way in found if way.form == "crew")
        yield _size_warning(job.crew, job.wanted, whole)
    models = sum(needs_model(step) for step in job.steps)
    if job.crew is not None and job.crew.agents > models:
        steps = "no step needs a model" if not models else f"only {models} of {len(job.steps)} steps need a model"
        others = "they" if not models else "the others"
        yield f"{steps}, and the crew has {job.crew.agents} agents: {others} would do what code does"
    lone = [step.name for step in job.steps if step.irreversible]
    if job.approval is not None:
        lone = [name for name in lone if name != job.approval.before]
    if lone:
        yield f"nobody approves what can't be undone: {', '.join(lone)}; name who does under `approval:`"
    success, wanted = chosen.decisive.success, job.wanted
    if wanted is not None and success is not None and success < wanted:
        yield _miss_warning(chosen, wanted)
    if wanted is not None and success is None:
        known = [part.right(chosen.decisive.catches) for part in chosen.parts]
        unknown = [part.name for part, right in zip(chosen.parts, known, strict=True) if right is None]
        rest = prod(right for right in known if right is not None)
        need = (wanted / rest) ** (1 / len(unknown)) if rest else 2.0
        words = f"must be right at least {need:.3f} of the time" if need <= 1 else "can't make up for the others"
        yield f"to reach {wanted:g}, {' and '.join(unknown)} {words}{' each' if len(unknown) > 1 else ''}"


def _size_warning(crew: CrewProposal, wanted: float | None, whole: Case) -> str:
    past = FEW_AGENTS if crew.agents <= MANY_AGENTS else MANY_AGENTS
    text = f"{crew.agents} agents are more than {past}: what each gets wrong compounds"
    if crew.reliability is None and whole.success is not None:
        return f"{text}; here {case_words(whole)}"
    if crew.reliability is None:
        return f"{text}; how often one is right is unknown: at 0.93 each, {crew.agents} make {0.93**crew.agents:.3f}"
    sizes = sorted({FEW_AGENTS, min(MANY_AGENTS, crew.agents), crew.agents})
    table = ", ".join(f"{size} make {crew.reliability**size:.3f}" for size in sizes)
    text = f"{text}; at {crew.reliability:g} each, {table}"
    if wanted is None:
        return text
    return f"{text}; for {wanted:g} each of {crew.agents} must be right {wanted ** (1 / crew.agents):.4f}"


def _miss_warning(chosen: Way, wanted: float) -> str:
    success = chosen.decisive.success or 0.0
    text = f"the {WORDS[chosen.form]} misses the target: {success:.3f}, where {wanted:g} is wanted"
    reach = next((case for case in chosen.cases if (case.success or 0.0) >= wanted), None)
    if reach is not None:
        return f"{text}; it is {reach.success or 0.0:.3f} {looks_words(reach)}"
    weakest = weakest_part(chosen)
    if weakest is None:
        return text
    part, gain = weakest
    right = part.right(chosen.decisive.catches) or 0.0
    need = wanted * right / success
    if success + gain < wanted:
        return f"{text}; even a {part.name} that is always right makes it {success + gain:.3f} only"
    return f"{text}; {part.name} would have to be right {need:.3f} of the time instead of {right:.3f}"
