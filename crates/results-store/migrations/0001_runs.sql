-- Runs, trials, attempts and artifacts. `record` holds the whole value as JSON; the other columns are
-- what lists and filters ask for.
CREATE TABLE runs (
    id           TEXT PRIMARY KEY NOT NULL,
    started_at   TEXT NOT NULL,
    finished_at  TEXT,
    target       TEXT NOT NULL,
    model        TEXT NOT NULL,
    model_source TEXT NOT NULL,
    total_trials INTEGER NOT NULL,
    record       TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_start ON runs (started_at DESC);

CREATE TABLE trials (
    run_id    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    task      TEXT NOT NULL,
    variant   TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    outcome   TEXT NOT NULL,
    score     REAL,
    elapsed_s REAL NOT NULL,
    record    TEXT NOT NULL,
    PRIMARY KEY (run_id, task, variant, epoch)
) STRICT;

-- Written when a sandbox exists, closed when its attempt ended: what is open belongs to a run that
-- was killed, or to one that is still going on.
CREATE TABLE attempts (
    run_id     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    task       TEXT NOT NULL,
    variant    TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    sandbox    TEXT NOT NULL,
    started_at TEXT NOT NULL,
    outcome    TEXT,
    PRIMARY KEY (run_id, task, variant, epoch, number)
) STRICT;

CREATE TABLE artifacts (
    run_id   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    location TEXT NOT NULL,
    size     INTEGER NOT NULL,
    PRIMARY KEY (run_id, location)
) STRICT;
