-- Langfuse 2.95's tables, as far as they are kept here: the same names, columns, types and enums, so that SQL and
-- dumps work on both. Everything is made only where it is missing: on a database that Langfuse 2 migrated, nothing
-- changes.

DO $$ BEGIN CREATE TYPE "ObservationType" AS ENUM ('SPAN', 'EVENT', 'GENERATION');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE "ObservationLevel" AS ENUM ('DEBUG', 'DEFAULT', 'WARNING', 'ERROR');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE "ScoreSource" AS ENUM ('ANNOTATION', 'API', 'EVAL');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE "ScoreDataType" AS ENUM ('CATEGORICAL', 'NUMERIC', 'BOOLEAN');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE "DatasetStatus" AS ENUM ('ACTIVE', 'ARCHIVED');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE "Role" AS ENUM ('OWNER', 'ADMIN', 'MEMBER', 'VIEWER', 'NONE');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE TABLE IF NOT EXISTS organizations (
    id text PRIMARY KEY,
    name text NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    cloud_config jsonb
);

CREATE TABLE IF NOT EXISTS projects (
    id text PRIMARY KEY,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    name text NOT NULL,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    org_id text NOT NULL REFERENCES organizations (id) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS users (
    id text PRIMARY KEY,
    name text,
    email text UNIQUE,
    email_verified timestamp(3),
    password text,
    image text,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    feature_flags text[] DEFAULT ARRAY[]::text[],
    admin boolean NOT NULL DEFAULT false
);

CREATE TABLE IF NOT EXISTS organization_memberships (
    id text PRIMARY KEY,
    org_id text NOT NULL REFERENCES organizations (id) ON UPDATE CASCADE ON DELETE CASCADE,
    user_id text NOT NULL REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    role "Role" NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (org_id, user_id)
);

CREATE TABLE IF NOT EXISTS api_keys (
    id text PRIMARY KEY,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    note text,
    public_key text NOT NULL UNIQUE,
    hashed_secret_key text NOT NULL UNIQUE,
    display_secret_key text NOT NULL,
    last_used_at timestamp(3),
    expires_at timestamp(3),
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    fast_hashed_secret_key text UNIQUE
);

CREATE TABLE IF NOT EXISTS trace_sessions (
    id text NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    bookmarked boolean NOT NULL DEFAULT false,
    public boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, project_id)
);
CREATE INDEX IF NOT EXISTS trace_sessions_project_id_created_at_idx
    ON trace_sessions (project_id, created_at DESC);

