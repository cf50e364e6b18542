"""Policy and role files: what is read, and the one error that names every mistake."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from crew_guard.config import load_policy, load_role
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError

FULL = """\
name: research
limits:
  max_agents: 3
  max_steps: 20_000
  max_usd: 0.1
  max_seconds: 90
per_agent: {max_tokens: 0}
agents:
  writer: &writer
    max_usd: 0.000000123456789123
  critic: *writer
tools:
  allow: [search, read_*]
  deny: []
  limits:
    search: {max_tool_calls: 4, max_seconds: 1.5}
models:
  allow: ["openai:gpt-4.1*", "openai:mine"]
prices:
  openai:mine: {input: 1, output: 0.0375}
reserve: {tokens: 500, usd: 0.01}
durability: relaxed
"""


def write(folder: Path, text: str | bytes, name: str = "policy.yaml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refused(folder: Path, text: str | bytes) -> ConfigError:
    file = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert str(caught.value).startswith(str(file))
    return caught.value


def test_a_full_policy_is_read_exactly(tmp_path):
    """Every section arrives, and money as it was written, not as a binary float."""
    policy = load_policy(write(tmp_path, FULL))
    assert policy.limits.max_steps == 20_000
    assert policy.limits.max_usd == Decimal("0.1")
    assert policy.limits.max_seconds == 90.0
    assert policy.per_agent.max_tokens == 0
    assert policy.agents["writer"].max_usd == policy.agents["critic"].max_usd == Decimal("0.000000123456789123")
    assert policy.tools.allow == ("search", "read_*")
    assert policy.tools.limits["search"].max_seconds == 1.5
    assert policy.models.allow == ("openai:gpt-4.1*", "openai:mine")
    assert policy.prices["openai:mine"].rates().output.base == 37_500_000
    assert policy.reserve.usd == Decimal("0.01")
    assert policy.durability == "relaxed"


def test_a_policy_without_a_name_is_called_like_its_file(tmp_path):
    """The name in results is the file's where the file gives none."""
    assert load_policy(write(tmp_path, "attempts: 2\n", "team.yaml")).name == "team"


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    """Editors that write one are common."""
    assert load_policy(write(tmp_path, b"\xef\xbb\xbfattempts: 2\n")).attempts == 2


