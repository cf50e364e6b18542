"""`crew-guard policy` as a process: what it prints, and which code it exits with."""

from __future__ import annotations

import json

from crew_guard.cli.policy import schema_text
from crew_guard.config import shipped_dir
from crew_guard.config.json_schema import sentences_of
from crew_guard.config.policies import PolicyFile

ORG = "limits:\n  max_steps: 25\n  max_usd: 5\ntools: {deny: [shell]}\n"
LOOSE = "extends: org.yaml\nlimits: {max_steps: 30}\ntools: {limits: {shell: {}}}\n"


def test_check_names_every_problem_of_every_file_and_exits_with_2(cli, tmp_path):
    """File, line, key, value and what was expected; a file that is right is said to be."""
    (tmp_path / "org.yaml").write_text(ORG)
    (tmp_path / "loose.yaml").write_text(LOOSE)
    code, out, _ = cli("policy", "check", "org.yaml", "loose.yaml", "strict")
    assert code == 2
    assert out.splitlines() == [
        "org.yaml: right",
        "loose.yaml:2: limits.max_steps: 30 is looser than 25 of org.yaml:2; expected at most 25",
        "loose.yaml:3: tools.limits.shell: can never take effect: shell is denied by the policy's tools.deny "
        "(org.yaml:4); take it away",
        "strict: right",
        "2 problems",
    ]
    code, out, _ = cli("policy", "check", "loose.yaml", "--json")
    assert code == 2
    told = json.loads(out)
    assert not told["ok"]
    first = told["files"][0]["problems"][0]
    assert [first[name] for name in ("file", "line", "key", "value")] == ["loose.yaml", 2, "limits.max_steps", "30"]
    assert cli("policy", "check", "org.yaml", "--json")[0] == 0


def test_check_says_what_the_organisation_takes_back(cli, tmp_path):
    """Nothing is wrong with the file, and yet less applies."""
    (tmp_path / "org.yaml").write_text(ORG)
    (tmp_path / "mine.yaml").write_text("limits: {max_steps: 40, max_usd: 1}\n")
    code, out, _ = cli("policy", "check", "mine.yaml", CREW_GUARD_ORG_POLICY="org.yaml")
    assert code == 0
    assert out == "mine.yaml: right; CREW_GUARD_ORG_POLICY tightens limits.max_steps, tools.deny\n"
    code, _, err = cli("policy", "check", "mine.yaml", CREW_GUARD_ORG_POLICY="gone.yaml")
    assert code == 2
    assert "gone.yaml: there is no such file" in err


def test_a_key_that_would_steer_the_terminal_is_shown_escaped(cli, tmp_path):
    """Nobody takes it for another one: where it is wrong as where it is right."""
    (tmp_path / "wrong.yaml").write_text('limits: {"max_steps\\e[31m": 1}\n')
    (tmp_path / "right.yaml").write_text('agents: {"a\\e[31m": {max_steps: 1}}\n')
    (tmp_path / "other.yaml").write_text("agents: {a: {max_steps: 1}}\n")
    told = "wrong.yaml:1: limits.max_steps\\x1b[31m: unknown key"
    assert told in cli("policy", "check", "wrong.yaml")[1]
    assert told in cli("policy", "explain", "wrong.yaml")[2]
    assert "agents.a\\x1b[31m.max_steps" in cli("policy", "explain", "right.yaml")[1]
    assert "agents.a\\x1b[31m.max_steps" in cli("policy", "diff", "right.yaml", "other.yaml")[1]


def test_explain_prints_each_value_with_the_file_and_line_behind_it(cli, tmp_path):
    """The organisation's layer included; what is not limited is said."""
    (tmp_path / "org.yaml").write_text(ORG)
    (tmp_path / "mine.yaml").write_text("limits: {max_steps: 40, max_tokens: 9}\ntools: {allow: [search]}\n")
    code, out, _ = cli("policy", "explain", "mine.yaml", CREW_GUARD_ORG_POLICY="org.yaml")
    assert code == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()[3:]}
    assert rows["limits.max_steps"] == "25 org.yaml:2"
    assert rows["limits.max_tokens"] == "9 mine.yaml:1"
    assert rows["limits.max_seconds"] == "no limit"
    assert rows["tools.allow"] == "[search] mine.yaml:2"
    assert rows["tools.deny"] == "[shell] org.yaml:4"
    assert rows["attempts"] == "3 built in"
    code, out, _ = cli("policy", "explain", "--json")
    assert code == 0
    told = {row["key"]: row for row in json.loads(out)["values"]}
    assert told["limits.max_steps"] == {"key": "limits.max_steps", "value": 25, "source": None}
    assert told["limits.max_tokens"]["value"] is None


