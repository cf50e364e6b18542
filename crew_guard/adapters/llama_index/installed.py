"""The packages of LlamaIndex that the adapter was written against."""

from __future__ import annotations

from crew_guard.adapters.versions import Supported

WORKFLOWS = Supported("llama-index-workflows", (2, 26), (3,), extra="llama-index")
CORE = Supported("llama-index-core", (0, 14), (0, 15), extra="llama-index")
"""Its models and agents; workflows work without it."""
