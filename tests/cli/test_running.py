"""`crew-guard run` as a process: what reaches stdout, and which code it exits with."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crew_guard.store import reading
from tests.cli.calls import told

MODEL = "ollama:{}"


def run_of(crews, server, crew: str, model: str, *more: str) -> list[str]:
    return [
        "run",
        f"{crews}:{crew}",
        "-i",
        "topic=gzip",
        "--model",
        MODEL.format(model),
        "--base-url",
        server.url,
        *more,
    ]


def policy(folder, text: str) -> str:
    file = folder / "strict.yaml"
    file.write_text(text)
    return str(file)


def test_json_is_one_object_and_nothing_else(cli, crews, server):
    """Tools that print from Python, from C or from a child process find stderr in stdout's place."""
    code, out, err = cli(*run_of(crews, server, "talk", "works", "--json"))
    assert code == 0, err
    result = json.loads(out)
    assert out.count("\n") == 1
    assert result["output"] == "h\u00e9llo \u2713 \x1b[31mred"
    assert (result["status"], result["via"], result["usage"]["steps"]) == ("done", "crew", 2)
    assert err.count("NOISE") == 3


def test_a_run_prints_its_answer_and_its_account(cli, crews, server):
    """The answer first, without escapes; then the path, each cap and how to look closer. Progress is on stderr."""
    code, out, err = cli(*run_of(crews, server, "talk", "works", "--run-id", "my-run"))
    assert code == 0, err
    assert out.startswith("h\u00e9llo \u2713 red\n")
    assert "NOISE" not in out
    assert "Path    The crew did it" in out
    assert "Look closer: crew-guard runs show my-run" in out
    table = {line.split("  ")[0]: line.split()[-2:] for line in out.splitlines()}
    assert table["steps"] == ["2", "25"]
    assert table["tokens"] == ["34", "none"]
    assert 'think → noisy("x")' in err
    code, out, _ = cli("runs", "show", "my-r")
    assert code == 0
    assert 'noisy("x") → done' in out


def test_quiet_is_the_answer_alone(cli, crews, server):
    """Nothing on stderr but what the tools print themselves."""
    code, out, err = cli(*run_of(crews, server, "talk", "says", "--quiet"))
    assert (code, out, err) == (0, "h\u00e9llo \u2713 red\n", "")


