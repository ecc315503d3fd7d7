-- Objects of the control plane. Times are seconds since 1970.

CREATE TABLE environments (
    environment_id TEXT PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    settings       TEXT NOT NULL,
    created_at     REAL NOT NULL
);

-- `name` is NULL for anonymous and ephemeral objects; `app_id` owns anonymous ones;
-- `expires_at` is pushed back by heartbeats of ephemeral ones.
CREATE TABLE secrets (
    secret_id      TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    name           TEXT,
    key_names      TEXT NOT NULL,
    app_id         TEXT,
    created_at     REAL NOT NULL,
    last_used_at   REAL,
    expires_at     REAL,
    UNIQUE (environment_id, name)
);

CREATE TABLE volumes (
    volume_id      TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    name           TEXT,
    version        INTEGER NOT NULL,
    app_id         TEXT,
    created_at     REAL NOT NULL,
    expires_at     REAL,
    UNIQUE (environment_id, name)
);

CREATE TABLE apps (
    app_id         TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    name           TEXT,
    description    TEXT NOT NULL,
    state          INTEGER NOT NULL,
    created_at     REAL NOT NULL,
    deployed_at    REAL,
    stopped_at     REAL,
    expires_at     REAL
);

-- A name belongs to one app at a time; stopped apps keep theirs for history.
CREATE UNIQUE INDEX apps_by_name ON apps (environment_id, name) WHERE name IS NOT NULL AND stopped_at IS NULL;

CREATE TABLE mounts (
    mount_id       TEXT PRIMARY KEY,
    environment_id TEXT REFERENCES environments ON DELETE CASCADE,
    name           TEXT,
    checksum       TEXT NOT NULL,
    app_id         TEXT,
    created_at     REAL NOT NULL,
    expires_at     REAL
);

CREATE UNIQUE INDEX mounts_by_name ON mounts (ifnull(environment_id, ''), name) WHERE name IS NOT NULL;

CREATE TABLE mount_files (
    mount_id   TEXT NOT NULL REFERENCES mounts ON DELETE CASCADE,
    filename   TEXT NOT NULL,
    sha256_hex TEXT NOT NULL,
    mode       INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    PRIMARY KEY (mount_id, filename)
) WITHOUT ROWID;

CREATE INDEX mount_files_by_hash ON mount_files (sha256_hex);

CREATE TABLE blobs (
    blob_id    TEXT PRIMARY KEY,
    sha256_hex TEXT,
    length     INTEGER NOT NULL,
    parts      INTEGER NOT NULL,
    created_at REAL NOT NULL
);

CREATE TABLE logs (
    entry           INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id          TEXT NOT NULL,
    task_id         TEXT NOT NULL,
    sandbox_id      TEXT NOT NULL,
    image_id        TEXT NOT NULL,
    file_descriptor INTEGER NOT NULL,
    timestamp       REAL NOT NULL,
    data            TEXT NOT NULL
);

CREATE INDEX logs_by_time ON logs (timestamp);
CREATE INDEX logs_by_task ON logs (task_id);

-- Tasks that will write no more log lines.
CREATE TABLE finished_tasks (
    task_id     TEXT PRIMARY KEY,
    finished_at REAL NOT NULL
) WITHOUT ROWID;

-- Recipes to use instead of others, as registered by a client of the admin interface.
CREATE TABLE substitutions (
    matches     TEXT PRIMARY KEY,
    replacement TEXT NOT NULL,
    reason      TEXT NOT NULL,
    created_at  REAL NOT NULL
);
