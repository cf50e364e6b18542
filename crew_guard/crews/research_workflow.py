"""The fixed path to a brief, without any model: search, pick passages, extract, cite.

It quotes and never rewrites, so what it says stands in the corpus; the same verifier as the
crew's has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from crew_guard.core.tools import Tool
from crew_guard.crews.brief import SHORTEST_QUOTE, Brief, Finding, check_brief
from crew_guard.tools.corpus import Corpus, Hit, Text
from crew_guard.tools.passages import IN_ITS_MODULE, MEMBERS, sentences
from crew_guard.tools.query import Term, stems, terms
from crew_guard.workflows.graph import NodeContext, NodeFailedError, Workflow, chain, node

PICKED = 5
"""Passages that are read and cited."""
LONGEST_QUOTE = 400
PROSE = 0.75
"""The share of letters and spaces from which a sentence counts as prose."""
ENOUGH = 0.5
"""The share of a question's words below which the answer says that it is only close."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search gave."""

    question: str
    hits: list[Hit]


@dataclass(frozen=True, slots=True)
class Picked:
    """The passages to answer from, the best first."""

    question: str
    passages: list[Text]


@dataclass(frozen=True, slots=True)
class Extract:
    """What one passage says about the question."""

    source: str
    title: str
    signature: str
    """A symbol's first line; empty for other passages."""
    lead: str
    """The first sentence; for other passages than a symbol's the telling one."""
    telling: str
    """The sentence that says most of what title and lead leave unsaid; empty where none does."""
    coverage: float
    """The share of the question's words that the passage holds or is indexed by, in [0, 1]."""
    pointed: bool = False
    """Whether the telling sentence holds a word of the question itself, not only a synonym."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The extracts of all picked passages."""

    question: str
    extracts: list[Extract]


def research_workflow(corpus: Corpus, search: Tool, read: Tool) -> Workflow:
    """The workflow over a corpus. Its input is `question`, its output a Brief.

    Args:
        corpus: what is quoted
        search: the corpus' tool; called through the gate
        read: the other one
    """
    path = _Path(corpus, search, read)
    steps = [node(path.search_corpus, name="search"), node(path.pick), node(path.extract), node(path.cite)]
    return chain(*steps, name="research_workflow")


@dataclass(frozen=True, slots=True)
class _Path:
    """The nodes, in their order."""

    corpus: Corpus
    search: Tool
    read: Tool

    async def search_corpus(self, inputs: Mapping[str, Any], context: NodeContext) -> Found:
        question = str(inputs["question"]).strip()
        result = await context.call_tool(self.search, {"query": question, "limit": 2 * PICKED})
        if not result.value:
            raise NodeFailedError(f"no word of the question stands in {self.corpus.name}: ask with other words")
        return Found(question, result.value)

    async def pick(self, found: Found, context: NodeContext) -> Picked:
        passages: list[Text] = []
        problem = ""
        for hit in _different(self.corpus, found.hits)[:PICKED]:
            try:
                passages.append((await context.call_tool(self.read, {"id": hit["id"]})).value)
            except NodeFailedError as error:
                problem = str(error)
        if not passages:
            raise NodeFailedError(f"none of the passages found could be read: {problem}")
        return Picked(found.question, passages)

    def extract(self, picked: Picked) -> Extracted:
        wanted = terms(picked.question)
        indexed = {hit.passage.id: hit.coverage for hit in self.corpus.search(picked.question, 2 * PICKED)}
        extracts = [_extract(text, _symbol(self.corpus, text["id"]), wanted) for text in picked.passages]
        extracts = [replace(each, coverage=max(each.coverage, indexed.get(each.source, 0.0))) for each in extracts]
        return Extracted(picked.question, [each for each in extracts if each.lead or each.signature])

    def cite(self, extracted: Extracted) -> Brief:
        brief = _brief(extracted)
        verdict = check_brief(brief, self.corpus)
        if not verdict.passed:
            raise NodeFailedError(f"the brief does not stand up to its own check: {verdict.reason}")
        return brief


def _symbol(corpus: Corpus, passage_id: str) -> str:
    passage = corpus.find(passage_id)
    return passage.symbol if passage else ""


