-- The trials that a run was to make, as they are where nothing became of them, so that whoever closes
-- a run whose process was killed knows what is missing.
CREATE TABLE planned (
    run_id  TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    task    TEXT NOT NULL,
    variant TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (run_id, task, variant, epoch)
) STRICT;
