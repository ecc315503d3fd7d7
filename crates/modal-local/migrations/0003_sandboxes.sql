-- Sandboxes, live and ended. Times are seconds since 1970.

-- `status` is a `GenericResult.GenericStatus`; it is NULL while the sandbox lives. Values of
-- environment variables are not stored.
CREATE TABLE sandboxes (
    sandbox_id        TEXT PRIMARY KEY,
    task_id           TEXT NOT NULL UNIQUE,
    app_id            TEXT NOT NULL,
    environment_id    TEXT NOT NULL,
    image_id          TEXT NOT NULL,
    name              TEXT,
    timeout_secs      INTEGER NOT NULL,
    idle_timeout_secs INTEGER,
    created_at        REAL NOT NULL,
    started_at        REAL,
    ready_at          REAL,
    ended_at          REAL,
    status            INTEGER,
    exit_code         INTEGER,
    reason            TEXT
);

CREATE INDEX sandboxes_by_app ON sandboxes (app_id, created_at);
CREATE INDEX sandboxes_live ON sandboxes (created_at) WHERE ended_at IS NULL;

CREATE TABLE sandbox_tags (
    sandbox_id TEXT NOT NULL REFERENCES sandboxes ON DELETE CASCADE,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, name)
) WITHOUT ROWID;
