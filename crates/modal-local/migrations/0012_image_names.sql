-- Names of images, each publication one row: the newest is what the name means. Times are seconds since 1970.
CREATE TABLE image_names (
    revision       INTEGER PRIMARY KEY AUTOINCREMENT,
    environment_id TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    -- `name:tag`
    tag            TEXT NOT NULL,
    image_id       TEXT NOT NULL,
    created_at     REAL NOT NULL
);

CREATE INDEX image_names_by_tag ON image_names (environment_id, tag, revision);
