"""The research crew: a researcher searches and reads, a writer writes a brief, a critic prunes it.

Where its brief does not stand up to the verifier, a fixed workflow answers from the same corpus.
"""

from __future__ import annotations

from crew_guard.api import load_role
from crew_guard.core.roles import Agent, Crew, Role, Task
from crew_guard.crews.brief import Brief, brief_verifier, notes_verifier
from crew_guard.crews.research_workflow import research_workflow
from crew_guard.tools.corpus import Corpus, corpus_tools

_RESEARCH = """\
Question: {question}
Search with its key words, then read the best passages.
Answer with lines of: passage id, then sentences copied from it."""

_WRITE = """\
Question: {question}
Write a brief from the notes below. Copy every quote word for word; its source is the passage id in the notes."""

_CRITICISE = """\
Question: {question}
Below are notes and a brief. Give back the brief without findings whose quote does not show the claim.
Change no quote."""


def research_crew(
    corpus: Corpus,
    *,
    researcher: Role | None = None,
    writer: Role | None = None,
    critic: Role | None = None,
) -> Crew:
    """A crew that answers `question` with a Brief from a corpus.

    Args:
        researcher, writer, critic: the roles; by default those of these names in ./roles or that ship
    Raises:
        ConfigError: a role's file is wrong
    """
    search, read = corpus_tools(corpus)
    verify = brief_verifier(corpus)
    return Crew(
        name="research",
        agents=[
            Agent(researcher or load_role("researcher"), tools=[search, read], name="researcher"),
            Agent(writer or load_role("writer"), name="writer"),
            Agent(critic or load_role("critic"), name="critic"),
        ],
        tasks=[
            Task(_RESEARCH, agent="researcher", verify=notes_verifier(corpus), name="notes"),
            # Checked before the critic is paid for it, and again after: a critic may break a quote.
            Task(_WRITE, agent="writer", output=Brief, verify=verify, name="draft"),
            Task(_CRITICISE, agent="critic", output=Brief, verify=verify, name="brief"),
        ],
        fallback=research_workflow(corpus, search, read),
    )
