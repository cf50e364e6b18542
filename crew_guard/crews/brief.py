"""A brief: an answer whose every claim cites a passage, and the check that it does.

The check is plain Python over the corpus: a quote stands in its source or it doesn't.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel, Field

from crew_guard.core.roles import TaskContext, Verdict, Verifier
from crew_guard.tools.corpus import Corpus
from crew_guard.tools.query import terms

SHORTEST_QUOTE = 20
"""Characters; a shorter quote proves something only where it is a whole line of its source."""


class Finding(BaseModel):
    """One claim, and the words of the corpus that it rests on."""

    claim: str = Field(description="What is true, in one sentence")
    quote: str = Field(description="Words copied from the passage, exactly as they stand there")
    source: str = Field(description="The passage's id")


class Brief(BaseModel):
    """An answer with its evidence."""

    question: str = Field(description="The question, as it was asked")
    answer: str = Field(description="A short answer that rests on the findings only")
    findings: list[Finding] = Field(description="The evidence, at least one finding")


def brief_verifier(corpus: Corpus) -> Verifier:
    """The verifier of a task that makes a Brief over this corpus."""

    def verify_brief(brief: Brief, context: TaskContext) -> Verdict:
        question = context.inputs.get("question")
        if question is not None and not _telling(str(question)) <= _telling(brief.question):
            asked = str(question)[:80]
            return Verdict(passed=False, reason=f"the brief answers {brief.question[:80]!r}, but {asked!r} was asked")
        return check_brief(brief, corpus)

    return verify_brief


def notes_verifier(corpus: Corpus) -> Verifier:
    """The verifier of a task that makes notes: they name a passage, or there is nothing to write from."""

    def verify_notes(notes: str, context: TaskContext) -> Verdict:
        del context
        named = any(corpus.find(word.strip(_AROUND)) for word in notes.split())
        reason = "" if named else f"the notes name no passage of {corpus.name}"
        return Verdict(passed=named, reason=reason)

    return verify_notes


def check_brief(brief: Brief, corpus: Corpus) -> Verdict:
    """Whether every quote stands in its source and the answer names nothing that isn't cited.

    The reason names every fault, one a line, the finding by its number from 1.
    """
    faults = [*_answer_faults(brief, corpus)]
    for number, finding in enumerate(brief.findings, 1):
        faults += [f"finding {number}: {fault}" for fault in _finding_faults(finding, corpus)]
    return Verdict(passed=not faults, reason="\n".join(faults))


def _finding_faults(finding: Finding, corpus: Corpus) -> Iterator[str]:
    if not finding.claim.strip():
        yield "it claims nothing"
    quote = _spaced(finding.quote)
    passage = corpus.find(finding.source)
    if passage is None:
        yield f"its source {finding.source[:80]!r} is no passage of {corpus.name}"
    elif not quote:
        yield f"it quotes nothing from {passage.id}"
    elif quote not in _spaced(passage.text):
        yield f"its quote does not stand in {passage.id}: {quote[:120]!r}"
    elif len(quote) < SHORTEST_QUOTE and quote not in map(_spaced, passage.text.splitlines()):
        yield f"its quote is too short to prove anything (under {SHORTEST_QUOTE} characters): {quote!r}"


def _answer_faults(brief: Brief, corpus: Corpus) -> Iterator[str]:
    if not brief.findings:
        yield "it has no findings: every claim must cite a passage"
    if not brief.answer.strip():
        yield "its answer is empty"
    cited = {_whole(finding.source, corpus) for finding in brief.findings}
    quoted = " ".join(finding.quote for finding in brief.findings)
    for name in _references(brief.answer, corpus):
        whole = _whole(name, corpus)
        above = any(source.startswith(f"{whole}.") for source in cited)
        if whole not in cited and not above and not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", quoted):
            yield f"its answer refers to {name!r}, which no finding cites"


_AROUND = "\"'`.,:;()[]{}<>*-"
_BRACKETED = re.compile(r"\[([^\[\]\n]{1,300})\]")
_DOTTED = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def _references(answer: str, corpus: Corpus) -> list[str]:
    """The passages that a text refers to: what stands in [brackets], and dotted names that have one."""
    bracketed = [name.strip() for name in _BRACKETED.findall(answer)]
    found = [name for name in bracketed if "#" in name or corpus.find(name)]
    # [brackets] around a file's id hold dots too: they are looked at once, above.
    plain = _BRACKETED.sub(" ", answer)
    found += [name for name in _DOTTED.findall(plain) if corpus.find(name)]
    return list(dict.fromkeys(found))


def _whole(source: str, corpus: Corpus) -> str:
    """The symbol that an id stands for, whichever of its parts or names it is; else the id."""
    passage = corpus.find(source)
    return (passage.symbol or passage.id) if passage else source.strip()


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _telling(question: str) -> set[str]:
    """The words that make a question this one: models drop a `How do I`."""
    return {term.word for term in terms(question)}
