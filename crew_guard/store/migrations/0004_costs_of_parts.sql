-- What a run cost by part of its crew, as a JSON object of US dollars.
ALTER TABLE judged_runs ADD COLUMN costs TEXT NOT NULL DEFAULT '{}';
