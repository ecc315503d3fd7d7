-- Answers of calls that must not be done twice, written with what they did: a client that lost the answer to a kill of
-- the server sends the call again.
CREATE TABLE repeats (
    rpc TEXT NOT NULL,
    key TEXT NOT NULL,
    answer BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (rpc, key)
) WITHOUT ROWID;
CREATE INDEX repeats_by_time ON repeats (at);
