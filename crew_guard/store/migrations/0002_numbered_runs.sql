ALTER TABLE runs RENAME TO old_runs;
ALTER TABLE events RENAME TO old_events;
DROP INDEX runs_by_start;
CREATE TABLE runs (
    number  INTEGER PRIMARY KEY,
    run_id  TEXT NOT NULL UNIQUE,
    crew    TEXT NOT NULL,
    runtime TEXT NOT NULL,
    policy  TEXT NOT NULL,
    format  INTEGER NOT NULL,
    started REAL NOT NULL,
    ended   REAL,
    status  TEXT NOT NULL,
    via     TEXT
);
INSERT INTO runs (run_id, crew, runtime, policy, format, started, ended, status, via)
SELECT run_id, crew, runtime, policy, format, started, ended, status, via FROM old_runs ORDER BY rowid;
CREATE INDEX runs_by_start ON runs (started);
-- In the order of arrival, found by a small index: events of a thousand runs share the pages of one commit.
CREATE TABLE events (
    run  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    at   REAL NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (run, seq)
);
INSERT INTO events (run, seq, at, type, body)
SELECT number, seq, at, type, body FROM old_events JOIN runs USING (run_id) ORDER BY number, seq;
DROP TABLE old_events;
DROP TABLE old_runs;
