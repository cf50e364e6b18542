"""The pure core: values, decisions and folds.

Nothing here does I/O, awaits, reads a clock, draws randomness or raises a refusal.
Everything that a run does is decided here and acted on elsewhere.
"""