@pytest.mark.parametrize(("word", "truth"), [("y", True), ("Yes", True), ("ON", True), ("n", False), ("Off", False)])
def test_the_words_of_yaml_1_1_are_truth_values_there(tmp_path, word, truth):
    """Where a file says that it is written in it."""
    rule = f"{{argument: x, one_of: [a], optional: {word}}}"
    policy = load_policy(write(tmp_path, f"%YAML 1.1\n---\ntools:\n  rules: {{a: [{rule}]}}\n"))
    assert policy.tools.rules["a"][0].optional is truth


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("limits:\n  max_step: 5\n", 2, "limits.max_step", "did you mean max_steps?"),
        ("limitz: 5\n", 1, "limitz", "did you mean limits?"),
        ("zzz: 5\n", 1, "zzz", "known here: name, limits"),
        ("\nlimits:\n  max_steps: '5'\n", 3, "limits.max_steps", 'got the text "5": take the quotes away'),
        ("limits:\n  max_steps: 1e3\n", 2, "limits.max_steps", "expected a whole number, got 1e3"),
        ("limits:\n  max_steps: 2.0\n", 2, "limits.max_steps", "expected a whole number, got 2.0"),
        ("limits:\n  max_steps: yes\n", 2, "limits.max_steps", 'got the text "yes"'),
        ("%YAML 1.1\n---\nlimits:\n  max_steps: yes\n", 4, "limits.max_steps", "expected a whole number, got yes"),
        ("limits:\n  max_steps: true\n", 2, "limits.max_steps", "expected a whole number, got true"),
        ("limits:\n  max_steps: -1\n", 2, "limits.max_steps", "at least 0, got -1"),
        ("limits:\n  max_steps: 0x10\n", 2, "limits.max_steps", "plain decimal number"),
        ("limits:\n  max_steps: 9999999999999999\n", 2, "limits.max_steps", "more than 1,000,000,000,000,000"),
        (f"limits:\n  max_steps: {'9' * 5000}\n", 2, "limits.max_steps", "too many digits"),
        ("limits:\n  max_usd: .nan\n", 2, "limits.max_usd", "leave the key out"),
        ("limits:\n  max_seconds: .inf\n", 2, "limits.max_seconds", "leave the key out"),
        ("limits:\n  max_seconds: -.inf\n", 2, "limits.max_seconds", "leave the key out"),
        ("limits:\n  max_usd: 1e999999\n", 2, "limits.max_usd", "more than 1,000,000,000"),
        ("limits:\n  max_usd: 1e999999999\n", 2, "limits.max_usd", "got 1e999999999, which is more than 1,000,000,000"),
        ("limits:\n  max_seconds: -1e999999999\n", 2, "limits.max_seconds", "got -1e999999999, which is more than"),
        ("limits:\n  max_usd: !!float nan\n", 2, "limits.max_usd", "expected a number, got nan: leave the key out"),
        ("limits:\n  max_usd: !!float sNaN\n", 2, "limits.max_usd", "expected a number, got sNaN: leave"),
        ("limits:\n  max_usd: !!float -Infinity\n", 2, "limits.max_usd", "expected a number, got -Infinity: leave"),
        ("limits:\n  max_steps: !!int nan\n", 2, "limits.max_steps", "expected a whole number, got nan: leave"),
        ("limits:\n  max_steps: !!int 1.5\n", 2, "limits.max_steps", "got 1.5, which its tag makes no whole number"),
        ("limits:\n  max_usd: !!int 1.5\n", 2, "limits.max_usd", "got 1.5, which its tag makes no whole number"),
        ("limits:\n  max_steps: !!int five\n", 2, "limits.max_steps", "got five: write it as a plain decimal number"),
        ("warn_at: !!float nan\n", 1, "warn_at", "expected a number, got nan"),
        ("prices:\n  m: {output: 1, input: !!float nan}\n", 2, "prices.m.input", "expected a number, got nan"),
        ("tools:\n  rules: {a: [{argument: x, least: 1, most: !!float nan}]}\n", 2, "tools.rules.a.0.most", "got nan"),
        (
            "tools:\n  rules: {a: [{argument: x, one_of: [a], optional: !!bool nope}]}\n",
            2,
            "tools.rules.a.0.optional",
            "expected true or false, got nope, which its tag makes no truth value",
        ),
        ("limits:\n  max_usd: '0.1'\n", 2, "limits.max_usd", "take the quotes away"),
        ("limits:\n  max_idle_seconds: 0\n", 2, "limits.max_idle_seconds", "more than 0, got 0"),
        ("limits:\n  max_steps:\n", 2, "limits.max_steps", "is empty"),
        ("tools:\n  allow:\n", 2, "tools.allow", "[] for none"),
        ("limits:\n", 1, "limits", "is empty; expected a section"),
        ("name: 5\n", 1, "name", "expected text, got 5: put it in quotes"),
        ("tools: [a]\n", 1, "tools", "expected a section"),
        ("tools:\n  deny:\n    - a\n    - 3\n", 4, "tools.deny.1", "expected text, got 3"),
        ("tools:\n  deny: shell\n", 2, "tools.deny", "expected a list"),
        ("prices:\n  m:\n    input: 1\n", 2, "prices.m.output", "is missing; expected a number"),
        ("attempts: 11\n", 1, "attempts", "at most 10, got 11"),
        ("durability: writeahead\n", 1, "durability", "did you mean write_ahead?"),
        ("attempts: 1\nname: a\nattempts: 2\n", 3, "attempts", "first in line 1"),
        ("agents:\n  a: &a {max_steps: 1}\n  b:\n    <<: *a\n", 4, "agents.b.<<", "merge keys are not read"),
        ("1: 2\n", 1, "1", "keys must be text"),
        ("? [a]\n: 2\n", 1, "this key", "keys must be text"),
        ("name: !!python/name:os.system\n", 1, "name", "tags are not read"),
        ("agents: &a {b: *a}\n", 1, None, "alias of a section that it stands in"),
        ("- a\n", 1, None, "expected lines of `key: value`, got a list"),
        ("just text\n", 1, None, 'got the text "just text"'),
        ("", None, None, "is empty; expected a policy"),
        ("# nothing\n", None, None, "is empty"),
        ("name: [a\n", 2, None, "is not YAML"),
        ("\tname: a\n", 1, None, "is not YAML"),
        ("name: a: b\n", 1, None, "mapping values are not allowed"),
        ("a: 1\n---\nb: 1\n", 2, None, "single document"),
        ("name: a\nb: \x00\n", 2, None, "control character"),
        (b"name: a\nx: \xff\xfe\n", 2, None, "not UTF-8"),
        ("[" * 5000, None, None, "nested too deeply"),
    ],
)
def test_a_mistake_names_its_file_line_and_key(tmp_path, text, line, key, words):
    """One sentence: where it is, what was given, what was expected."""
    error = refused(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert words in str(error)
    assert str(error).count("\n") == 0


def test_all_mistakes_of_a_file_come_at_once_in_order(tmp_path):
    """Each has its own line; nobody has to mend a file five times."""
    error = refused(tmp_path, "limits:\n  max_step: 5\n  max_usd: -1\nattempts: 0\nattempts: 1\n")
    lines = str(error).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "5"]
    assert all(line.startswith(str(tmp_path)) for line in lines)
    assert (error.line, error.key) == (2, "limits.max_step")


