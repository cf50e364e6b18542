"""Descriptions of jobs for the advisor: what is read, and every problem of a file at once."""

from __future__ import annotations

from pathlib import Path

from crew_guard.config.document import Scalar
from crew_guard.config.files import as_error, problems_of, read_document
from crew_guard.config.places import as_path
from crew_guard.config.schema import build
from crew_guard.core.reliability.jobs import JobDescription, faults


def load_job(file: str | Path) -> JobDescription:
    """The job that a YAML file describes: docs/advisor.md has its keys.

    Args:
        file: its path
    Raises:
        ConfigError: it can't be read or is wrong: one line for each thing that is
    """
    path = as_path(str(file))
    document = read_document(path, "the steps of a job")
    job = build(document, JobDescription, {"name": Scalar(path.stem, "text")})
    if job is not None:
        for fault in faults(job):
            document.problem(fault.key, fault.message)
    problems = problems_of(path, document)
    if job is None or problems:
        raise as_error(problems)
    return job
