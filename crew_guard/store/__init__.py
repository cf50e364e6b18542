"""Journals of runs, behind the Store port: in memory, or in one SQLite file.

One contract holds for every backend: `crew_guard.testing.store_contract`.
"""
