"""Rules on arguments: one condition each, and no where one can't be evaluated."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crew_guard.core.actions import ToolCall
from crew_guard.core.argument_rules import ArgumentRule
from crew_guard.core.judging import judge
from crew_guard.core.known import Known
from crew_guard.core.policy import Policy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=8,
)


def decide(rules, arguments, tool="act", known=None):
    policy = Policy.model_validate({"tools": {"rules": {"act": rules} if isinstance(rules, list) else rules}})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return judge(policy, ToolCall("ann", tool, text), known)


def allows(condition, value):
    return decide([{"argument": "x", **condition}], {"x": value}).effect == "allow"


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        ({"equals": "a"}, ["a"], ["A", "a ", 1, True]),
        ({"equals": 7}, [7, 7.0], ["7", 8, True]),
        ({"equals": True}, [True], [1, "true", False]),
        ({"prefix": "inv-"}, ["inv-", "inv-7"], ["INV-7", " inv-7", 7]),
        ({"pattern": "[a-z]+|x1"}, ["abc", "x1"], ["x2", "abc\n", "abc!", "", 7, "\ud800"]),
        ({"one_of": ("r", 5)}, ["r", 5, 5.0], ["rw", "5", True]),
        ({"one_of": ()}, [], ["", 0]),
        ({"least": 0, "most": 99.9}, [0, 99.9, "12.5", 1e1], [-1, 99.90001, "1e1", " 5", "٣", True, "x", 1e300]),
        ({"most": 5}, [-1e9, 5], [6]),
        ({"within": "/srv"}, ["/srv/a"], ["/srv/../a", 5]),
        ({"host_in": ("a.com",)}, ["https://a.com/x"], ["https://b.com", 5]),
        ({"seen_in": ("user", "trusted")}, [], ["anything", 5]),
    ],
)
def test_each_condition_lets_through_what_it_says(condition, good, bad):
    """And refuses what is near; nothing has been seen where the run remembers nothing."""
    assert all(allows(condition, value) for value in good)
    assert not any(allows(condition, value) for value in bad)


@pytest.mark.parametrize("arguments", [{}, {"x": None}, {"x": []}, {"y": 5}])
def test_an_absent_argument_is_refused_unless_it_is_optional(arguments):
    """Absent, null and an empty list are the same: there is no value to judge."""
    rule = {"argument": "x", "equals": 5}
    assert decide([rule], arguments).reason.endswith("x must be 5; it is not given")
    assert decide([{**rule, "optional": True}], arguments).effect == "allow"
    assert decide([{**rule, "optional": True}], {"x": 6}).effect == "deny"


@pytest.mark.parametrize(
    "arguments",
    [
        "nonsense",
        "[]",
        "5",
        '{"x": 5, "x": 6}',
        '{"x": NaN}',
        '{"x": 1e99999999999999999999}',
        '{"x":' + "[" * 100000,
        '{"x": ' + "9" * 5000 + "}",
        '{"x": {"x": 5}}',
        '{"x": [[5], {"x": 5}]}',
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments):
    """Two readers might disagree on it, or it is no plain value: the action is refused, the run goes on."""
    rules = [{"argument": "x", "least": 5, "optional": True}]
    assert decide(rules, arguments).effect == "deny"


def test_every_element_of_a_list_must_satisfy_the_condition():
    """Lists in lists, and lists of objects below a dotted path."""
    rule = [{"argument": "to.mail", "prefix": "a"}]
    assert decide(rule, {"to": [{"mail": "ab"}, {"mail": ["ac", "ad"]}]}).effect == "allow"
    assert decide(rule, {"to": [{"mail": "ab"}, {"mail": ["ac", "bd"]}]}).effect == "deny"
    assert decide(rule, {"to": [{"mail": "ab"}, {}]}).effect == "deny"
    assert decide(rule, {"to.mail": "ab"}).effect == "deny"
    optional = [{**rule[0], "optional": True}]
    assert decide(optional, {"to": ["bd"]}).effect == "deny"
    assert decide(optional, {"to": [{}]}).effect == "allow"


def test_all_rules_of_all_fitting_entries_must_hold():
    """A name and a pattern both count, and other tools are not looked at."""
    rules = {"send_*": [{"argument": "x", "least": 1}], "send_a": [{"argument": "x", "most": 5}]}
    assert decide(rules, {"x": 3}, "send_a").effect == "allow"
    assert decide(rules, {"x": 0}, "send_a").rule == "tools.rules.send_*.0"
    assert decide(rules, {"x": 6}, "send_a").rule == "tools.rules.send_a.0"
    assert decide(rules, {"x": 6}, "send_b").effect == "allow"
    assert decide(rules, "nonsense", "read").effect == "allow"


def test_a_deny_list_comes_before_rules():
    """What is denied by name stays denied."""
    policy = Policy.model_validate({"tools": {"deny": ("act",), "rules": {"act": [{"argument": "x", "equals": 1}]}}})
    assert judge(policy, ToolCall("ann", "act", '{"x": 1}')).rule == "tools.deny"


def test_a_refusal_names_tool_rule_argument_and_value():
    """In words for the agent, which may try otherwise."""
    decision = decide([{"argument": "amount", "least": 1, "most": 5000.5}], {"amount": 9000})
    assert decision.reason == (
        "act: by tools.rules.act.0 amount must be a number of at least 1 and at most 5,000.5; got 9000"
    )


@pytest.mark.parametrize("value", ["rate limit", "Rate-Limit", "timeout", "timed out", "error 429", "try again", 503])
def test_a_value_that_hosts_retry_on_is_not_repeated(value):
    """An agent's own words must not make its host ask again for ever."""
    reason = decide([{"argument": "x", "one_of": ()}], {"x": value}).reason
    assert reason.endswith("got a value that is not repeated here")


