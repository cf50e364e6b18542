"""The doors between the rooms. Read this page, and the three behind it, first.

A Runtime runs a crew and does nothing but through a Gate: admit, act, settle. A Model answers
one request; a Workflow is the fixed path. A Store keeps the journal and the TrackRecord. An Observer is told.
"""

from crew_guard.ports.acting import (
    Attended,
    CallTerms,
    Continuing,
    Delegating,
    Described,
    Equippable,
    Gate,
    Means,
    Model,
    Recorded,
    Resuming,
    Runtime,
    RuntimeResult,
    Spoken,
    Tasked,
    TasksDone,
    ToolResult,
    Workflow,
)
from crew_guard.ports.content import Content, Guardrail, Guards
from crew_guard.ports.flowing import Flow, Taken
from crew_guard.ports.keeping import Clock, Flushed, Handle, Observer, RunSummary, Store
from crew_guard.ports.tracking import CrewTerms, KeptRun, KeptVerdict, TrackRecord

__all__ = [
    "Attended",
    "CallTerms",
    "Clock",
    "Content",
    "Continuing",
    "CrewTerms",
    "Delegating",
    "Described",
    "Equippable",
    "Flow",
    "Flushed",
    "Gate",
    "Guardrail",
    "Guards",
    "Handle",
    "KeptRun",
    "KeptVerdict",
    "Means",
    "Model",
    "Observer",
    "Recorded",
    "Resuming",
    "RunSummary",
    "Runtime",
    "RuntimeResult",
    "Spoken",
    "Store",
    "Taken",
    "Tasked",
    "TasksDone",
    "ToolResult",
    "TrackRecord",
    "Workflow",
]