def test_diff_says_what_is_tighter_and_what_is_looser(cli, tmp_path):
    """Exit code 0 where two allow the same, 1 where they differ, 2 where one is wrong."""
    (tmp_path / "a.yaml").write_text("name: x\n" + ORG)
    (tmp_path / "b.yaml").write_text("name: x\nlimits: {max_steps: 30, max_usd: 1}\ntools: {deny: [shell]}\n")
    code, out, _ = cli("policy", "diff", "a.yaml", "b.yaml")
    assert code == 1
    rows = [line.split() for line in out.splitlines()[1:]]
    assert rows == [["limits.max_steps", "25", "30", "looser"], ["limits.max_usd", "5", "1", "tighter"]]
    code, out, _ = cli("policy", "diff", "a.yaml", "b.yaml", "--json")
    changes = {one["key"]: (one["change"], one["a"], one["b"]) for one in json.loads(out)["differences"]}
    assert (code, changes["limits.max_usd"]) == (1, ("tighter", "5", "1"))
    assert cli("policy", "diff", "a.yaml", "a.yaml")[:2] == (0, "They allow the same.\n")
    assert cli("policy", "diff", "a.yaml", "gone.yaml")[0] == 2


def test_the_schema_in_the_repository_is_what_the_command_prints(cli):
    """Editors see the keys of this version: crew-guard policy schema > policies/policy.schema.json."""
    code, out, _ = cli("policy", "schema")
    assert code == 0
    assert out == schema_text() == (shipped_dir("policy") / "policy.schema.json").read_text()