@pytest.mark.parametrize(
    ("crew", "model", "rules", "code", "words"),
    [
        ("talk", "loops", "limits: {max_steps: 2}\n", 3, "max_steps of run: the cap is 2, 2 used"),
        ("talk", "says", "models: {deny: ['ollama:*']}\n", 4, "is denied by the policy's models.deny"),
        ("talk", "refuses", "attempts: 1\n", 5, "failed"),
        ("judged", "says", "attempts: 1\n", 5, "no proof"),
    ],
)
def test_an_end_without_an_answer_has_its_own_exit_code(cli, crews, server, tmp_path, crew, model, rules, code, words):
    """3 stopped by a limit, 4 denied, 5 failed: with the reason, and never with a traceback."""
    strict = policy(tmp_path, rules)
    left, out, err = cli(*run_of(crews, server, crew, model, "--policy", strict))
    assert left == code, err
    assert out.startswith("No answer. ")
    assert words in out
    assert "Traceback" not in err
    left, out, err = cli(*run_of(crews, server, crew, model, "--policy", strict, "--json"))
    assert left == code
    assert json.loads(out)["output"] is None
    assert "see crew-guard runs show" in err
    _, out, err = cli(
        *run_of(crews, server, crew, model, "--policy", strict, "-q", "--run-id", "x", "--store", "a b.db")
    )
    assert "see crew-guard runs show x --store 'a b.db'" in err


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["run", "nothing.py:crew"], "ConfigError", "nothing.py: there is no such file"),
        (["run", "{crews}:nothing"], "ConfigError", "it holds: talk, judged"),
        (["run", "{crews}:broken"], "ConfigError", "this crew can't be made"),
        (["run", "{crews}:talk", "-i", "topic"], "ConfigError", "--input takes NAME=VALUE"),
        (["run", "{crews}:talk", "-i", "topic=@nothing.txt"], "ConfigError", "nothing.txt: there is no such file"),
        (["run", "{crews}:talk", "-i", "a=1", "-i", "a=2"], "ConfigError", "'a' twice"),
        (["run", "{crews}:talk", "--inputs-json", "{crews}"], "ConfigError", "is not JSON"),
        (["run", "{crews}:talk"], "ConfigError", "topic"),
        (["run", "{crews}:talk", "-i", "topic=x", "--policy", "nope"], "ConfigError", "no policy named 'nope'"),
        (["run", "{crews}:talk", "-i", "topic=x", "--model", "nobody:knows"], "ConfigError", "nobody"),
        (["research", " "], "ConfigError", "the question is empty"),
        (["research", "why?", "--corpus", "./nowhere"], "ConfigError", "nowhere"),
        (["run", "{crews}:talk", "-i", "topic=x", "--base-url", "foo"], "ConfigError", "openai-compatible:NAME"),
        (["run", "{crews}:flow", "--runtime", "crewai"], "ConfigError", "'fixed' is a workflow, which runs by itself"),
        (["run", "{crews}:talk", "-i", "topic=x", "--policy", "rules"], "ConfigError", "give its path, ./rules"),
        (["run", "{crews}:leaks"], "ConfigError", "401 for key [redacted]"),
        (["run"], "UsageError", "Missing argument"),
        (["run", "x:y", "--nonsense"], "UsageError", "nonsense"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_message(cli, crews, arguments, kind, words):
    """The message is on stderr, and with --json an object on stdout too."""
    given = [argument.replace("{crews}", str(crews)) for argument in arguments]
    (crews.parent / "rules").write_text("limits: {max_steps: 2}\n")
    code, out, err = cli(*given, "--json")
    assert code == 2, err
    error = json.loads(out)["error"]
    assert error["type"] == kind
    assert words in error["message"]
    assert words in err
    assert "Traceback" not in err


def test_research_with_the_embedded_model_takes_no_base_url(cli, tmp_path):
    """Its workflow asks no other model: nothing would be sent there."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "note.txt").write_text("Rivers run to the sea.")
    code, _, err = cli("research", "why?", "--corpus", "corpus", "--base-url", "foo")
    assert code == 2
    assert "--base-url 'foo' has no effect" in err


def test_a_base_url_is_for_any_model_that_is_not_embedded(cli, crews, server):
    """An agent that names a model of its own is one, though --model is embedded."""
    crews.write_text(crews.read_text().replace('goal="Write")', 'goal="Write", model="ollama:talks")'))
    chosen = ("--model", "embedded:smollm2", "--base-url", server.url)
    code, _, err = cli("run", f"{crews}:talk", "-i", "topic=x", *chosen)
    assert code == 0, err
    assert server.asked


def test_debug_shows_where_an_error_came_from(cli, crews):
    """The traceback holds the user's own line."""
    code, _, err = cli("run", f"{crews}:broken", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert 'raise RuntimeError("this crew can\'t be made")' in err


@pytest.mark.parametrize("more", [(), ("--debug",), ("--json",)])
def test_an_error_cannot_steer_the_terminal(cli, crews, more):
    """What it holds is seen, and its lines stay lines; JSON has the text itself."""
    code, out, err = cli("run", f"{crews}:paints", *more)
    assert code == 2
    assert "ValueError: no \\x1b[31mred, \\u202eor\\x9b2J\nanother line\n" in err
    assert not [char for char in err if char in "\x1b\u202e\x9b"]
    if out:
        assert "\x1b[31mred" in json.loads(out)["error"]["message"]


def test_inputs_come_from_options_files_and_json(cli, crews, server, tmp_path):
    """An option wins over the JSON object; @FILE is the file's text."""
    (tmp_path / "topic.txt").write_text("zlib, from a file")
    (tmp_path / "inputs.json").write_text('{"topic": "from json", "n": 3}')
    base = ["run", f"{crews}:talk", "--model", MODEL.format("says"), "--base-url", server.url, "-q"]
    assert cli(*base, "--inputs-json", "inputs.json")[0] == 0
    assert cli(*base, "--inputs-json", "inputs.json", "-i", "topic=@topic.txt")[0] == 0
    assert "from json" in json.dumps(server.asked[0])
    assert "zlib, from a file" in json.dumps(server.asked[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_run_and_gives_its_result(cli, crews, server, number, code):
    """Ctrl-C, or SIGTERM, once: a result that says so, and a journal that is whole."""
    process = cli.start(*run_of(crews, server, "talk", "hang", "--json"))
    assert server.reached.wait(60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err.decode()
    result = json.loads(out)
    assert result["status"] == "stopped"
    assert result["stopped"]["reason"] == "cancelled"
    assert b"Traceback" not in err
    code, out, _ = cli("runs", "show", result["run_id"])
    assert code == 0
    assert "its caller was interrupted" in out


@pytest.mark.parametrize("more", [["--json"], ["--quiet"], []])
def test_a_reader_that_goes_away_is_no_error(cli, crews, server, more):
    """The run counts; who reads its answer doesn't."""
    process = cli.start(*run_of(crews, server, "talk", "says", *more))
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 0, err.decode()
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["runs", "--help"], 0),
        (["--version"], 0),
        (["policy", "schema"], 0),
        (["policy", "check", "research", "--json"], 0),
        (["policy", "diff", "research", "strict"], 1),
        (["nope"], 2),
        (["nope", "--json"], 2),
        (["runs", "show", "nope", "--json"], 5),
    ],
)
def test_a_pipe_that_nobody_reads_changes_no_exit_code(cli, arguments, code):
    """As in `crew-guard --help | head -1`, with stdout alone in the pipe and with stderr, too: and no traceback."""
    read, write = os.pipe()
    os.close(read)
    try:
        process = cli.start(*arguments, stdout=write)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == code, err.decode()
        assert b"Traceback" not in err
        assert b"BrokenPipe" not in err
        process = cli.start(*arguments, stdout=write, stderr=write)
        assert process.wait(60) == code
    finally:
        os.close(write)


def test_a_usage_error_is_json_on_stdout_where_nobody_reads_stderr(cli):
    """One stream that is shut leaves the other one as it is."""
    read, write = os.pipe()
    os.close(read)
    process = cli.start("nope", "--json", stderr=write)
    os.close(write)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert json.loads(out)["error"]["type"] == "UsageError"


def test_a_process_without_stdout_runs_all_the_same(cli, crews, server):
    """The journal's file must not take stdout's number."""
    arguments = run_of(crews, server, "talk", "works", "--run-id", "shut")
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *cli.start("--version").args[:3], *arguments]
    done = subprocess.run(command, cwd=cli.folder, env=cli.env, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    code, out, _ = cli("runs", "show", "shut", "--json")
    assert code == 0
    assert json.loads(out)["status"] == "done"


def test_a_terminal_that_is_not_utf8_is_no_error(cli, crews, server):
    """What can't be shown becomes a question mark; JSON is UTF-8 whatever the terminal is."""
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    code, out, err = cli(*run_of(crews, server, "talk", "works"), **ascii_only)
    assert code == 0, err
    assert out.startswith("h?llo ? red\n")
    assert "think ? noisy" in err
    code, out, err = cli(*run_of(crews, server, "talk", "says", "--json"), **ascii_only)
    assert code == 0, err
    assert json.loads(out)["output"].startswith("h\u00e9llo \u2713")


def test_the_version_is_told(cli):
    """One line."""
    from crew_guard import __version__

    assert cli("--version") == (0, f"crew-guard {__version__}\n", "")


def test_help_imports_nothing_heavy(cli):
    """No pydantic, no YAML, no store and no log: only the words."""
    heavy = ("pydantic", "ruamel", "loguru", "sqlite3", "asyncio", "crew_guard.api")
    code = f"import sys, crew_guard.cli.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=cli.env, check=True)
    assert done.stdout == b"[]\n"


def test_a_runtime_that_there_is_not_is_told_with_those_there_are(cli, crews, server):
    """Exit code 2, before anything runs."""
    code, out, err = cli(*run_of(crews, server, "talk", "says", "--runtime", "langchain"))
    assert (code, out) == (2, "")
    assert "there is no runtime 'langchain'; there are native" in err
    assert not server.asked


def test_an_answer_that_cant_be_written_is_told_in_a_sentence(cli, crews, server):
    """A full disk behind stdout: no traceback, the documented code, and where the answer is kept."""
    with Path("/dev/full").open("wb") as full:
        process = cli.start(*run_of(crews, server, "talk", "works", "--json", "--run-id", "kept"), stdout=full)
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 5
    assert "could not be written to stdout: No space left" in err
    assert "crew-guard runs show kept" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [["runs", "list"], ["policy", "schema"], ["doctor"], ["--help"], ["runs", "--help"], ["--version"]]
)
def test_text_for_a_full_disk_is_told_in_a_sentence_too(cli, arguments):
    """Whatever writes it: one line, no traceback, and the documented code."""
    with Path("/dev/full").open("wb") as full:
        process = cli.start(*arguments, stdout=full)
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 5
    assert err == "crew-guard: the answer could not be written to stdout: No space left on device\n"


def test_a_disk_that_is_full_elsewhere_is_not_stdouts(tmp_path, monkeypatch):
    """The error says what failed, and stdout still gets its object."""

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(reading, "open_to_read", full)
    (tmp_path / "journal.db").touch()
    error = told("runs", "list", "--store", str(tmp_path / "journal.db"), code=5)["error"]
    assert error["type"] == "OSError"
    assert "No space left on device: " in error["message"]
    assert "stdout" not in error["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"topic": 1, "topic": 2}', "twice"),
        ('{"topic": NaN}', "holds NaN"),
        ('{"topic": ' + "[" * 100_000 + "]" * 100_000 + "}", "in.json: is nested too deeply"),
    ],
    ids=["twice", "nan", "deep"],
)
def test_inputs_that_json_has_no_words_for_are_refused(cli, crews, server, tmp_path, text, said):
    """A key given twice, a number that is none, or nesting beyond bounds: another program would read it otherwise."""
    (tmp_path / "in.json").write_text(text)
    code, _, err = cli(*run_of(crews, server, "talk", "works")[:2], "--inputs-json", "in.json")
    assert code == 2
    assert said in err


def test_an_empty_run_id_is_refused(cli, crews, server):
    """It is not taken for none."""
    code, _, err = cli(*run_of(crews, server, "talk", "works", "--run-id", ""))
    assert code == 2
    assert "run_id is empty" in err
