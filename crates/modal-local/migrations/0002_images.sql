-- Images: what they are made of, and how their build ended.

CREATE TABLE images (
    image_id        TEXT PRIMARY KEY,
    -- Hash of the definition: the newest image with it is the answer to the same definition.
    definition_hash TEXT NOT NULL,
    -- JSON. Secrets by id and names, never by value.
    definition      TEXT NOT NULL,
    -- building | built | failed. `building` without a live build: the server was killed; done again.
    status          TEXT NOT NULL,
    -- Why it failed, for people.
    exception       TEXT,
    -- JSON: layers, configuration, substitutions of a built image.
    built           TEXT,
    created_at      REAL NOT NULL,
    finished_at     REAL
);

CREATE INDEX images_by_definition ON images (definition_hash, created_at);
