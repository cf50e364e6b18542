"""The same brief by four processes: choose the one whose shape is the work's.

crew-guard run examples/processes.py:parallel --input topic="gzip"
"""

from crew_guard import Agent, Crew, Role, Task, load_role, tool
from crew_guard.core.processes import Turns
from crew_guard.tools.corpus import load_corpus

DOCS = load_corpus("stdlib")


@tool
def search(query: str) -> list[str]:
    """Find passages of Python's documentation about the query."""
    return [f"{hit.passage.id}: {hit.passage.text[:200]}" for hit in DOCS.search(query, 3)]


researcher = Agent(load_role("researcher"), [search])
sceptic = Agent(load_role("researcher"), [search], name="sceptic")
writer = Agent(load_role("writer"))
critic = Agent(load_role("critic"))

# Two look at the same time; the writer waits for both, and sees what both found.
parallel = Crew(
    [researcher, sceptic, writer],
    [
        Task("Find what {topic} is good for", agent="researcher", name="uses"),
        Task("Find what goes wrong with {topic}", agent="sceptic", name="pitfalls"),
        Task("Write a brief about {topic}", agent="writer", name="brief", context=["uses", "pitfalls"]),
    ],
    process="parallel",
)

# A manager decides who does what, and answers itself.
hierarchical = Crew([researcher, writer], [Task("A brief about {topic}")], process="hierarchical")

# Whoever answers the question does so: the first one may find that it is not its own.
handoff = Crew([writer, researcher], [Task("What is {topic}?", agent="writer")], process="handoff")

# The writer's drafts go to and fro until the critic is content.
conversation = Crew(
    [writer, critic],
    [Task("Agree on one paragraph about {topic}. The critic says APPROVED when it is right.", agent="writer")],
    process="conversation",
    turns=Turns(until="APPROVED", ended_by="critic", max_turns=8),
)

# The same, with a chair who says who speaks next.
chaired = Crew(
    [writer, critic, researcher],
    [Task("Agree on one paragraph about {topic}.", agent="writer")],
    process="conversation",
    turns=Turns(max_turns=6),
    selector=Role(name="chair", goal="Let whoever can add most speak next."),
)
