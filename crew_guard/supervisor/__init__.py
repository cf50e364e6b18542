"""One run's life and its gate: the engine behind the public Supervisor.

The gate decides under a lock, records, and only then lets anyone act; the life of a run sets
its deadlines, reads its latches and, where the crew did not do the job, runs the workflow.
"""