@pytest.mark.parametrize(
    "rule",
    [
        {"argument": "x"},
        {"argument": "", "equals": 1},
        {"argument": "a..b", "equals": 1},
        {"argument": "x", "equals": 1, "prefix": "a"},
        {"argument": "x", "least": 5, "most": 4},
        {"argument": "x", "least": float("nan")},
        {"argument": "x", "pattern": "(?=a)"},
        {"argument": "x", "pattern": r"(a)\1"},
        {"argument": "x", "pattern": "a)|(b"},
        {"argument": "x", "pattern": "(?:a{1000}){1000}"},
        {"argument": "x", "within": "../a"},
        {"argument": "x", "host_in": ("https://a.com",)},
        {"argument": "x", "seen_in": ("anybody",)},
        {"argument": "x", "equals": [1]},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_when_it_is_read(rule):
    """Two conditions, none, or one that could not be evaluated."""
    with pytest.raises(ValidationError):
        ArgumentRule.model_validate(rule)


def test_no_pattern_takes_long():
    """A classic of catastrophic backtracking, on 200,000 characters, within a second of CPU."""
    began = time.process_time()
    assert not allows({"pattern": "(a+)+b"}, "a" * 200_000)
    assert time.process_time() - began < 1.0


@given(JSON, st.sampled_from(["x", "x.y", "y.x.y"]), st.booleans())
def test_whatever_an_agent_writes_is_answered(value, argument, optional):
    """Any JSON gets a yes or a no; an exception would end the run."""
    conditions = (
        {"equals": "a"},
        {"least": 1},
        {"pattern": "a"},
        {"within": "a"},
        {"host_in": ("a",)},
        {"seen_in": ("user",)},
    )
    for condition in conditions:
        decide([{"argument": argument, "optional": optional, **condition}], {"x": value, "y": value}, known=Known(()))


@given(st.text(max_size=80))
def test_whatever_text_an_agent_writes_is_answered(text):
    """Also where it is no JSON at all."""
    decide([{"argument": "x", "equals": 1, "optional": True}], text, known=Known(()))
