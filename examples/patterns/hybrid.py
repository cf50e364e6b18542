"""A hybrid: the path is fixed, and one ambiguous step of it is an agent's, with caps of its own taken from the run's.

python examples/patterns/hybrid.py
"""

from pydantic import BaseModel
from show import MODEL, show

from crew_guard import Agent, Role, agent_node, chain, node, tool
from crew_guard.testing import Reply

NOTES = {"ACME": "Uses gzip. Asked about prices twice.", "gzip": "A compressor. Our zstd plan costs half."}


class Ticket(BaseModel):
    customer: str
    text: str


@tool
def search_notes(query: str) -> str:
    """Search the notes for a word."""
    return NOTES.get(query, "nothing")


def read(ticket: Ticket) -> Ticket:
    return ticket


def names_a_price(found: str) -> bool:
    return "half" in found


def reply(found: str) -> str:
    return f"Dear customer,\n{found}"


# How many searches it takes nobody knows; that it is six steps at the most is known.
research = agent_node(
    Agent(Role(name="researcher", goal="Find what helps to answer a customer"), [search_notes], model=MODEL),
    "What do our notes say that answers {customer}, who writes: {text}",
    name="research",
    caps={"max_steps": 6, "max_tool_calls": 4, "max_usd": "0.05"},
    verify=names_a_price,
)
flow = chain(read, research, node(reply), name="ticket")

if __name__ == "__main__":
    show(
        flow,
        {"customer": "ACME", "text": "What would we save?"},
        [
            Reply(tools=(("search_notes", '{"query": "ACME"}'),)),
            Reply(tools=(("search_notes", '{"query": "gzip"}'),)),
            "You use gzip today; our zstd plan costs half.",
        ],
    )
