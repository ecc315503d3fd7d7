-- Sandboxes that go on in another one from the file system that the last one left. Times are seconds since 1970.
CREATE TABLE persistent_sandboxes (
    persistent_sandbox_id TEXT PRIMARY KEY,
    -- A `SandboxCreateV2Request`, without any value of a secret.
    definition            BLOB NOT NULL,
    -- What the next sandbox of it begins with.
    image_id              TEXT NOT NULL,
    -- The sandbox that runs, or ran last.
    sandbox_id            TEXT NOT NULL,
    created_at            REAL NOT NULL,
    terminated_at         REAL
);
