"""Contract suites and doubles for those who write a part of crew_guard themselves.

A suite is a class of pytest tests: subclass it, make the part in the method it names, and run pytest.
"""
