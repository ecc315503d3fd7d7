-- The file on the volume that has an event, if events outlive the container.
ALTER TABLE events ADD COLUMN file TEXT;
-- When Langfuse took it, in seconds since 1970; it stays a while, in case that Langfuse loses what it took.
ALTER TABLE events ADD COLUMN delivered INTEGER;
-- 1 where it is handed on once more: it was counted the first time.
ALTER TABLE events ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
CREATE INDEX events_by_file ON events (file);
-- The name of this database among those that have written to the volume.
CREATE TABLE writer (name TEXT NOT NULL);
INSERT INTO writer (name) VALUES (lower(hex(randomblob(8))));
