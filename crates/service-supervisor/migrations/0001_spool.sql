-- Events on their way to Langfuse. `seq` is the order in which they came and in which they leave.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    refusals INTEGER NOT NULL DEFAULT 0
);
-- Ids of events that came before, delivered ones included.
CREATE TABLE seen (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE
);
-- What became of events since the database was made.
CREATE TABLE counts (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
