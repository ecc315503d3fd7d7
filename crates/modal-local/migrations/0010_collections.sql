-- Dicts and queues. Times are seconds since 1970.

-- `kind` is `dict` or `queue`; `name` is NULL for ephemeral ones, which end at `expires_at` unless a
-- heartbeat pushes it back.
CREATE TABLE collections (
    collection_id  TEXT PRIMARY KEY,
    kind           TEXT NOT NULL,
    environment_id TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    name           TEXT,
    created_at     REAL NOT NULL,
    expires_at     REAL,
    UNIQUE (kind, environment_id, name)
);

-- Keys and values are what the SDK made of them: opaque bytes.
CREATE TABLE dict_entries (
    dict_id TEXT NOT NULL REFERENCES collections ON DELETE CASCADE,
    key     BLOB NOT NULL,
    value   BLOB NOT NULL,
    used_at REAL NOT NULL,
    PRIMARY KEY (dict_id, key)
);

CREATE INDEX dict_entries_by_use ON dict_entries (used_at);

-- `entry` never repeats, also after items are taken: readers that iterate remember the last one.
CREATE TABLE queue_items (
    entry     INTEGER PRIMARY KEY AUTOINCREMENT,
    queue_id  TEXT NOT NULL REFERENCES collections ON DELETE CASCADE,
    partition BLOB NOT NULL,
    value     BLOB NOT NULL
);

CREATE INDEX queue_items_in_order ON queue_items (queue_id, partition, entry);

CREATE TABLE queue_partitions (
    queue_id   TEXT NOT NULL REFERENCES collections ON DELETE CASCADE,
    partition  BLOB NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (queue_id, partition)
) WITHOUT ROWID;

CREATE INDEX queue_partitions_by_end ON queue_partitions (expires_at);
