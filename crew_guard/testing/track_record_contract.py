"""What every TrackRecord must do, as pytest tests.

class TestMyTrackRecord(TrackRecordContract):
    def make_store(self, folder): return MyStore(folder / "journal")
"""

# ruff: noqa: S101, PLR2004 - these are tests, though they ship in the package

from __future__ import annotations

import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crew_guard.core.events import RunEnded
from crew_guard.core.reliability import records
from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.records import Settings
from crew_guard.core.reliability.structure import AnyOf, Chain, Leaf, OneOf, Retry
from crew_guard.core.reliability.trials import RunReport, Source, Subject, Trial
from crew_guard.errors import ConfigError, StoreError
from crew_guard.ports import Store, TrackRecord
from crew_guard.testing.events import AWKWARD, started

TERMS = Settings(threshold=0.85, parts=2)
WRITER = Subject("writer", "m1", "draft", "v1")
CRITIC = Subject("critic", "m1", "review", "v1")


def trial(agent: str = "writer", grade: float = 1.0, task: str = "task_1", source: Source = "check") -> Trial:
    """A verdict on the writer, or on the critic."""
    return Trial(CRITIC if agent == "critic" else WRITER, agent, task, grade, source, "looked at")


def report(run_id: str, *trials: Trial, **more: Any) -> RunReport:
    """A run of the crew `brief`."""
    given: dict[str, Any] = {"crew": "brief", "version": "1", "at": 100.0, **more}
    return RunReport(run_id, trials=trials, **given)


