"""Files that extend others, and the organisation's above them all."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from loguru import logger

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, guard, tool
from crew_guard.config import load_policy, org_policy, shipped_dir
from crew_guard.core.actions import ToolCall
from crew_guard.core.judging import judge
from crew_guard.errors import ConfigError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore

ORG = """\
name: org
limits:
  max_steps: 25
  max_usd: 5
tools:
  allow: [search, "read_*"]
  deny:
    - shell
    - read_secrets
"""
SHIPPED = sorted(shipped_dir("policy").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org.yaml").write_text(ORG)
    return tmp_path


def write(folder: Path, text: str, name: str = "team.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def refused(file: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    return caught.value


def test_a_chain_of_files_makes_one_policy_that_knows_where_each_value_stands(folder: Path) -> None:
    """org, team, project: the tightest of each, with its file and line."""
    write(folder, "extends: org.yaml\nlimits: {max_steps: 10}\ntools:\n  deny: [fetch]\n")
    project = write(folder, "extends: team.yaml\nattempts: 2\nlimits:\n  max_steps: 10\n", "project.yaml")
    policy = load_policy(project)
    assert type(policy) is Policy
    assert (policy.name, policy.limits.max_steps, policy.limits.max_usd) == ("project", 10, Decimal(5))
    assert policy.tools.deny == ("shell", "read_secrets", "fetch")
    found = {key: Path(source).name for key, source in policy.sources.items()}
    assert found["limits", "max_steps"] == "team.yaml:2"
    assert found["limits", "max_usd"] == "org.yaml:4"
    assert found["tools", "deny", 1] == "org.yaml:9"
    assert found["tools", "deny", 2] == "team.yaml:4"
    assert found["attempts",] == "project.yaml:2"


def test_a_refusal_names_the_file_and_line_of_its_rule(folder: Path) -> None:
    """Whoever is refused finds the rule, in whichever layer it stands."""
    policy = load_policy(write(folder, "extends: org.yaml\ntools:\n  allow: ['*_file', search]\n"))
    answers = {name: judge(policy, ToolCall("a", name)) for name in ("search", "shell", "read_web", "x_file")}
    assert {name: Path(answer.source).name for name, answer in answers.items()} == {
        "search": "",
        "shell": "org.yaml:8",
        "read_web": "team.yaml:3",
        "x_file": "org.yaml:6",
    }
    assert answers["shell"].told.endswith("org.yaml:8)")


def test_the_parent_of_a_file_is_a_path_from_it_or_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that extends its own name means the one that ships."""
    (folder / "policies").mkdir()
    mine = write(folder / "policies", "extends: research\nattempts: 1\n", "research.yaml")
    assert load_policy(mine).attempts == load_policy("research").attempts == 1
    assert load_policy("research").limits.max_steps == 20
    monkeypatch.chdir("/")
    write(folder, "extends: ../org.yaml\n", "policies/team.yaml")
    assert load_policy(folder / "policies" / "team.yaml").limits.max_steps == 25


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        (
            "extends: org.yaml\nlimits:\n  max_steps: 50\n",
            3,
            "limits.max_steps",
            r"50 is looser than 25 of .*org\.yaml:3",
        ),
        ("attempts: 2\nextends: no.yaml\n", 2, "extends", r"no\.yaml: there is no such file"),
        ("extends: nobody\n", 1, "extends", "there is no policy named 'nobody'"),
        ("extends: org\ndurability: relaxed\nlimits: {max_usd: 6}\n", 3, "limits.max_usd", r"policies.*org\.yaml"),
        ("extends:\n", 1, "extends", "is empty"),
        ("extends: ''\n", 1, "extends", "expected some text"),
        ("extends: [org.yaml]\n", 1, "extends", "expected text"),
        ("extends: team.yaml\n", 1, "extends", "extends this file in turn"),
        ("extends: org.yaml\ntools:\n  allow: [search, mail]\n", 3, "tools.allow.1", r"\[search, read_\*\]"),
        ("extends: org.yaml\ntools: {limits: {shell: {}}}\n", 2, "tools.limits.shell", r"org\.yaml:8"),
    ],
)
def test_a_mistake_between_layers_names_both(folder: Path, text: str, line: int, key: str, words: str) -> None:
    """The file and line of the lower layer in front, those of the upper one in the words."""
    error = refused(write(folder, text))
    assert (error.line, error.key) == (line, key)
    assert str(error).startswith(str(folder / "team.yaml"))
    assert re.search(words, str(error))


