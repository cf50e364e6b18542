"""`crew-guard advise` and `simulate` as processes: what they print, and which code they exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crew_guard.core.reliability.ways import TIMES

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SALES = str(EXAMPLES / "sales_follow_up.yaml")
CREW = """\
from crew_guard import Agent, Crew, Role, Task

writer = Agent(Role(name="writer", goal="Write", model="openai:gpt-4.1-mini"))
crew = Crew([writer], [Task("Write about {topic}", name="write")], name="letters")
"""


def test_advice_is_printed_with_its_rule_and_both_figures(cli):
    """The way, the rule, what it comes to with and without the person, and the crew beside it."""
    code, out, err = cli("advise", SALES)
    assert (code, err) == (0, "")
    out = out.replace(TIMES, "x")
    assert out.startswith("sales follow-up: workflow\nRule: the least freedom that can do the job")
    for words in (
        "0.99 x 0.98 x 0.99 x 0.99 x 0.99 = 0.941; $0.80 a task x 3,200 a month = $2,560.00",
        "catches everything that is wrong in what they see: 0.99^3 = 0.970",
        "crew: 0.93^5 = 0.696; $3.50 a task x 3,200 a month = $11,200.00",
        "production, at least 0.95: 59 tasks that all succeed",
        "5 agents are more than 3",
        "approval.catches: unknown: both ends are told",
    ):
        assert words in out


def test_advice_as_json_holds_the_same(cli):
    """One object, money in dollars."""
    code, out, _ = cli("advise", SALES, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["recommended"] == "workflow"
    assert [one["way"] for one in told["options"]] == ["workflow", "hybrid", "crew"]
    workflow, crew = told["options"][0], told["options"][2]
    assert (workflow["usd"], workflow["usd_month"], crew["usd_month"]) == (0.8, 2560.0, 11200.0)
    assert [case["success"] for case in workflow["cases"]] == pytest.approx([0.9413840898, 0.970299])
    assert told["tasks_a_month"] == 3200


def test_a_simulation_is_repeated_by_its_seed(cli):
    """The same figures, beside the arithmetic; another seed gives others."""
    arguments = ("simulate", SALES, "--runs", "2000", "--json")
    code, first, _ = cli(*arguments, "--seed", "7")
    assert code == 0
    assert cli(*arguments, "--seed", "7")[1] == first
    assert cli(*arguments, "--seed", "8")[1] != first
    told = json.loads(first)
    assert {one["way"] for one in told["ways"]} == {"workflow", "hybrid", "crew", "crew_with_fallback"}
    assert told["ways"][0]["success"]["arithmetic"] == pytest.approx(0.9413840898)


def test_a_simulation_as_text_says_whether_they_agree(cli):
    """Each way in a line, and the verdict below."""
    code, out, _ = cli("simulate", SALES, "--runs", "3000")
    assert code == 0
    assert out.startswith("sales follow-up: 3,000 tasks each way, seed 1")
    assert "crew with fallback, 100% noticed" in out
    assert "95 % interval" in out


def test_a_crew_in_python_is_read_and_its_estimates_too(cli, tmp_path):
    """Its model's price, then the figures that a file gives for its tasks."""
    (tmp_path / "letters.py").write_text(CREW)
    code, out, _ = cli("advise", "letters.py:crew")
    assert code == 0
    assert "letters: workflow" in out
    assert "write: taken as 1 call of openai:gpt-4.1-mini with 2,000 tokens in and 500 out" in out
    assert "steps.write.reliability: unknown" in out
    (tmp_path / "letters.yaml").write_text(
        "volume: {tasks: 10}\nsteps: [{name: write, reliability: 0.97, agent: {reliability: 0.9, trials: 30}}]\n"
    )
    code, out, _ = cli("advise", "letters.py:crew", "--estimates", "letters.yaml", "--json")
    told = json.loads(out)
    assert code == 0
    assert [option["success"] for option in told["options"]] == [0.97, 0.9]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("advise", "job.yml"), "job.yml: there is no such file; expected the steps of a job"),
        (("advise", "job"), "expected a job's FILE.yaml, or a crew as FILE.py:ATTRIBUTE, got 'job'"),
        (("advise", "no.py:crew"), "no.py: there is no such file"),
        (("simulate", SALES, "--estimates", "x.yaml"), "--estimates is for crews in Python"),
        (("simulate", SALES, "--runs", "0"), "Input should be greater than or equal to 1"),
    ],
)
def test_wrong_arguments_say_what_was_expected_and_exit_with_2(cli, tmp_path, arguments, says):
    """In one line."""
    (tmp_path / "a.py").write_text(CREW)
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())
