"""How reliable a crew is, how sure that is, and when to hand over: numbers in, numbers and reasons out.

A verdict is a Trial; trials make Counts; Counts and a Structure make an Estimate with honest bounds; a
CrewRecord folds RunReports into detectors and a Breaker. Randomness comes in as an argument.
"""