def test_all_mistakes_of_all_layers_come_at_once(folder: Path) -> None:
    """Those of a parent, too, each with its own file."""
    write(folder, "limits: {max_step: 1}\nattempts: 0\n", "up.yaml")
    error = refused(write(folder, "extends: up.yaml\nname: 5\n"))
    places = [(Path(one.file or "").name, one.line, one.key, one.value) for one in error.problems]
    assert places == [
        ("team.yaml", 2, "name", "5"),
        ("up.yaml", 1, "limits.max_step", "1"),
        ("up.yaml", 2, "attempts", "0"),
    ]
    error = refused(
        write(folder, "extends: org.yaml\nlimits: {max_steps: 50, max_usd: 9}\ntools: {allow: [x, shell]}\n")
    )
    assert len(error.problems) == len(str(error).splitlines()) == 4


def test_files_that_extend_each_other_are_an_error(folder: Path) -> None:
    """Three in a ring, each named in the order of their lines."""
    write(folder, "extends: b.yaml\n", "a.yaml")
    write(folder, "extends: c.yaml\n", "b.yaml")
    write(folder, "extends: a.yaml\n", "c.yaml")
    error = refused(str(folder / "a.yaml"))
    assert (Path(error.file or "").name, error.key) == ("c.yaml", "extends")
    assert [Path(one).name.split(";")[0] for one in str(error).split(": ")[-1].split(" → ")] == [
        "a.yaml",
        "b.yaml",
        "c.yaml",
        "a.yaml",
    ]


def test_an_empty_parent_is_told_at_its_own_file(folder: Path) -> None:
    """It is there, so it isn't missing."""
    write(folder, "# nothing\n", "up.yaml")
    error = refused(write(folder, "extends: up.yaml\n"))
    assert Path(error.file or "").name == "up.yaml"
    assert "is empty; expected a policy" in str(error)


def test_a_name_that_is_a_file_here_is_hinted_at(folder: Path) -> None:
    """--policy weather where weather.yaml lies beside."""
    write(folder, "attempts: 1\n", "weather.yaml")
    assert "There is a file weather.yaml here: give its path" in str(refused("weather"))
    assert "write weather.yaml for the file beside this one" in str(refused(write(folder, "extends: weather\n")))


# The organisation's layer


def test_the_organisations_policy_holds_where_none_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a Supervisor without a policy, with a file, with one made in Python, and for guard()."""
    org = write(folder, "limits: {max_steps: 7, max_usd: 50}\nreserve: {seconds: 90}\n", "tight.yaml")
    before = Supervisor("research").effective_policy
    monkeypatch.setenv("CREW_GUARD_ORG_POLICY", org)
    assert Supervisor().effective_policy.limits.max_steps == 7
    assert Supervisor().effective_policy.limits.max_usd == 5
    assert Supervisor(Policy()).effective_policy.limits.max_steps == 7
    research = Supervisor("research").effective_policy
    assert (research.limits.max_steps, research.limits.max_tokens, research.name) == (7, 60000, "research")
    assert research.reserve.seconds == 90
    assert research.hash != before.hash
    assert Supervisor(research).effective_policy.hash == research.hash
    with pytest.raises(ConfigError, match="no adapter"):
        guard(object())


def test_a_policy_that_extends_the_organisations_file_is_the_same_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named twice it changes nothing, the hash included."""
    team = write(folder, "extends: org.yaml\nlimits: {max_steps: 3}\ntools: {deny: [x]}\n")
    alone = Supervisor(team).effective_policy
    monkeypatch.setenv("CREW_GUARD_ORG_POLICY", str(folder / "org.yaml"))
    assert Supervisor(team).effective_policy.hash == alone.hash


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("missing.yaml", "there is no such file"),
        ("nobody", "no policy named 'nobody' among those that ship"),
        ("", "is empty"),
        ("broken.yaml", "broken.yaml:1: limit: unknown key"),
        ("orphan.yaml", "orphan.yaml:1: extends"),
    ],
)
def test_without_the_organisations_policy_nothing_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ref: str, words: str
) -> None:
    """A missing or broken one is an error for whoever would run anything, never ignored."""
    write(folder, "limit: 5\n", "broken.yaml")
    write(folder, "extends: gone.yaml\n", "orphan.yaml")
    monkeypatch.setenv("CREW_GUARD_ORG_POLICY", ref)
    for make in (Supervisor, org_policy, lambda: Supervisor(Policy()), lambda: guard(object())):
        with pytest.raises(ConfigError, match=re.escape(words)) as caught:
            make()
        assert str(caught.value).startswith("CREW_GUARD_ORG_POLICY: ")
        assert caught.value.problems


