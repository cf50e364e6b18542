"""Voting: the same question several times; most answers count, or the first that is ahead by two.

python examples/patterns/voting.py
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from show import MODEL, show

from crew_guard import node, vote


class Answer(BaseModel):
    vulnerable: Literal["yes", "no"]
    why: str


def look(inputs: Mapping[str, Any]) -> str:
    return f"Can a caller of this code run SQL of their own?\n{inputs['code']}"


def said(answer: Answer) -> str:
    """Two answers are the same where they say yes or no alike, whatever the reason."""
    return answer.vulnerable


majority = vote(node(look, model=MODEL, output=Answer), voters=3, key=said, name="majority")
ahead = vote(node(look, model=MODEL, output=Answer), ahead_by=2, most=7, key=said, name="ahead")

if __name__ == "__main__":
    code = {"code": "db.execute(f'select * from users where name = {name!r}')"}
    yes, no = '{"vulnerable": "yes", "why": "name is pasted in"}', '{"vulnerable": "no", "why": "it is quoted"}'
    show(majority, code, [yes, no, yes])
    show(ahead, code, [yes, no, yes, yes])
