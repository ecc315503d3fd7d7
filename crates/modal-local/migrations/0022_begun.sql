-- Calls on files that have begun and whose answer is not written with what they do, for files know no transactions: what
-- they had found when they began, so that a repeated one goes on with it. Removed like answers.
CREATE TABLE begun (
    rpc TEXT NOT NULL,
    key TEXT NOT NULL,
    plan TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (rpc, key)
) WITHOUT ROWID;
CREATE INDEX begun_by_time ON begun (at);