def test_aliases_that_expand_without_end_are_refused(tmp_path):
    """Nine lines that stand for a billion values must not be expanded."""
    lines = ["agents:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "aliases are expanded" in str(refused(tmp_path, "\n".join(lines)))


def test_a_file_that_is_too_large_is_not_parsed(tmp_path):
    """Size is looked at first."""
    assert "is larger than" in str(refused(tmp_path, "#" * 1_100_000))


def test_what_is_no_file_is_a_config_error(tmp_path):
    """A directory, nothing at all, a name no file system takes."""
    for ref, words in ((tmp_path / "no.yaml", "no such file"), ("a\0b.yaml", "can't be read")):
        with pytest.raises(ConfigError, match=words):
            load_policy(ref)
    (tmp_path / "dir.yaml").mkdir()
    with pytest.raises(ConfigError, match="is a directory"):
        load_policy(tmp_path / "dir.yaml")


def test_a_name_is_found_in_the_working_directory_first(tmp_path, monkeypatch):
    """./policies comes before what was shipped, and an unknown name lists what there is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    write(tmp_path / "policies", "attempts: 1\n", "mine.yaml")
    write(tmp_path / "policies", "attempts: 2\n", "other.yml")
    assert load_policy("mine").attempts == 1
    assert load_policy("other").attempts == 2
    assert load_policy("policies/mine.yaml").attempts == 1
    with pytest.raises(ConfigError, match=r"Did you mean mine\? There are: mine, org, other") as caught:
        load_policy("mime")
    assert "Looked in policies and" in str(caught.value)


def test_a_role_is_read_and_its_mistakes_are_named(tmp_path):
    """Roles go through the same door as policies."""
    good = write(tmp_path, "name: scout\ngoal: Find it\ntools: [search]\nmax_tokens: 300\n", "scout.yaml")
    role = load_role(good)
    assert (role.name, role.tools, role.max_tokens) == ("scout", ("search",), 300)
    bad = write(tmp_path, "name: 9lives\nbackstroy: x\ntools: search\n", "bad.yaml")
    with pytest.raises(ConfigError) as caught:
        load_role(bad)
    text = str(caught.value)
    assert "bad.yaml:1: name: expected text that matches" in text
    assert "bad.yaml:1: goal: is missing; expected text" in text
    assert "bad.yaml:2: backstroy: unknown key; known here: name, goal" in text
    assert "bad.yaml:3: tools: expected a list" in text


KEYS = st.one_of(
    st.sampled_from([*Policy.model_fields, "max_steps", "max_usd", "allow", "deny", "input", "max_seconds", "tokens"]),
    st.text(max_size=8),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.decimals()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def only_a_policy_or_a_config_error(file: Path) -> None:
    message = str(file)
    try:
        policy = load_policy(file)
    except ConfigError as error:
        message = str(error)
    else:
        assert isinstance(policy, Policy)
        assert policy.limits.caps()
        assert len(policy.hash) == 64
    assert str(file) in message


@QUICK
@given(tree=st.dictionaries(KEYS, TREES, max_size=5))
def test_a_random_document_is_a_policy_or_a_config_error(tmp_path, tree: dict[str, Any]):
    """No document makes the loader raise anything else."""
    file = tmp_path / "random.yaml"
    yaml = YAML(typ="safe", pure=True)
    try:
        with file.open("w", encoding="utf-8") as stream:
            yaml.dump(tree, stream)
    except Exception:
        # What the dumper can't write is another test's text.
        file.write_text("name: x\n")
    only_a_policy_or_a_config_error(file)


@QUICK
@given(text=st.text(alphabet=st.sampled_from("abc:-[]{}&*!|>'\"%#,?@ \n\t0123456789.<~\\xU\u00e9"), max_size=60))
def test_random_text_is_a_policy_or_a_config_error(tmp_path, text: str):
    """Not even text that the parser itself stumbles over."""
    file = tmp_path / "random.yaml"
    file.write_text(text, encoding="utf-8")
    only_a_policy_or_a_config_error(file)


@QUICK
@given(content=st.binary(max_size=60))
def test_random_bytes_are_a_policy_or_a_config_error(tmp_path, content: bytes):
    """A file that is no text is refused like any other."""
    file = tmp_path / "random.yaml"
    file.write_bytes(content)
    only_a_policy_or_a_config_error(file)


def test_a_reserve_beyond_its_limit_is_told_at_its_line(tmp_path):
    """The file, the line of the reserve, both figures."""
    path = tmp_path / "p.yaml"
    path.write_text("limits: {max_steps: 3}\nreserve:\n  steps: 5\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:2: reserve: reserve\.steps is 5, more than limits\.max_steps, 3"):
        load_policy(path)
