-- What sandboxes, functions and image builds print: a database file of its own, so that a chatty
-- program never holds up the records. Times are seconds since 1970.

-- A task, or an image build: what has a share of the room.
CREATE TABLE owners (
    owner_id      INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    -- What its blocks take, and what of them was dropped from the middle.
    bytes         INTEGER NOT NULL DEFAULT 0,
    dropped_bytes INTEGER NOT NULL DEFAULT 0,
    dropped_lines INTEGER NOT NULL DEFAULT 0,
    -- When it said that it appends no more.
    finished_at   REAL
);

-- Whom a line is of; empty where it does not apply.
CREATE TABLE sources (
    source_id   INTEGER PRIMARY KEY,
    owner_id    INTEGER NOT NULL REFERENCES owners,
    app_id      TEXT NOT NULL,
    task_id     TEXT NOT NULL,
    sandbox_id  TEXT NOT NULL,
    image_id    TEXT NOT NULL,
    function_id TEXT NOT NULL,
    variant_id  TEXT NOT NULL,
    call_id     TEXT NOT NULL,
    input_id    TEXT NOT NULL,
    UNIQUE (app_id, task_id, sandbox_id, image_id, function_id, variant_id, call_id, input_id)
);

CREATE INDEX sources_by_owner ON sources (owner_id);

-- Lines that came together. They are numbered through all blocks; the first of a block is
-- `last_entry - lines + 1`.
CREATE TABLE blocks (
    last_entry      INTEGER PRIMARY KEY,
    source_id       INTEGER NOT NULL REFERENCES sources,
    owner_id        INTEGER NOT NULL,
    file_descriptor INTEGER NOT NULL,
    at              REAL NOT NULL,
    lines           INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,
    -- Stands for what was dropped.
    is_gap          INTEGER NOT NULL DEFAULT 0,
    data            TEXT NOT NULL
);

CREATE INDEX blocks_by_owner ON blocks (owner_id, last_entry, lines, bytes, is_gap);
CREATE INDEX blocks_by_source ON blocks (source_id);
