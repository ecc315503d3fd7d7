-- How a version of an app came about: a DeploymentType. A staged one is recorded and not in force.
ALTER TABLE app_versions ADD COLUMN kind INTEGER NOT NULL DEFAULT 1;

-- What was set on the workspace.
CREATE TABLE workspace_settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
