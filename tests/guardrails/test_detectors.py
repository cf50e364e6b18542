"""Secrets and personal data: what must be found is found, what only looks like it is not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from crew_guard.core.content import PersonalRule, SecretsRule
from crew_guard.guardrails.personal import PersonalGuardrail
from crew_guard.guardrails.secret_values import SecretsGuardrail
from crew_guard.tools.stdlib import read_stdlib
from tests.guardrails.leaks import KEYS, NO_SECRETS, NOT_PERSONAL, PERSONAL, SECRETS, Case
from tests.guardrails.looking import look, mended

ALL_KINDS = ("email", "phone", "card", "iban", "ssn", "ip")
SECRET = SecretsGuardrail(SecretsRule(action="fix"))
PERSON = PersonalGuardrail(PersonalRule(action="fix", kinds=ALL_KINDS, regions=("US",)))
NAMED = [*((SECRET, case) for case in SECRETS), *((PERSON, case) for case in PERSONAL)]
HARMLESS = [*((SECRET, case) for case in NO_SECRETS), *((PERSON, case) for case in NOT_PERSONAL)]


@pytest.mark.parametrize(("guardrail", "case"), NAMED, ids=[case.name for _, case in NAMED])
def test_what_is_one_is_found_and_taken_out(guardrail, case: Case):
    """The fix holds nothing of it and passes; the reason doesn't quote it."""
    check = look(guardrail, case.text)
    assert check.outcome == "fix"
    assert case.found not in check.value
    assert case.found not in check.reason
    assert look(guardrail, check.value).outcome == "pass"


@pytest.mark.parametrize(("guardrail", "case"), HARMLESS, ids=[case.name for _, case in HARMLESS])
def test_what_only_looks_like_one_is_let_through(guardrail, case: Case):
    """Hashes, UUIDs, versions, dates, wrong sums, placeholders."""
    assert look(guardrail, case.text).outcome == "pass"


def test_the_standard_librarys_documentation_holds_no_secret_and_hardly_a_person():
    """Of 7,698 passages none has a secret; the few with personal data have addresses of mail."""
    passages = read_stdlib()
    person = PersonalGuardrail(PersonalRule())
    assert not [one.id for one in passages if look(SECRET, one.text).outcome != "pass"]
    found = {one.id: look(person, one.text).reason for one in passages if look(person, one.text).outcome != "pass"}
    assert len(found) < len(passages) / 500
    assert all("email" in reason for reason in found.values())


def test_a_private_key_in_a_structured_value_keeps_the_values_shape():
    """Lines and all, below any key."""
    value = {"files": [{"path": "id_rsa", "body": f"# mine\n{KEYS['private key']}\n"}], "count": 1}
    fixed = mended(SECRET, value)
    assert fixed["count"] == 1
    assert fixed["files"][0]["path"] == "id_rsa"
    assert "PRIVATE KEY" not in json.dumps(fixed)


def test_an_answer_of_a_model_stays_one():
    """A pydantic object is mended field by field."""

    class Contact(BaseModel):
        name: str
        mail: str

    assert mended(PERSON, Contact(name="Jane", mail="jane@example.com")) == Contact(name="Jane", mail="[email]")


def test_a_card_written_as_a_number_is_found():
    """JSON knows no difference."""
    assert mended(PERSON, {"card": 4111111111111111, "n": 3}) == {"card": "[card]", "n": 3}


def test_only_the_kinds_that_are_named_are_looked_for():
    """An address of a machine has to be named; a country's own form of a number needs the country."""
    assert look(PersonalGuardrail(PersonalRule()), "seen from 84.17.52.113").outcome == "pass"
    assert look(PersonalGuardrail(PersonalRule()), "ring (415) 555-2671").outcome == "pass"
    assert look(PersonalGuardrail(PersonalRule(kinds=("card",))), "a@b.example").outcome == "pass"


def test_it_may_be_asked_by_many_threads_at_once():
    """The scanner is shared."""
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda case: look(SECRET, case.text).outcome, SECRETS * 20))
    assert set(outcomes) == {"fix"}


PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from([*KEYS.values(), *(case.text for case in [*SECRETS, *PERSONAL, *NO_SECRETS, *NOT_PERSONAL])]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(PIECES, max_size=6).map(" ".join))
def test_a_fix_passes_or_its_parts_are_gone(text):
    """However they are put together: what is fixed once needs no second fix."""
    for guardrail in (SECRET, PERSON):
        assert look(guardrail, mended(guardrail, text)).outcome == "pass"


@pytest.mark.parametrize(
    ("text", "cards", "ibans"),
    [
        ("4111 1111 1111 1111 5500 0000 0000 0004", 2, 0),
        ("4111111111111111 4111111111111111", 2, 0),
        ("order 12 4111-1111-1111-1111 7", 1, 0),
        ("IBAN DE89 3704 0044 0532 0130 00 and IBAN DE89 3704 0044 0532 0130 00", 0, 2),
        ("1111 2222 3333 4444 5555 6666 7777 8888", 0, 0),
    ],
)
def test_what_stands_side_by_side_is_each_found(text, cards, ibans):
    """Two of a kind in a row hide neither of each other, and rows of other numbers are none."""
    fixed = mended(PERSON, text) if cards or ibans else text
    assert (fixed.count("[card]"), fixed.count("[iban]")) == (cards, ibans)
    assert look(PERSON, fixed).outcome == "pass"
