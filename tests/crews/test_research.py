"""The research crew and its workflow, on the standard library and on a folder."""

import asyncio
import json
from pathlib import Path

import pytest

from crew_guard import Supervisor, load_policy, load_role
from crew_guard.crews.brief import Brief, check_brief
from crew_guard.crews.research import research_crew
from crew_guard.crews.research_workflow import research_workflow
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore
from crew_guard.tools.corpus import Corpus, corpus_tools, load_corpus
from crew_guard.workflows.graph import NodeFailedError
from tests.benchmarks.research_questions import DEV, LEAST, questions, run_workflow, share
from tests.supervisor.gates import gate_for
from tests.tools.library import standard_library

QUESTION = "How do I run a subprocess with a timeout?"
NOTES = "subprocess.run: Run command with arguments and return a CompletedProcess instance."


@pytest.fixture(scope="module")
def library() -> Corpus:
    return standard_library()


def answer(corpus: Corpus, question: str) -> Brief:
    workflow = research_workflow(corpus, *corpus_tools(corpus))
    return asyncio.run(workflow.run({"question": question}, gate_for())).output


def good_brief() -> str:
    finding = {"claim": "It runs a command", "quote": NOTES.partition(": ")[2], "source": "subprocess.run"}
    return json.dumps({"question": QUESTION, "answer": "Use subprocess.run.", "findings": [finding]})


def supervisor(replies: list[Reply | str]) -> tuple[Supervisor, ScriptedModel]:
    model = ScriptedModel(replies)
    return Supervisor(policy="research", model=model, store=MemoryStore()), model


def test_the_workflow_cites_the_right_symbol(library: Corpus) -> None:
    """In at least 90 % of the benchmark's questions; each brief has passed its own check."""
    rows = run_workflow(library, questions())
    assert len(rows) == 40
    assert share(rows) >= LEAST


def test_the_questions_are_the_benchmarks_own(library: Corpus) -> None:
    """None is in both sets, and each names a symbol that the corpus holds."""
    benchmark, dev = questions(), questions(DEV)
    assert (len(benchmark), len(dev)) == (40, 70)
    assert not {one.question for one in benchmark} & {one.question for one in dev}
    for one in [*benchmark, *dev]:
        assert any(library.find(symbol) for symbol in one.symbols), one.question


def test_the_workflow_answers_in_the_librarys_words(library: Corpus) -> None:
    """The answer names the symbol, its signature and what it does; every quote is verbatim."""
    brief = answer(library, QUESTION)
    assert brief.answer.startswith("subprocess.run: Run command with arguments and return a CompletedProcess instance.")
    assert "timeout=None" in brief.answer
    assert "If timeout is given, and the process takes too long, a TimeoutExpired exception" in brief.answer
    assert brief.findings[0].quote.startswith("If timeout is given, and the process takes too long")
    assert brief.findings[0].source == "subprocess.run"
    assert brief.question == QUESTION
    assert check_brief(brief, library).passed


def test_a_passage_found_by_its_task_is_no_mere_close_one(library: Corpus) -> None:
    """The question's words stand in the index of tasks only; the quotes are the docstring's all the same."""
    brief = answer(library, "flatten nested lists")
    assert brief.answer.startswith("itertools.chain.from_iterable: ")
    assert check_brief(brief, library).passed


def test_two_modules_functions_of_one_name_are_two(library: Corpus) -> None:
    """threading.Lock does not hide asyncio.Lock."""
    brief = answer(library, "mutual exclusion lock")
    assert {"threading.Lock", "asyncio.Lock"} <= {finding.source for finding in brief.findings}


def test_the_workflow_answers_from_a_folder(tmp_path: Path) -> None:
    """The telling sentence, with its passage; nothing is made up where only a part is covered."""
    (tmp_path / "gzip.md").write_text("# Gzip\nGzip is old. It packs one file at a time. Nobody knows why.\n")
    (tmp_path / "zebra.md").write_text("# Zebra\nZebras run on savannas in large herds.\n")
    corpus = load_corpus(tmp_path)
    brief = answer(corpus, "How many files does gzip pack?")
    assert brief.answer == "Gzip: It packs one file at a time. [gzip.md#1]"
    close = answer(corpus, "zebra taxes parliament election")
    assert close.answer.startswith("Nothing found covers the whole question; this comes closest.")


def test_a_question_without_a_hit_fails_in_words(library: Corpus) -> None:
    """A workflow that found nothing gives no brief."""
    for question in ("xyzzy plugh", "", "???"):
        with pytest.raises(NodeFailedError, match="no word of the question stands in stdlib"):
            answer(library, question)


def test_a_crew_whose_brief_stands_up_gives_it(library: Corpus) -> None:
    """Researcher, writer and critic each do their task; the critic's brief is the output."""
    search = Reply(tools=(("search", '{"query": "run subprocess timeout"}'),))
    read = Reply(tools=(("read", '{"id": "subprocess.run"}'),))
    guarded, model = supervisor([search, read, NOTES, good_brief(), good_brief()])
    result = guarded.run(research_crew(library), {"question": QUESTION})
    assert (result.status, result.via, result.usage.tool_calls) == ("done", "crew", 2)
    assert isinstance(result.output, Brief)
    assert [(verdict.task, verdict.passed) for verdict in result.verdicts] == [
        ("notes", True),
        ("draft", True),
        ("brief", True),
    ]
    assert "subprocess.run" in model.calls[3].messages[-1].text


def test_a_crew_that_makes_up_a_quote_falls_back(library: Corpus) -> None:
    """The reason says which quote; the workflow still gives a brief that stands up."""
    guarded, _ = supervisor([NOTES, good_brief().replace("Run command", "Kill command")])
    result = guarded.run(research_crew(library), {"question": QUESTION})
    assert (result.status, result.via) == ("done", "workflow")
    assert "its quote does not stand in subprocess.run: 'Kill command" in result.fell_back
    assert check_brief(result.output, library).passed


def test_a_crew_that_searches_without_end_falls_back(library: Corpus) -> None:
    """Its own cap stops it, and the tool calls kept back are enough for the workflow."""
    searches = [Reply(tools=tuple(("search", f'{{"query": "x {n} {m}"}}') for m in range(4))) for n in range(9)]
    guarded = Supervisor(
        policy="research",
        model=ScriptedModel(searches),
        store=MemoryStore(),
    )
    result = guarded.run(research_crew(library), {"question": QUESTION})
    assert (result.status, result.via) == ("done", "workflow")
    assert "max_tool_calls" in result.fell_back


def test_a_crew_that_asks_the_same_without_end_falls_back(library: Corpus) -> None:
    """It goes in circles, and is stopped before its cap."""
    model = ScriptedModel([Reply(tools=(("search", '{"query": "x"}'),) * 4)], repeat=True)
    result = Supervisor(policy="research", model=model, store=MemoryStore()).run(
        research_crew(library), {"question": QUESTION}
    )
    assert (result.status, result.via) == ("done", "workflow")
    assert "loops.same_call of agent:researcher" in result.fell_back


def test_the_shipped_roles_and_policy_load() -> None:
    """Each file is named like its role; the writer and the critic have no tools."""
    assert [load_role(name).name for name in ("researcher", "writer", "critic")] == ["researcher", "writer", "critic"]
    assert (load_role("researcher").tools, load_role("writer").tools) == (("search", "read"), ())
    policy = load_policy("research")
    assert policy.reserve.tool_calls > 5