def _different(corpus: Corpus, hits: list[Hit]) -> list[Hit]:
    """The hits without those that repeat one before: the same name in its module (bytes.split), or the same words."""
    kept: list[Hit] = []
    seen: set[str] = set()
    for hit in hits:
        passage = corpus.find(hit["id"])
        same = f"{passage.source} {passage.symbol.rpartition('.')[2]}" if passage and passage.symbol else hit["id"]
        marks = {same, hit["snippet"]}
        if not marks & seen:
            kept.append(hit)
        seen |= marks
    return kept


def _extract(text: Text, symbol: str, wanted: list[Term]) -> Extract:
    head, _, rest = text["text"].partition("\n") if symbol else ("", "", text["text"])
    told = rest.partition(MEMBERS)[0] if symbol else rest
    prose = _prose(told.partition(IN_ITS_MODULE)[0]) or _prose(told)
    lead = next(iter(prose), "") if symbol else _best(prose, wanted)
    unsaid = [term for term in wanted if not _share([term], f"{text['title']} {lead}")]
    telling = _best(prose, unsaid)
    telling = telling if _share(unsaid, telling) else ""
    coverage = _share(wanted, f"{text['title']} {text['text']}")
    pointed = any(stems(term.word) <= stems(telling) for term in unsaid)
    return Extract(text["id"], text["title"], head.strip(), lead, telling, coverage, pointed)


def _best(prose: list[str], wanted: list[Term]) -> str:
    """The sentence with the most of these words; the earliest of equals."""
    return max(prose, key=lambda sentence: _share(wanted, sentence), default="")


def _share(wanted: list[Term], text: str) -> float:
    """The share of a question's words that stand in a text, in any of their variants."""
    held = stems(text)
    found = sum(max((share for word, share in term.variants if stems(word) <= held), default=0.0) for term in wanted)
    return found / len(wanted) if wanted else 0.0


def _prose(text: str) -> list[str]:
    found = [_cut(sentence) for sentence in sentences(text)]
    return [sentence for sentence in found if len(sentence) >= SHORTEST_QUOTE and _reads(sentence)]


def _reads(sentence: str) -> bool:
    """Whether it is prose, not a table or an example session."""
    letters = sum(each.isalpha() or each == " " for each in sentence)
    return ">>>" not in sentence and letters >= len(sentence) * PROSE


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST_QUOTE else sentence[:LONGEST_QUOTE].rpartition(" ")[0]


def _brief(extracted: Extracted) -> Brief:
    if not extracted.extracts:
        raise NodeFailedError("the passages found hold no sentence that can be quoted: ask with other words")
    first, *others = extracted.extracts
    findings = _main_findings(first)
    for other in others:
        findings.append(_finding(other, other.lead or other.signature))
        if other.telling:
            findings.append(_finding(other, other.telling))
    return Brief(question=extracted.question, answer=_answer(first, others), findings=findings)


def _main_findings(extract: Extract) -> list[Finding]:
    """What answers the question's own words first: that subprocess.run has a timeout, then what it does."""
    quotes = [extract.lead, extract.telling, extract.signature]
    if extract.pointed:
        quotes[:2] = [extract.telling, extract.lead]
    return [_finding(extract, quote) for quote in quotes if quote]


def _finding(extract: Extract, quote: str) -> Finding:
    if quote == extract.signature:
        claim = f"{extract.title} is written {quote}" if "(" in quote else f"{extract.title} is there"
    else:
        claim = f"{extract.title}: {quote}"
    return Finding(claim=claim, quote=quote, source=extract.source)


def _answer(first: Extract, others: list[Extract]) -> str:
    lead = first.lead if first.lead[-1:] in {"", *".!?:"} or not first.telling else f"{first.lead}."
    said = f"{lead} {first.telling}".strip()
    lines = [f"{first.title}: {said or first.signature} [{first.source}]"]
    if first.signature and said and "(" in first.signature:
        lines.append(first.signature)
    if others:
        lines.append(f"See also: {', '.join(f'[{other.source}]' for other in others)}")
    if first.coverage < ENOUGH:
        lines.insert(0, "Nothing found covers the whole question; this comes closest.")
    return "\n".join(lines)
