"""The only reader of files and of the environment: policies, roles, crews, where data is kept."""

from __future__ import annotations

from crew_guard.config.crewai_files import load_crew_files
from crew_guard.config.crewai_sections import Named
from crew_guard.config.crews import load_crew, load_runnable
from crew_guard.config.files import load_role, read_input
from crew_guard.config.places import data_dir, environment, secrets, shipped_dir
from crew_guard.config.policies import load_policy, org_policy, under_org

__all__ = [
    "Named",
    "data_dir",
    "environment",
    "load_crew",
    "load_crew_files",
    "load_policy",
    "load_role",
    "load_runnable",
    "org_policy",
    "read_input",
    "secrets",
    "shipped_dir",
    "under_org",
]
