-- What was judged. These rows are the truth: the folded records below can be made from them again.
CREATE TABLE judged_runs (
    number            INTEGER PRIMARY KEY,
    run_id            TEXT NOT NULL UNIQUE,
    crew              TEXT NOT NULL,
    version           TEXT NOT NULL,
    at                REAL NOT NULL,
    via               TEXT NOT NULL,
    shadow            INTEGER NOT NULL,
    usd               REAL NOT NULL,
    seconds           REAL NOT NULL,
    cost_adherence    REAL NOT NULL,
    latency_adherence REAL NOT NULL,
    faults            INTEGER NOT NULL,
    ended_by_fault    INTEGER NOT NULL,
    crew_grade        REAL
);
CREATE INDEX judged_runs_by_crew ON judged_runs (crew, number);
CREATE INDEX judged_runs_by_version ON judged_runs (crew, version, number);
-- A verdict on one agent's task; without an agent it is on the outcome of the whole run.
-- `after` is the newest run when a later verdict came, and null for what came with the run itself.
CREATE TABLE trials (
    number      INTEGER PRIMARY KEY,
    run         INTEGER NOT NULL,
    agent       TEXT,
    task        TEXT NOT NULL,
    role        TEXT NOT NULL,
    model       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    version     TEXT NOT NULL,
    grade       REAL NOT NULL,
    source      TEXT NOT NULL,
    at          REAL NOT NULL,
    because     TEXT NOT NULL,
    side        TEXT NOT NULL,
    after       INTEGER,
    replaced_by INTEGER
);
CREATE INDEX trials_by_run ON trials (run, number);
-- Trials by whose they are, whatever the crew.
CREATE TABLE subjects (
    role       TEXT NOT NULL,
    model      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    version    TEXT NOT NULL,
    trials     INTEGER NOT NULL,
    good       REAL NOT NULL,
    confidence REAL NOT NULL,
    lower      REAL NOT NULL,
    upper      REAL NOT NULL,
    tier       TEXT NOT NULL,
    updated    REAL NOT NULL,
    PRIMARY KEY (role, model, kind, version)
) WITHOUT ROWID;
-- Beside the folded record what views show of it: the crew's own end-to-end outcomes.
CREATE TABLE crew_records (
    crew       TEXT NOT NULL,
    version    TEXT NOT NULL,
    format     INTEGER NOT NULL,
    body       TEXT NOT NULL,
    settings   TEXT NOT NULL,
    structure  TEXT,
    last_run   INTEGER NOT NULL,
    updated    REAL NOT NULL,
    breaker    TEXT NOT NULL,
    judged     INTEGER NOT NULL,
    good       REAL NOT NULL,
    confidence REAL NOT NULL,
    lower      REAL NOT NULL,
    upper      REAL NOT NULL,
    tier       TEXT NOT NULL,
    PRIMARY KEY (crew, version)
) WITHOUT ROWID;
-- By path: the runs that the crew finished, those that its workflow finished, and all of them, good where the crew was.
CREATE TABLE scores (
    crew        TEXT NOT NULL,
    version     TEXT NOT NULL,
    path        TEXT NOT NULL,
    runs        INTEGER NOT NULL,
    judged      INTEGER NOT NULL,
    good        REAL NOT NULL,
    faults      INTEGER NOT NULL,
    usd         REAL NOT NULL,
    seconds     REAL NOT NULL,
    score       REAL,
    score_lower REAL,
    score_upper REAL,
    PRIMARY KEY (crew, version, path)
) WITHOUT ROWID;
CREATE TABLE probes (
    crew   TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    until  REAL NOT NULL
) WITHOUT ROWID;
CREATE VIEW reliability_of_crews AS
SELECT
    crew, version, judged, good, CASE WHEN judged > 0 THEN good / judged END AS rate, lower, upper, confidence, tier,
    (SELECT score FROM scores WHERE scores.crew = one.crew AND scores.version = one.version AND path = 'all') AS score,
    breaker,
    last_run = max(last_run) OVER (PARTITION BY crew) AS newest,
    datetime(updated, 'unixepoch') AS updated
FROM crew_records AS one;
CREATE VIEW reliability_scores AS
SELECT
    crew, version, path, runs, judged, good, CASE WHEN judged > 0 THEN good / judged END AS rate,
    score, score_lower, score_upper, faults,
    CASE WHEN runs > 0 THEN usd / runs END AS usd_a_run,
    CASE WHEN runs > 0 THEN seconds / runs END AS seconds_a_run
FROM scores;
CREATE VIEW reliability_of_agents AS
SELECT
    role, model, kind, version, trials, good, good / trials AS rate, lower, upper, confidence, tier,
    datetime(updated, 'unixepoch') AS updated
FROM subjects WHERE trials > 0;
CREATE VIEW verdicts AS
SELECT
    run_id, crew, judged_runs.version AS crew_version, via, shadow, agent, task, role, model, kind,
    trials.version AS version, grade, source, datetime(trials.at, 'unixepoch') AS at, because,
    replaced_by IS NULL AS counts
FROM trials JOIN judged_runs ON judged_runs.number = trials.run;