def test_each_key_of_the_schema_is_described(cli):
    """By the sentence that stands under its field."""
    schema = json.loads(schema_text())
    sections = {"policy": schema, **schema["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, field in section.get("properties", {}).items()
        if not field.get("description")
    ]
    assert not bare
    assert sentences_of(PolicyFile)["extends"] == schema["properties"]["extends"]["description"]
    assert schema["$defs"]["Limits"]["properties"]["max_usd"] == {
        "description": "US dollars.",
        "minimum": 0,
        "type": "number",
    }


def test_a_run_warns_of_what_its_crew_has_not_got(cli, crews, server, tmp_path):
    """A typing error in an agent's or a tool's name limits nobody: a line on stderr says so."""
    (tmp_path / "typo.yaml").write_text("agents: {writter: {max_steps: 1}}\ntools: {limits: {noisi: {}}}\n")
    model = ["--model", "ollama:says", "--base-url", server.url, "--policy", "typo.yaml"]
    code, _, err = cli("run", f"{crews}:talk", "-i", "topic=x", *model)
    assert code == 0, err
    assert "WARNING: policy: agents.writter (typo.yaml:1): the crew has no agent of this name; did you mean" in err
    assert "WARNING: policy: tools.limits.noisi (typo.yaml:2): the crew has no tool of this name" in err


def test_a_run_names_the_file_that_lies_beside_it(cli, crews, tmp_path):
    """--policy weather where weather.yaml is here."""
    (tmp_path / "weather.yaml").write_text("attempts: 1\n")
    code, _, err = cli("run", f"{crews}:talk", "-i", "topic=x", "--policy", "weather")
    assert code == 2
    assert "There is a file weather.yaml here: give its path, weather.yaml." in err


NEVER_KNOWN = "reliability:\n  threshold: 0.85\n  unknown: workflow\n"


def test_check_warns_of_what_decides_nothing_or_for_ever_or_leaves_nothing(cli, tmp_path):
    """Each with file, line, key and what to write instead; a warning is no mistake, so the exit code is 0."""
    files = {
        "ever.yaml": NEVER_KNOWN,
        "idle.yaml": "reliability:\n  confidence: 0.9\n  unknown: shadow\n",
        "never.yaml": "reliability:\n  threshold: 0.85\n  fallback: never\n  require_fallback: true\n",
        "failure.yaml": "reliability: {tier: pilot, fallback: on_failure, unknown: workflow}\n",
        "spent.yaml": "extends: cap.yaml\nreserve:\n  steps: 1\n  usd: 2\n",
        "cap.yaml": "limits:\n  max_steps: 9\n  max_usd: 2\n  max_tokens: 0\n",
        "fine.yaml": "reliability: {tier: pilot, unknown: shadow, require_fallback: true}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code, out, _ = cli("policy", "check", *files)
    lines = out.splitlines()
    assert code == 0
    warnings = [line for line in lines if "warning: " in line]
    expected = {
        "ever.yaml:3: reliability.unknown: warning: workflow sends every run": "write shadow",
        "idle.yaml:3: reliability.unknown: warning: shadow decides nothing: there is no threshold": "and no tier",
        "never.yaml:4: reliability.require_fallback: warning: true asks for a fallback": "never.yaml:3",
        "failure.yaml:1: reliability.unknown: warning: workflow decides nothing": "fallback is on_failure",
        "spent.yaml:4: reserve.usd: warning: 2 is all of limits.max_usd, so that nothing of it is left": "cap.yaml:3",
    }
    assert len(warnings) == len(expected)
    for warning, (start, inside) in zip(warnings, expected.items(), strict=True):
        assert warning.startswith(start)
        assert inside in warning
    assert [line for line in lines if ": right" in line] == [f"{name}: right" for name in files]
    assert "5 warnings" in lines[-1]
    code, out, _ = cli("policy", "check", "ever.yaml", "fine.yaml", "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (0, True)
    (first,) = told["files"][0]["warnings"]
    assert [first[name] for name in ("file", "line", "key", "value")] == [
        "ever.yaml",
        3,
        "reliability.unknown",
        "workflow",
    ]
    assert told["files"][1]["warnings"] == []


def test_check_warns_of_what_the_organisations_policy_makes_of_a_file(cli, tmp_path):
    """What applies is looked at: a threshold from above makes `unknown` count, and a demand from above meets never."""
    (tmp_path / "org.yaml").write_text("reliability:\n  threshold: 0.9\n  require_fallback: true\n")
    (tmp_path / "mine.yaml").write_text("reliability: {unknown: shadow}\n")
    (tmp_path / "ever.yaml").write_text("reliability: {unknown: workflow}\n")
    code, out, _ = cli("policy", "check", "mine.yaml", "ever.yaml", CREW_GUARD_ORG_POLICY="org.yaml")
    assert code == 0
    assert "mine.yaml:1: reliability.unknown: warning" not in out
    assert "ever.yaml:1: reliability.unknown: warning: workflow sends every run" in out
    assert "decides nothing" not in out


def test_what_the_organisation_makes_unprovable_is_refused(cli, tmp_path):
    """As across `extends`, with the file and line of both; one that stays provable is right."""
    (tmp_path / "org.yaml").write_text("reliability: {confidence: 0.99}\n")
    (tmp_path / "high.yaml").write_text("reliability: {threshold: 0.9997}\n")
    (tmp_path / "fine.yaml").write_text("reliability: {threshold: 0.9}\n")
    code, out, _ = cli("policy", "check", "high.yaml", "fine.yaml", CREW_GUARD_ORG_POLICY="./org.yaml")
    assert code == 2
    assert "high.yaml:1: reliability.threshold: no crew could prove 0.9997 at a confidence of 0.99" in out
    assert "org.yaml:1), by CREW_GUARD_ORG_POLICY" in out
    assert "fine.yaml: right" in out
    code, _, said = cli("policy", "explain", "high.yaml", CREW_GUARD_ORG_POLICY="./org.yaml")
    assert (code, "no crew could prove 0.9997" in said) == (2, True)


def test_the_threshold_shown_is_the_one_that_counts(cli, tmp_path):
    """A tier's, with the line of the tier, where that is above the one that stands there."""
    (tmp_path / "org.yaml").write_text("reliability: {threshold: 0.9}\n")
    (tmp_path / "mine.yaml").write_text("extends: org.yaml\nreliability: {tier: production}\n")
    (tmp_path / "tier.yaml").write_text("reliability: {tier: pilot}\n")
    for file, shown, source in (
        ("mine", 0.95, "mine.yaml:2"),
        ("org", 0.9, "org.yaml:1"),
        ("tier", 0.7, "tier.yaml:1"),
    ):
        _, out, _ = cli("policy", "explain", f"{file}.yaml", "--json")
        found = next(one for one in json.loads(out)["values"] if one["key"] == "reliability.threshold")
        assert float(found["value"]) == shown
        assert found["source"].endswith(source)


def test_what_a_file_says_is_told_in_its_own_words(cli, tmp_path):
    (tmp_path / "org.yaml").write_text("reliability: {require_fallback: true}\n")
    (tmp_path / "mine.yaml").write_text("extends: org.yaml\nreliability: {require_fallback: false}\n")
    _, out, _ = cli("policy", "check", "mine.yaml")
    assert "require_fallback: false is looser than true of " in out
    assert "expected true" in out


def test_the_policies_that_ship_need_no_warning(cli):
    """They are what others begin with."""
    names = sorted(file.stem for file in shipped_dir("policy").glob("*.yaml"))
    assert names
    code, out, _ = cli("policy", "check", *names)
    assert code == 0
    assert out.splitlines() == [f"{name}: right" for name in names]