class TrackRecordContract(ABC):
    """Subclass it and give `make_store`; the class's name must start with Test."""

    @abstractmethod
    def make_store(self, folder: Path) -> Store:
        """A new, empty store; what it keeps on disk belongs into this folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """The store under test."""
        store = self.make_store(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def track(self, store: Store) -> TrackRecord:
        """Its track record."""
        return store.track_record()

    def test_nothing_is_known_at_first(self, track: TrackRecord) -> None:
        """No crew, no run, no trials; and asking is no error."""
        assert track.crew("brief") is None
        assert track.terms("brief") is None
        assert list(track.crews()) == []
        assert track.run("run") is None
        assert track.subjects() == {}
        assert track.counts([WRITER]) == {WRITER: NO_TRIALS}

    def test_a_run_is_folded_into_its_crews_record(self, track: TrackRecord) -> None:
        """What add hands back is the pure fold of the reports, and it can be read again."""
        first = report("a", trial(), trial("critic", 0.25), outcome=1.0, usd=0.5, seconds=3.0)
        second = report("b", trial(grade=0.0), outcome=0.0, cost_adherence=0.5, at=101.0)
        expected = records.add(records.add(None, first, TERMS), second, TERMS)
        track.add(first, TERMS)
        assert track.add(second, TERMS) == expected
        assert track.crew("brief") == track.crew("brief", "1") == expected
        assert list(track.crews()) == [expected]

    def test_a_run_comes_back_as_it_was_reported(self, track: TrackRecord) -> None:
        """Every figure, every verdict with its time and reason; texts that break stores."""
        odd = Subject(AWKWARD, "p:m", AWKWARD, "v")
        given = report(
            AWKWARD,
            trial(),
            Trial(odd, AWKWARD, "", 1 / 3, "judge", AWKWARD, side="fallback"),
            crew=AWKWARD,
            outcome=0.1 + 0.2,
            usd=1e-9,
            seconds=0.25,
            cost_adherence=0.5,
            latency_adherence=1 / 3,
            via="workflow",
            shadow=True,
            faults=3,
            crew_grade=0.125,
            ended_by_fault=True,
            at=1e9 + 0.123456,
        )
        track.add(given, TERMS)
        kept = track.run(AWKWARD)
        assert kept is not None
        assert kept.report == given
        assert [(one.agent, one.grade, one.source, one.because, one.at) for one in kept.verdicts] == [
            ("writer", 1.0, "check", "looked at", given.at),
            (AWKWARD, 1 / 3, "judge", AWKWARD, given.at),
            (None, 0.1 + 0.2, "outcome", "", given.at),
        ]
        assert [one.subject for one in kept.verdicts] == [WRITER, odd, None]
        assert track.subjects() == {WRITER: Counts(1, 1.0), odd: Counts(1, 1 / 3)}

    def test_texts_that_are_no_utf8_are_kept_in_some_form(self, track: TrackRecord) -> None:
        """Lone surrogates lose neither the run nor its counts."""
        odd = Subject("r\ud800")
        track.add(report("run\udfff", Trial(odd, "a\ud800", "t", 1.0, "check", "\ud800"), crew="c\ud800"), TERMS)
        assert track.run("run\udfff") is not None
        assert track.crew("c\ud800") is not None
        assert track.counts([odd]) == {odd: Counts(1, 1.0)}

    def test_a_run_counts_once(self, track: TrackRecord) -> None:
        """Adding it again changes nothing, whatever the second report says."""
        record = track.add(report("a", trial(), outcome=1.0), TERMS)
        assert track.add(report("a", trial(grade=0.0), outcome=0.0), TERMS) == record
        assert track.crew("brief") == record
        assert track.subjects() == {WRITER: Counts(1, 1.0)}

    def test_subjects_are_shared_by_all_crews(self, track: TrackRecord) -> None:
        """One role, model, kind and version has one record, whoever it works for; another version has its own."""
        new, surer = replace(WRITER, version="v2"), replace(TERMS, confidence=0.99)
        track.add(report("a", trial(grade=0.5)), surer)
        track.add(report("b", trial(), Trial(new, "author", "t", 0.0, "check"), crew="other"), TERMS)
        assert track.counts([WRITER, new, CRITIC]) == {WRITER: Counts(2, 1.5), new: Counts(1, 0.0), CRITIC: NO_TRIALS}
        assert track.confidences() == dict.fromkeys((WRITER, new), TERMS.confidence)
        assert [record.crew for record in track.crews()] == ["brief", "other"]

    def test_each_version_of_a_crew_has_its_record(self, track: TrackRecord) -> None:
        """A new version begins from the one before; a late report of the old one goes to the old one's."""
        old = track.add(report("a", trial(), outcome=1.0), TERMS)
        first = report("b", trial(), version="2", outcome=1.0, at=200.0)
        new = track.add(first, TERMS)
        assert new == records.add(old, first, TERMS)
        late = report("c", trial(grade=0.0), outcome=0.0, at=201.0)
        assert track.add(late, TERMS) == records.add(old, late, TERMS)
        assert track.crew("brief", "2") == new
        assert track.crew("brief", "3") is None

    def test_the_latest_report_says_which_version_is_meant(self, track: TrackRecord) -> None:
        """By the order of the reports; a later verdict on an old version's run doesn't make it the latest."""
        track.add(report("a", trial(), outcome=1.0), TERMS)
        new = track.add(report("b", trial(), version="2", outcome=1.0), TERMS)
        track.outcome("a", 0.0)
        latest = track.crew("brief")
        assert latest is not None
        assert latest.version == new.version
        assert list(track.crews()) == [latest]

    def test_terms_are_those_of_the_latest_report(self, track: TrackRecord) -> None:
        """A structure stays until another one is given."""
        shape = Chain(
            (OneOf((Leaf("a"), Leaf("b"))), AnyOf((Leaf("critic"), Retry(Leaf("judge"), times=2)), judge=0.5))
        )
        track.add(report("a", trial()), TERMS, shape)
        track.add(report("b", trial()), replace(TERMS, confidence=0.9))
        terms = track.terms("brief")
        assert terms is not None
        assert terms.settings == replace(TERMS, confidence=0.9)
        assert terms.structure == shape

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"outcome": 1.7}, r"outcome is 1\.7.*0 to 1"),
            ({"outcome": float("nan")}, "outcome is nan"),
            ({"cost_adherence": -0.1}, "cost_adherence"),
            ({"usd": float("inf")}, "usd"),
            ({"trials": (trial(grade=2.0),)}, "'writer' on 'task_1' is 2.0"),
        ],
    )
    def test_figures_out_of_range_are_not_counted(self, track: TrackRecord, wrong: dict[str, Any], said: str) -> None:
        """The error names the run, the figure and what was expected; nothing is kept."""
        with pytest.raises(StoreError, match=said):
            track.add(replace(report("odd"), **wrong), TERMS)
        assert track.run("odd") is None
        assert track.crew("brief") is None

    def test_a_later_verdict_on_an_agent_replaces_the_weaker_one(self, track: TrackRecord) -> None:
        """Its subject's counts, its crew's record and the run's list of verdicts say so; the old one can be read."""
        before = track.add(report("a", trial(), trial("critic"), outcome=1.0), TERMS)
        record = track.outcome("a", 0.25, agent="writer", because="it was dull", at=500.0)
        after = Trial(WRITER, "writer", "task_1", 0.25, "person", "it was dull")
        assert record == records.revise(before, trial(), after, TERMS, report("a").at)
        assert track.crew("brief") == record
        assert track.subjects() == {WRITER: Counts(1, 0.25), CRITIC: Counts(1, 1.0)}
        kept = track.run("a")
        assert kept is not None
        assert kept.report.trials[0].grade == 1.0
        assert [(one.agent, one.grade) for one in kept.trials] == [("critic", 1.0), ("writer", 0.25)]
        assert [one.counts for one in kept.verdicts] == [False, True, True, True]
        assert (kept.verdicts[-1].source, kept.verdicts[-1].at) == ("person", 500.0)

    def test_a_later_verdict_on_a_run_is_its_outcome(self, track: TrackRecord) -> None:
        """Where nobody had judged it, and where a check had."""
        one = track.add(report("a"), TERMS)
        assert track.outcome("a", 1.0) == records.revise_outcome(one, report("a"), 1.0, TERMS)
        two = track.add(report("b", outcome=1.0), TERMS)
        record = track.outcome("b", 0.5, because="half of it")
        assert record == records.revise_outcome(two, report("b", outcome=1.0), 0.5, TERMS)
        assert record.end_to_end == Counts(2, 1.5)
        kept = track.run("b")
        assert kept is not None
        assert kept.outcome is not None
        assert (kept.outcome.grade, kept.outcome.source, kept.outcome.because) == (0.5, "person", "half of it")

    def test_a_later_verdict_counts_in_the_version_of_its_run(self, track: TrackRecord) -> None:
        """The crew and the subject have newer versions since: what is known of those doesn't change."""
        newer = replace(WRITER, version="v2")
        old = track.add(report("a", trial(), outcome=1.0), TERMS)
        new = track.add(report("b", replace(trial(), subject=newer), version="2", outcome=1.0), TERMS)
        track.outcome("a", 0.0, agent="writer")
        track.outcome("a", 0.0)
        revised, current = track.crew("brief", "1"), track.crew("brief", "2")
        assert revised is not None
        assert current is not None
        assert revised.end_to_end == Counts(1, 0.0)
        assert (current.streams, current.breaker) == (new.streams, new.breaker)
        assert (old.crew_runs.outcomes.good, new.crew_runs.outcomes.good) == (1.0, 1.0)
        assert (revised.crew_runs.outcomes.good, current.crew_runs.outcomes.good) == (0.0, 1.0)
        assert track.subjects() == {WRITER: Counts(1, 0.0), newer: Counts(1, 1.0)}

    def test_an_agent_that_goes_on_in_a_new_version_takes_its_later_verdicts_along(self, track: TrackRecord) -> None:
        """Where the new version's record went on from the old one, but not where the run reported afterwards."""
        track.add(report("a", trial(), outcome=1.0), TERMS)
        track.add(report("b", trial(), version="2", outcome=1.0), TERMS)
        track.add(report("late", trial(), outcome=1.0), TERMS)
        track.outcome("late", 0.0, agent="writer")
        track.outcome("a", 0.5, agent="writer")
        old, new = track.crew("brief", "1"), track.crew("brief", "2")
        assert old is not None
        assert new is not None
        assert old.streams[trial().stream].counts == Counts(2, 0.5)
        assert new.streams[trial().stream].counts == Counts(2, 1.5)

    def test_verdicts_that_belong_nowhere_are_errors(self, track: TrackRecord) -> None:
        """An unknown run, an agent without a trial, a second verdict, a grade out of range: each says what to do."""
        before = track.add(report("a", trial(), trial(task="task_2"), trial("critic"), outcome=1.0), TERMS)
        wrong: list[tuple[type[Exception], str, Callable[[], object]]] = [
            (StoreError, "'ghost' is not in the track record of ", lambda: track.outcome("ghost", 1.0)),
            (StoreError, "no trial of an agent 'editor'.*'writer', 'critic'", lambda: _of("editor")),
            (StoreError, r"several tasks.*'task_1', 'task_2'.*--task", lambda: _of("writer")),
            (StoreError, "no trial of a task 'x'", lambda: _of("writer", task="x")),
            (ConfigError, "0 .bad. to 1 .good., not 1.7", lambda: track.outcome("a", 1.7)),
            (ConfigError, "not nan", lambda: track.outcome("a", float("nan"))),
            (ConfigError, "'task_1' needs the agent", lambda: track.outcome("a", 1.0, task="task_1")),
        ]

        def _of(agent: str, **more: Any) -> object:
            return track.outcome("a", 0.0, agent=agent, **more)

        for kind, said, give in wrong:
            with pytest.raises(kind, match=said):
                give()
        assert track.crew("brief") == before

    def test_a_person_judges_a_thing_once(self, track: TrackRecord) -> None:
        """The second verdict is refused with the first one; each task is a thing of its own, so is the whole run."""
        track.add(report("a", trial(), trial(task="task_2"), trial("critic", source="person"), outcome=1.0), TERMS)
        track.outcome("a", 0.5, because="so so")
        record = track.outcome("a", 0.0, agent="writer", task="task_1")
        for agent, task, said in (
            (None, None, r"0\.5 \(so so\)"),
            ("writer", "task_1", "with 0:"),
            ("critic", None, "1"),
        ):
            with pytest.raises(StoreError, match=f"a person has judged.*{said}"):
                track.outcome("a", 1.0, agent=agent, task=task)
        assert track.crew("brief") == record
        track.outcome("a", 0.0, agent="writer", task="task_2")

    def test_an_agent_with_a_record_for_each_task_is_found_by_its_name(self, track: TrackRecord) -> None:
        """agent/task is the agent's, and is named by the agent, the task, or both."""
        parts = [trial("writer/draft", task="draft"), trial("writer/polish", task="polish")]
        track.add(report("a", *parts), TERMS)
        with pytest.raises(StoreError, match="several tasks"):
            track.outcome("a", 0.0, agent="writer")
        track.outcome("a", 0.0, agent="writer", task="draft")
        track.outcome("a", 0.5, agent="writer/polish")
        kept = track.run("a")
        assert kept is not None
        assert [(one.agent, one.grade) for one in kept.trials] == [("writer/draft", 0.0), ("writer/polish", 0.5)]

    def test_what_the_infrastructure_ended_is_no_outcome(self, track: TrackRecord) -> None:
        """A person can't make it one; what an agent had done can be judged."""
        track.add(report("a", trial(), faults=2, ended_by_fault=True), TERMS)
        with pytest.raises(StoreError, match=r"infrastructure.*no trial"):
            track.outcome("a", 0.0)
        track.outcome("a", 0.0, agent="writer")
        record = track.crew("brief")
        assert record is not None
        assert record.end_to_end == NO_TRIALS
        assert record.faults.counts.trials == 1

    def test_the_workflows_answer_is_no_outcome_of_the_crew(self, store: Store, track: TrackRecord) -> None:
        """The journal says who answered: a person who likes the fallback's answer has not judged the crew's work."""
        for run_id, via in (("a", "workflow"), ("b", "crew")):
            store.begin(run_id, started()).result(30)
            store.append(run_id, [RunEnded(2, 2.0, "done", via, output="x")]).result(30)  # type: ignore[arg-type]
            track.add(report(run_id, trial(grade=0.0)), TERMS)
        with pytest.raises(StoreError, match="came from its workflow"):
            track.outcome("a", 1.0)
        assert track.outcome("b", 1.0).end_to_end == Counts(1, 1.0)

    def test_a_crew_has_one_probe_at_a_time(self, track: TrackRecord) -> None:
        """The second is turned away until the first ends, or its time is over; other crews don't notice."""
        assert track.begin_probe("brief", "a", 10.0, now=5.0)
        assert not track.begin_probe("brief", "b", 20.0, now=9.9)
        assert track.begin_probe("other", "b", 20.0, now=9.9)
        assert track.begin_probe("brief", "a", 15.0, now=9.9)
        track.end_probe("brief", "b")
        assert not track.begin_probe("brief", "b", 20.0, now=14.0)
        assert track.begin_probe("brief", "b", 20.0, now=15.0)
        track.end_probe("brief", "a")
        assert not track.begin_probe("brief", "a", 30.0, now=16.0)
        track.end_probe("brief", "b")
        assert track.begin_probe("brief", "a", 30.0, now=16.0)

    def test_threads_may_add_at_once(self, track: TrackRecord) -> None:
        """Every run counts, once; of those that ask for the probe one gets it."""
        mine: list[bool] = []

        def work(number: int) -> None:
            mine.append(track.begin_probe("brief", f"probe{number}", 2e12))
            for run in range(10):
                track.add(report(f"{number}-{run}", trial(), trial("critic", run % 2), outcome=1.0), TERMS)
                track.add(report(f"shared-{run}", trial()), TERMS)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(mine) == [False] * 5 + [True]
        assert track.subjects() == {WRITER: Counts(70, 70.0), CRITIC: Counts(60, 30.0)}
        record = track.crew("brief")
        assert record is not None
        assert record.crew_runs.runs == 70
        assert record.end_to_end == Counts(60, 60.0)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["add", "agent", "whole"]),
                st.integers(0, 5),
                st.sampled_from(["1", "2"]),
                st.sampled_from([0.0, 0.5, 1.0]),
            ),
            max_size=25,
        )
    )
    def test_every_order_of_reports_and_verdicts_counts_what_stands(
        self, steps: list[tuple[str, int, str, float]]
    ) -> None:
        """Runs of two versions, added once or twice, judged before, after and again: the counts are the verdicts'."""
        with tempfile.TemporaryDirectory() as folder:
            store = self.make_store(Path(folder))
            track = store.track_record()
            versions: dict[str, str] = {}
            grades: dict[tuple[str, str], float] = {}
            judged: set[tuple[str, str]] = set()
            for what, number, version, grade in steps:
                run = f"run{number}"
                if what == "add":
                    record = track.add(report(run, trial(grade=grade), version=version, outcome=grade), TERMS)
                    if run not in versions:
                        versions[run] = version
                        grades[run, "agent"] = grades[run, "whole"] = grade
                elif run in versions and (run, what) not in judged:
                    record = track.outcome(run, grade, agent="writer" if what == "agent" else None)
                    judged.add((run, what))
                    grades[run, what] = grade
                else:
                    with pytest.raises(StoreError):
                        track.outcome(run, grade, agent="writer" if what == "agent" else None)
                    continue
                assert record == track.crew("brief", versions[run])
            for version in set(versions.values()):
                outcomes = [grades[run, "whole"] for run in versions if versions[run] == version]
                record = track.crew("brief", version)
                assert record is not None
                assert record.end_to_end == Counts(len(outcomes), sum(outcomes))
            expected = Counts(len(versions), sum(grades[run, "agent"] for run in versions))
            assert track.counts([WRITER]) == {WRITER: expected}
            store.close()
