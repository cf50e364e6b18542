PRAGMA application_id = 0x63726777;
CREATE TABLE migrations (
    number  INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    applied REAL NOT NULL
);
CREATE TABLE runs (
    run_id  TEXT NOT NULL PRIMARY KEY,
    crew    TEXT NOT NULL,
    runtime TEXT NOT NULL,
    policy  TEXT NOT NULL,
    format  INTEGER NOT NULL,
    started REAL NOT NULL,
    ended   REAL,
    status  TEXT NOT NULL,
    via     TEXT
);
CREATE INDEX runs_by_start ON runs (started);
CREATE TABLE events (
    run_id TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    at     REAL NOT NULL,
    type   TEXT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
