-- Snapshots are images that no recipe makes: unless asked to stay, they end. Times are seconds since 1970.
ALTER TABLE images ADD COLUMN expires_at REAL;

-- Sandboxes that leave a snapshot when they end. Without image and error it is still to come.
CREATE TABLE exit_snapshots (
    sandbox_id TEXT PRIMARY KEY REFERENCES sandboxes ON DELETE CASCADE,
    image_id   TEXT,
    error      TEXT
) WITHOUT ROWID;
