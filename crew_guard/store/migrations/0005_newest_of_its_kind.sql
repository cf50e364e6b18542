-- A workflow that runs by itself is no version of the crew that has its name: each has a newest one.
DROP VIEW reliability_of_crews;
CREATE VIEW reliability_of_crews AS
SELECT
    crew, version, judged, good, CASE WHEN judged > 0 THEN good / judged END AS rate, lower, upper, confidence, tier,
    (SELECT score FROM scores WHERE scores.crew = one.crew AND scores.version = one.version AND path = 'all') AS score,
    breaker,
    last_run = max(last_run) OVER (PARTITION BY crew, substr(version, 1, 9) = 'workflow-') AS newest,
    datetime(updated, 'unixepoch') AS updated
FROM crew_records AS one;
