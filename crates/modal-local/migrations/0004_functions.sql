-- Functions, what is deployed, calls. Times are seconds since 1970; protobuf messages as blobs.

-- A function keeps its id when its app is deployed again. A variant is a function with parameters or
-- other options: `base_id` names the one it is made of.
CREATE TABLE functions (
    function_id       TEXT PRIMARY KEY,
    app_id            TEXT NOT NULL,
    name              TEXT NOT NULL,
    base_id           TEXT,
    -- Hash of parameters and options: the same ones are the same variant.
    variant           TEXT,
    serialized_params BLOB NOT NULL,
    -- FunctionOptions.
    options           BLOB NOT NULL,
    -- FunctionPrecreateRequest: what handles say before there is a definition.
    announced         BLOB NOT NULL,
    -- The definition in use; of a variant, that of its base.
    definition_id     TEXT,
    -- AutoscalerSettings that override the definition's, until the next deployment.
    autoscaler        BLOB NOT NULL,
    created_at        REAL NOT NULL,
    UNIQUE (base_id, variant)
);

CREATE INDEX functions_by_app ON functions (app_id, name);

-- FunctionData. Kept for every deployment, so that one can go back.
CREATE TABLE function_definitions (
    definition_id TEXT PRIMARY KEY,
    function_id   TEXT NOT NULL,
    data          BLOB NOT NULL,
    created_at    REAL NOT NULL
);

CREATE INDEX definitions_by_function ON function_definitions (function_id, created_at);

CREATE TABLE classes (
    class_id   TEXT PRIMARY KEY,
    app_id     TEXT NOT NULL,
    created_at REAL NOT NULL
);

-- Each publication of an app. `layout` is JSON: names to ids of functions and classes, ids to definitions.
CREATE TABLE app_versions (
    app_id           TEXT NOT NULL,
    version          INTEGER NOT NULL,
    layout           TEXT NOT NULL,
    client_version   TEXT NOT NULL,
    deployed_at      REAL NOT NULL,
    tag              TEXT NOT NULL,
    rollback_version INTEGER NOT NULL,
    -- CommitInfo, or empty.
    commit_info      BLOB NOT NULL,
    PRIMARY KEY (app_id, version)
) WITHOUT ROWID;

CREATE TABLE app_tags (
    app_id TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (app_id, name)
) WITHOUT ROWID;

CREATE TABLE function_calls (
    call_id         TEXT PRIMARY KEY,
    function_id     TEXT NOT NULL,
    app_id          TEXT NOT NULL,
    -- FunctionCallType and FunctionCallInvocationType.
    kind            INTEGER NOT NULL,
    invocation      INTEGER NOT NULL,
    parent_input_id TEXT NOT NULL,
    -- Whether this server tries failed inputs again; otherwise the client asks for it.
    retries_here    INTEGER NOT NULL,
    created_at      REAL NOT NULL,
    cancelled_at    REAL
);

CREATE INDEX calls_by_function ON function_calls (function_id, created_at);

CREATE TABLE function_inputs (
    input_id    TEXT PRIMARY KEY,
    call_id     TEXT NOT NULL REFERENCES function_calls ON DELETE CASCADE,
    function_id TEXT NOT NULL,
    idx         INTEGER NOT NULL,
    -- FunctionInput; emptied when the input is finished.
    input       BLOB NOT NULL,
    -- Counts the attempts, from 0; a retry has the next.
    attempt     INTEGER NOT NULL,
    -- GenericStatus of its end; NULL until then.
    status      INTEGER,
    task_id     TEXT NOT NULL,
    created_at  REAL NOT NULL,
    started_at  REAL,
    finished_at REAL
);

CREATE INDEX inputs_by_call ON function_inputs (call_id, idx);
CREATE INDEX inputs_pending ON function_inputs (function_id, created_at) WHERE status IS NULL;

CREATE TABLE function_outputs (
    entry      INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id    TEXT NOT NULL REFERENCES function_calls ON DELETE CASCADE,
    idx        INTEGER NOT NULL,
    -- FunctionGetOutputsItem.
    item       BLOB NOT NULL,
    created_at REAL NOT NULL
);

CREATE INDEX outputs_by_call ON function_outputs (call_id, entry);

-- What generators have yielded.
CREATE TABLE function_chunks (
    call_id TEXT NOT NULL REFERENCES function_calls ON DELETE CASCADE,
    idx     INTEGER NOT NULL,
    -- DataChunk.
    chunk   BLOB NOT NULL,
    PRIMARY KEY (call_id, idx)
) WITHOUT ROWID;

CREATE TABLE function_tasks (
    task_id     TEXT PRIMARY KEY,
    function_id TEXT NOT NULL,
    app_id      TEXT NOT NULL,
    enqueued_at REAL NOT NULL,
    started_at  REAL,
    finished_at REAL,
    -- GenericStatus and a sentence.
    status      INTEGER,
    reason      TEXT
);

CREATE INDEX tasks_by_app ON function_tasks (app_id, enqueued_at);

-- The loopback port of each web function. `label` is what the function is called, so that one
-- deployed anew after a stop gets its port back.
CREATE TABLE web_endpoints (
    function_id TEXT NOT NULL,
    method      TEXT NOT NULL,
    label       TEXT NOT NULL,
    port        INTEGER NOT NULL,
    created_at  REAL NOT NULL,
    PRIMARY KEY (function_id, method)
) WITHOUT ROWID;

CREATE INDEX web_endpoints_by_label ON web_endpoints (label, created_at);

-- When a scheduled function was last called.
CREATE TABLE function_schedules (
    function_id TEXT PRIMARY KEY,
    fired_at    REAL NOT NULL
) WITHOUT ROWID;

ALTER TABLE logs ADD COLUMN function_id TEXT NOT NULL DEFAULT '';
ALTER TABLE logs ADD COLUMN variant_id TEXT NOT NULL DEFAULT '';
ALTER TABLE logs ADD COLUMN call_id TEXT NOT NULL DEFAULT '';
ALTER TABLE logs ADD COLUMN input_id TEXT NOT NULL DEFAULT '';
