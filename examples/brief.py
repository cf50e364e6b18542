"""A crew of two, defined in Python, with a fixed path for when they fail.

crew-guard run examples/brief.py:crew --input topic="gzip"
"""

from pydantic import BaseModel

from crew_guard import Agent, Crew, NodeContext, Task, TaskContext, Verdict, chain, load_role, tool
from crew_guard.tools.corpus import load_corpus

DOCS = load_corpus("stdlib")


@tool
def search(query: str) -> list[str]:
    """Find passages of Python's documentation about the query."""
    return [f"{hit.passage.id}: {hit.passage.text[:200]}" for hit in DOCS.search(query, 3)]


class Brief(BaseModel):
    """One page about a topic."""

    title: str
    body: str


def names_the_topic(brief: Brief, context: TaskContext) -> Verdict:
    """A brief that doesn't name its topic is not about it."""
    topic = str(context.inputs["topic"])
    if topic.lower() in brief.body.lower():
        return Verdict(passed=True)
    return Verdict(passed=False, reason=f"the body never says {topic!r}")


async def look_up(inputs: dict[str, str], context: NodeContext) -> list[str]:
    """The fixed path searches once."""
    return (await context.call_tool(search, {"query": inputs["topic"]})).value


def compose(passages: list[str], context: NodeContext) -> Brief:
    """And hands over what it found, as it stands."""
    topic = str(context.inputs["topic"])
    return Brief(title=topic, body=f"What Python's documentation says about {topic}:\n\n" + "\n\n".join(passages))


crew = Crew(
    name="brief",
    agents=[Agent(role=load_role("researcher"), tools=[search]), Agent(role=load_role("writer"))],
    tasks=[
        Task("Find what is known about {topic}", agent="researcher"),
        Task("Write a one-page brief about {topic}", agent="writer", output=Brief, verify=names_the_topic),
    ],
    fallback=chain(look_up, compose, name="brief_workflow"),
)