def test_a_file_in_the_working_directory_cannot_take_the_organisations_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is one that ships, whatever lies in ./policies."""
    (folder / "policies").mkdir()
    write(folder / "policies", "attempts: 9\n", "org.yaml")
    monkeypatch.setenv("CREW_GUARD_ORG_POLICY", "org")
    found = org_policy()
    assert found is not None
    assert found.limits.max_usd == 5


# A run under layers


@tool
def shell(command: str) -> str:
    """Run a command."""
    raise AssertionError(command)


def test_a_run_is_refused_by_the_organisations_rule_and_says_where_it_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's refusal and the journal name org.yaml:8; the result has the effective policy's hash."""
    monkeypatch.setenv("CREW_GUARD_ORG_POLICY", str(folder / "org.yaml"))
    model = ScriptedModel([Reply(tools=(("shell", '{"command": "ls"}'),)), "done"], repeat=True)
    crew = Crew([Agent(Role(name="ann", goal="Help"), tools=[shell])], [Task("Help")])
    store = MemoryStore()
    policy = Policy.model_validate({"agents": {"anne": {"max_steps": 3}}, "prices": {}})
    supervisor = Supervisor(policy, model=model, store=store)
    warned: list[str] = []
    sink = logger.add(warned.append, level="WARNING", format="{message}")
    logger.enable("crew_guard.api")
    result = supervisor.run(crew, run_id="r1")
    supervisor.run(crew)
    logger.disable("crew_guard.api")
    logger.remove(sink)
    assert result.policy == supervisor.effective_policy.hash
    refusals = [event.stop for event in store.read("r1") if type(event).__name__ == "Refused"]
    assert [stop.limit for stop in refusals][:1] == ["tools.deny"]
    assert f"({folder / 'org.yaml'}:8)" in str(refusals[0])
    assert warned == ["policy: agents.anne: the crew has no agent of this name; did you mean ann?\n"]


# What ships


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_each_shipped_policy_is_right_and_explains_itself(file: Path) -> None:
    """It loads, a comment stands above each key, and its first line names the schema beside it."""
    assert load_policy(file).name == file.stem
    lines = file.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=policy.schema.json"
    assert (file.parent / "policy.schema.json").is_file()
    bare = [line for above, line in pairwise(lines) if "#" not in above and "#" not in line]
    assert not bare


def test_the_organisations_policy_that_ships_is_what_everyone_recommends() -> None:
    """25 steps, $5 a task, 10 minutes, 5 agents; every other shipped policy extends it."""
    limits = load_policy("org").limits
    assert (limits.max_steps, limits.max_usd, limits.max_seconds, limits.max_agents) == (25, 5, 600, 5)
    assert {"org", "research", "strict", "team-coding", "team-research", "team-support"} <= {f.stem for f in SHIPPED}
    for file in SHIPPED:
        made = load_policy(file).limits
        assert made.max_steps is not None
        assert made.max_steps <= 25
        assert made.max_usd is not None
        assert made.max_usd <= 5
