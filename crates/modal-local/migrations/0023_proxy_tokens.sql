-- Tokens for requests to web functions and servers that ask for proxy authentication. Times are seconds since 1970.
CREATE TABLE proxy_tokens (
    token_id    TEXT PRIMARY KEY,
    -- SHA-256 of the secret, which only its maker has been told.
    secret_hash BLOB NOT NULL,
    name        TEXT NOT NULL,
    -- Good for the environments named below alone.
    scoped      INTEGER NOT NULL,
    created_at  REAL NOT NULL
);

CREATE TABLE proxy_token_environments (
    token_id       TEXT NOT NULL REFERENCES proxy_tokens ON DELETE CASCADE,
    environment_id TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    PRIMARY KEY (token_id, environment_id)
);