CREATE TABLE IF NOT EXISTS traces (
    id text PRIMARY KEY,
    timestamp timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    name text,
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    metadata jsonb,
    external_id text,
    user_id text,
    release text,
    version text,
    public boolean NOT NULL DEFAULT false,
    bookmarked boolean NOT NULL DEFAULT false,
    input jsonb,
    output jsonb,
    session_id text,
    tags text[] DEFAULT ARRAY[]::text[],
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS traces_project_id_timestamp_idx ON traces (project_id, timestamp);
CREATE INDEX IF NOT EXISTS traces_session_id_idx ON traces (session_id);

CREATE TABLE IF NOT EXISTS observations (
    id text PRIMARY KEY,
    name text,
    start_time timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    end_time timestamp(3),
    parent_observation_id text,
    type "ObservationType" NOT NULL,
    trace_id text,
    metadata jsonb,
    model text,
    "modelParameters" jsonb,
    input jsonb,
    output jsonb,
    level "ObservationLevel" NOT NULL DEFAULT 'DEFAULT',
    status_message text,
    completion_start_time timestamp(3),
    completion_tokens integer NOT NULL DEFAULT 0,
    prompt_tokens integer NOT NULL DEFAULT 0,
    total_tokens integer NOT NULL DEFAULT 0,
    version text,
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    unit text,
    prompt_id text,
    input_cost numeric(65, 30),
    output_cost numeric(65, 30),
    total_cost numeric(65, 30),
    internal_model text,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    calculated_input_cost numeric(65, 30),
    calculated_output_cost numeric(65, 30),
    calculated_total_cost numeric(65, 30),
    internal_model_id text
);
CREATE INDEX IF NOT EXISTS observations_trace_id_project_id_start_time_idx
    ON observations (trace_id, project_id, start_time);
CREATE INDEX IF NOT EXISTS observations_project_id_start_time_type_idx
    ON observations (project_id, start_time, type);

CREATE TABLE IF NOT EXISTS scores (
    id text PRIMARY KEY,
    timestamp timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    name text NOT NULL,
    value double precision,
    observation_id text,
    trace_id text NOT NULL,
    comment text,
    source "ScoreSource" NOT NULL,
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    author_user_id text,
    config_id text,
    data_type "ScoreDataType" NOT NULL DEFAULT 'NUMERIC',
    string_value text,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    queue_id text
);
CREATE UNIQUE INDEX IF NOT EXISTS scores_id_project_id_key ON scores (id, project_id);
CREATE INDEX IF NOT EXISTS scores_trace_id_idx ON scores (trace_id);
CREATE INDEX IF NOT EXISTS scores_project_id_timestamp_idx ON scores (project_id, timestamp);

CREATE TABLE IF NOT EXISTS models (
    id text PRIMARY KEY,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    project_id text REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    model_name text NOT NULL,
    match_pattern text NOT NULL,
    start_date timestamp(3),
    input_price numeric(65, 30),
    output_price numeric(65, 30),
    total_price numeric(65, 30),
    unit text,
    tokenizer_config jsonb,
    tokenizer_id text
);

CREATE TABLE IF NOT EXISTS datasets (
    id text NOT NULL,
    name text NOT NULL,
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    description text,
    metadata jsonb,
    PRIMARY KEY (id, project_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS datasets_project_id_name_key ON datasets (project_id, name);

CREATE TABLE IF NOT EXISTS dataset_items (
    id text NOT NULL,
    input jsonb,
    expected_output jsonb,
    source_observation_id text,
    dataset_id text NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    status "DatasetStatus" NOT NULL DEFAULT 'ACTIVE',
    source_trace_id text,
    metadata jsonb,
    project_id text NOT NULL,
    PRIMARY KEY (id, project_id)
);
CREATE INDEX IF NOT EXISTS dataset_items_dataset_id_idx ON dataset_items (dataset_id);

CREATE TABLE IF NOT EXISTS dataset_runs (
    id text NOT NULL,
    name text NOT NULL,
    dataset_id text NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata jsonb,
    description text,
    project_id text NOT NULL,
    PRIMARY KEY (id, project_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS dataset_runs_dataset_id_project_id_name_key
    ON dataset_runs (dataset_id, project_id, name);

CREATE TABLE IF NOT EXISTS dataset_run_items (
    id text NOT NULL,
    dataset_run_id text NOT NULL,
    dataset_item_id text NOT NULL,
    observation_id text,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    trace_id text NOT NULL,
    project_id text NOT NULL,
    PRIMARY KEY (id, project_id)
);
CREATE INDEX IF NOT EXISTS dataset_run_items_dataset_run_id_idx ON dataset_run_items (dataset_run_id);

CREATE TABLE IF NOT EXISTS prompts (
    id text PRIMARY KEY,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    project_id text NOT NULL REFERENCES projects (id) ON UPDATE CASCADE ON DELETE CASCADE,
    created_by text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    is_active boolean,
    config jsonb NOT NULL DEFAULT '{}',
    prompt jsonb NOT NULL,
    type text NOT NULL DEFAULT 'text',
    tags text[] DEFAULT ARRAY[]::text[],
    labels text[] DEFAULT ARRAY[]::text[],
    commit_message text
);
CREATE UNIQUE INDEX IF NOT EXISTS prompts_project_id_name_version_key
    ON prompts (project_id, name, version);

DO $$ BEGIN
    IF to_regclass('traces_view') IS NULL THEN
        CREATE VIEW traces_view AS
        SELECT t.*, spans.duration
        FROM traces t
        LEFT JOIN LATERAL (
            SELECT EXTRACT(EPOCH FROM max(coalesce(o.end_time, o.start_time)) - min(o.start_time))::double precision
                AS duration
            FROM observations o WHERE o.trace_id = t.id AND o.project_id = t.project_id
        ) spans ON true;
    END IF;
    IF to_regclass('observations_view') IS NULL THEN
        CREATE VIEW observations_view AS
        SELECT o.id, o.name, o.start_time, o.end_time, o.parent_observation_id, o.type, o.trace_id, o.metadata,
            o.model, o."modelParameters", o.input, o.output, o.level, o.status_message, o.completion_start_time,
            o.completion_tokens, o.prompt_tokens, o.total_tokens, o.version, o.project_id, o.created_at,
            o.updated_at, o.unit, o.prompt_id, p.name AS prompt_name, p.version AS prompt_version, o.input_cost,
            o.output_cost, o.total_cost, o.internal_model, m.id AS model_id, m.start_date AS model_start_date,
            m.input_price, m.output_price, m.total_price, m.tokenizer_config, o.calculated_input_cost,
            o.calculated_output_cost, o.calculated_total_cost,
            CASE WHEN o.end_time IS NULL THEN NULL
                ELSE EXTRACT(EPOCH FROM o.end_time - o.start_time)::double precision END AS latency,
            CASE WHEN o.completion_start_time IS NULL THEN NULL
                ELSE EXTRACT(EPOCH FROM o.completion_start_time - o.start_time)::double precision
                END AS time_to_first_token
        FROM observations o
        LEFT JOIN models m ON m.id = o.internal_model_id
        LEFT JOIN prompts p ON p.id = o.prompt_id;
    END IF;
END $$;
