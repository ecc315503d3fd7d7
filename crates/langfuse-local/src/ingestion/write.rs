//! One transaction: reads what a batch touches, applies the events, writes the rows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use sqlx::{Postgres, Transaction};

use super::{
    Action, Event, Refusal,
    apply::{Batch, StoredObservation, StoredTrace},
    event::ObservationBody,
};
use crate::{
    models::{Costs, Name, Units, Wanted},
    server::App,
};

/// Two batches that meet in the same new rows collide; the loser starts again and then sees them.
const ATTEMPTS: u32 = 8;

/// Stores the events and says of each what became of it. An error means that nothing was stored.
pub(super) async fn transaction(
    app: &App,
    project_id: &str,
    events: &[&Event],
) -> sqlx::Result<Vec<Result<(), Refusal>>> {
    let mut attempt = 1;
    loop {
        match attempt_once(app, project_id, events).await {
            Err(error) if attempt < ATTEMPTS && is_collision(&error) => attempt += 1,
            settled => return settled,
        }
    }
}

/// Unique violation, serialization failure, deadlock.
fn is_collision(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "23505" | "40001" | "40P01"))
}

async fn attempt_once(
    app: &App,
    project_id: &str,
    events: &[&Event],
) -> sqlx::Result<Vec<Result<(), Refusal>>> {
    let mut transaction = app.pool.begin().await?;
    let mut batch = Batch { project_id, ..Batch::default() };
    read(app, &mut transaction, &mut batch, events).await?;
    let outcomes = events.iter().map(|event| apply(&mut batch, event)).collect();
    write(&mut transaction, &batch).await?;
    transaction.commit().await?;
    Ok(outcomes)
}

fn apply<'e>(batch: &mut Batch<'e>, event: &'e Event) -> Result<(), Refusal> {
    match &event.action {
        Action::Trace(body) => batch.trace(body),
        Action::Observation(kind, body) => batch.observation(*kind, body, false, &event.id),
        Action::Existing(kind, body) => batch.observation(*kind, body, true, &event.id),
        Action::Score(body) => batch.score(body),
        Action::Log => Ok(()),
    }
}

async fn read<'e>(
    app: &App,
    from: &mut Transaction<'_, Postgres>,
    batch: &mut Batch<'e>,
    events: &[&'e Event],
) -> sqlx::Result<()> {
    let (mut traces, mut scores) = (BTreeSet::new(), BTreeSet::new());
    let mut observations: BTreeMap<&str, Vec<&ObservationBody>> = BTreeMap::new();
    for event in events {
        match &event.action {
            Action::Trace(body) => traces.extend(body.id.as_deref()),
            Action::Observation(_, body) | Action::Existing(_, body) => {
                let id = body.id.as_deref().unwrap_or_default();
                observations.entry(id).or_default().push(body);
                if body.trace_id.is_none() {
                    traces.insert(id);
                }
            }
            Action::Score(body) => scores.extend(body.id.as_deref()),
            Action::Log => {}
        }
    }
    read_traces(from, batch, traces.into_iter().collect()).await?;
    read_observations(from, batch, observations.keys().copied().collect()).await?;
    read_scores(from, batch, scores.into_iter().collect()).await?;
    let bodies: Vec<&ObservationBody> = observations.into_values().flatten().collect();
    read_models(app, batch, &bodies).await?;
    read_prompts(from, batch, &bodies).await
}

#[derive(sqlx::FromRow)]
struct TraceState {
    id: String,
    project_id: String,
    metadata: Option<Value>,
    tags: Option<Vec<String>>,
}

/// Rows are locked in the order of their ids, so that two batches cannot wait for each other.
async fn read_traces(
    from: &mut Transaction<'_, Postgres>,
    batch: &mut Batch<'_>,
    ids: Vec<&str>,
) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<TraceState> = sqlx::query_as(
        "SELECT id, project_id, metadata, tags FROM traces WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(ids)
    .fetch_all(&mut **from)
    .await?;
    for row in rows {
        let TraceState { id, project_id, metadata, tags } = row;
        let tags = tags.unwrap_or_default();
        batch.stored_traces.insert(id, StoredTrace { project_id, metadata, tags });
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct ObservationState {
    id: String,
    project_id: String,
    metadata: Option<Value>,
    internal_model: Option<String>,
    unit: Option<String>,
    prompt_tokens: i32,
    completion_tokens: i32,
    total_tokens: i32,
    input_cost: Option<String>,
    output_cost: Option<String>,
    total_cost: Option<String>,
}

impl ObservationState {
    fn stored(self) -> (String, StoredObservation) {
        let cost = |text: Option<String>| text.and_then(|text| text.parse().ok());
        // The columns have no null: zero is what nobody said. Taken as said, a batch that is sent again would
        // turn an unknown cost into a cost of nothing.
        let said = |count: i32| (count != 0).then_some(i64::from(count));
        let units = Units {
            input: said(self.prompt_tokens),
            output: said(self.completion_tokens),
            total: said(self.total_tokens),
        };
        let costs = Costs {
            input: cost(self.input_cost),
            output: cost(self.output_cost),
            total: cost(self.total_cost),
        };
        let (project_id, metadata) = (self.project_id, self.metadata);
        let (internal_model, unit) = (self.internal_model, self.unit);
        let stored = StoredObservation {
            in_database: true,
            project_id,
            metadata,
            internal_model,
            unit,
            units,
            costs,
        };
        (self.id, stored)
    }
}

async fn read_observations(
    from: &mut Transaction<'_, Postgres>,
    batch: &mut Batch<'_>,
    ids: Vec<&str>,
) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<ObservationState> = sqlx::query_as(
        "SELECT id, project_id, metadata, internal_model, unit, prompt_tokens, completion_tokens, total_tokens,
            trim_scale(input_cost)::text AS input_cost, trim_scale(output_cost)::text AS output_cost,
            trim_scale(total_cost)::text AS total_cost
         FROM observations WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(ids)
    .fetch_all(&mut **from)
    .await?;
    batch.stored_observations.extend(rows.into_iter().map(ObservationState::stored));
    Ok(())
}

async fn read_scores(
    from: &mut Transaction<'_, Postgres>,
    batch: &mut Batch<'_>,
    ids: Vec<&str>,
) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT id, project_id FROM scores WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(ids)
    .fetch_all(&mut **from)
    .await?;
    batch.stored_scores.extend(rows);
    Ok(())
}

async fn read_models(
    app: &App,
    batch: &mut Batch<'_>,
    bodies: &[&ObservationBody],
) -> sqlx::Result<()> {
    let given: BTreeSet<&String> = bodies.iter().filter_map(|body| body.model.as_ref()).collect();
    let wanted = |name| Wanted { project: batch.project_id.to_owned(), name };
    let mut found = BTreeMap::new();
    for name in given {
        let models = app.models.find(&app.pool, &wanted(Name::Given(name.clone()))).await?;
        found.insert(name.clone(), models);
    }
    let stored = batch.stored_observations.values();
    let internal: BTreeSet<String> = stored.filter_map(|it| it.internal_model.clone()).collect();
    let mut found_internal = BTreeMap::new();
    for name in internal {
        let models = app.models.find(&app.pool, &wanted(Name::Internal(name.clone()))).await?;
        found_internal.insert(name, models);
    }
    (batch.models, batch.internal_models) = (found, found_internal);
    Ok(())
}

async fn read_prompts(
    from: &mut Transaction<'_, Postgres>,
    batch: &mut Batch<'_>,
    bodies: &[&ObservationBody],
) -> sqlx::Result<()> {
    let named =
        bodies.iter().filter_map(|body| Some((body.prompt_name.as_ref()?, body.prompt_version?.0)));
    let named: BTreeSet<(&String, i64)> = named.collect();
    for (name, version) in named {
        let id: Option<String> = sqlx::query_scalar(
            "SELECT id FROM prompts WHERE project_id = $1 AND name = $2 AND version = $3::bigint",
        )
        .bind(batch.project_id)
        .bind(name)
        .bind(version)
        .fetch_optional(&mut **from)
        .await?;
        if let Some(id) = id {
            batch.prompts.insert((name.clone(), version), id);
        }
    }
    Ok(())
}

async fn write(to: &mut Transaction<'_, Postgres>, batch: &Batch<'_>) -> sqlx::Result<()> {
    let sessions: BTreeSet<&str> = batch.traces.values().filter_map(|row| row.session_id).collect();
    if !sessions.is_empty() {
        let sessions: Vec<&str> = sessions.into_iter().collect();
        sqlx::query(
            "INSERT INTO trace_sessions (id, project_id) SELECT id, $2 FROM unnest($1::text[]) AS id ON CONFLICT DO NOTHING",
        )
        .bind(sessions)
        .bind(batch.project_id)
        .execute(&mut **to)
        .await?;
    }
    let project = batch.project_id;
    rows(to, project, batch.traces.values(), |row| row.fresh, INSERT_TRACES, UPDATE_TRACES).await?;
    let observations = batch.observations.values();
    rows(to, project, observations, |row| row.fresh, INSERT_OBSERVATIONS, UPDATE_OBSERVATIONS)
        .await?;
    rows(to, project, batch.scores.values(), |row| row.fresh, INSERT_SCORES, UPDATE_SCORES).await
}

/// Writes rows as one JSON parameter: one statement for the new ones, one for the others.
async fn rows<'r, R: Serialize + 'r>(
    to: &mut Transaction<'_, Postgres>,
    project: &str,
    rows: impl Iterator<Item = &'r R>,
    fresh: impl Fn(&R) -> bool,
    insert: &'static str,
    update: &'static str,
) -> sqlx::Result<()> {
    let (new, old): (Vec<&R>, Vec<&R>) = rows.partition(|row| fresh(row));
    for (rows, statement) in [(new, insert), (old, update)] {
        if rows.is_empty() {
            continue;
        }
        let json =
            serde_json::to_string(&rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query(statement).bind(json).bind(project).execute(&mut **to).await?;
    }
    Ok(())
}

const INSERT_TRACES: &str = r#"
INSERT INTO traces (id, project_id, timestamp, name, external_id, user_id, session_id, release, version, public,
    input, output, metadata, tags)
SELECT id, $2, coalesce(timestamp, CURRENT_TIMESTAMP), name, external_id, user_id, session_id, release, version,
    coalesce(public, false), input, output, metadata, coalesce(tags, ARRAY[]::text[])
FROM json_to_recordset($1::json) AS r (id text, timestamp timestamp(3), name text, external_id text, user_id text,
    session_id text, release text, version text, public boolean, input jsonb, output jsonb, metadata jsonb,
    tags text[])
ORDER BY id"#;

const UPDATE_TRACES: &str = r#"
UPDATE traces t SET
    timestamp = coalesce(r.timestamp, t.timestamp), name = coalesce(r.name, t.name),
    external_id = coalesce(r.external_id, t.external_id), user_id = coalesce(r.user_id, t.user_id),
    session_id = coalesce(r.session_id, t.session_id), release = coalesce(r.release, t.release),
    version = coalesce(r.version, t.version), public = coalesce(r.public, t.public),
    input = coalesce(r.input, t.input), output = coalesce(r.output, t.output),
    metadata = coalesce(r.metadata, t.metadata), tags = coalesce(r.tags, t.tags), updated_at = CURRENT_TIMESTAMP
FROM json_to_recordset($1::json) AS r (id text, timestamp timestamp(3), name text, external_id text, user_id text,
    session_id text, release text, version text, public boolean, input jsonb, output jsonb, metadata jsonb,
    tags text[])
WHERE t.id = r.id AND t.project_id = $2"#;

const INSERT_OBSERVATIONS: &str = r#"
INSERT INTO observations (id, project_id, type, trace_id, name, start_time, end_time, completion_start_time,
    parent_observation_id, input, output, metadata, level, status_message, version, model, "modelParameters",
    prompt_id, unit, internal_model, internal_model_id, prompt_tokens, completion_tokens, total_tokens,
    input_cost, output_cost, total_cost, calculated_input_cost, calculated_output_cost, calculated_total_cost)
SELECT id, $2, type::"ObservationType", trace_id, name, coalesce(start_time, CURRENT_TIMESTAMP), end_time,
    completion_start_time, parent_observation_id, input, output, metadata,
    coalesce(level, 'DEFAULT')::"ObservationLevel", status_message, version, model, model_parameters,
    prompt_id, unit, internal_model, internal_model_id, coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0),
    coalesce(total_tokens, 0), input_cost, output_cost, total_cost, calculated_input_cost, calculated_output_cost,
    calculated_total_cost
FROM json_to_recordset($1::json) AS r (id text, type text, trace_id text, name text, start_time timestamp(3),
    end_time timestamp(3), completion_start_time timestamp(3), parent_observation_id text, input jsonb, output jsonb,
    metadata jsonb, level text, status_message text, version text, model text, model_parameters jsonb, prompt_id text,
    unit text, internal_model text, internal_model_id text, prompt_tokens integer, completion_tokens integer,
    total_tokens integer, input_cost numeric, output_cost numeric, total_cost numeric, calculated_input_cost numeric,
    calculated_output_cost numeric, calculated_total_cost numeric)
ORDER BY id"#;

const UPDATE_OBSERVATIONS: &str = r#"
UPDATE observations o SET
    name = coalesce(r.name, o.name), start_time = coalesce(r.start_time, o.start_time),
    end_time = coalesce(r.end_time, o.end_time),
    completion_start_time = coalesce(r.completion_start_time, o.completion_start_time),
    parent_observation_id = coalesce(r.parent_observation_id, o.parent_observation_id),
    input = coalesce(r.input, o.input), output = coalesce(r.output, o.output),
    metadata = coalesce(r.metadata, o.metadata), level = coalesce(r.level::"ObservationLevel", o.level),
    status_message = coalesce(r.status_message, o.status_message), version = coalesce(r.version, o.version),
    model = coalesce(r.model, o.model), "modelParameters" = coalesce(r.model_parameters, o."modelParameters"),
    prompt_id = coalesce(r.prompt_id, o.prompt_id), unit = coalesce(r.unit, o.unit),
    internal_model = coalesce(r.internal_model, o.internal_model),
    internal_model_id = coalesce(r.internal_model_id, o.internal_model_id),
    prompt_tokens = coalesce(r.prompt_tokens, o.prompt_tokens),
    completion_tokens = coalesce(r.completion_tokens, o.completion_tokens),
    total_tokens = coalesce(r.total_tokens, o.total_tokens),
    input_cost = coalesce(r.input_cost, o.input_cost), output_cost = coalesce(r.output_cost, o.output_cost),
    total_cost = coalesce(r.total_cost, o.total_cost),
    calculated_input_cost = coalesce(r.calculated_input_cost, o.calculated_input_cost),
    calculated_output_cost = coalesce(r.calculated_output_cost, o.calculated_output_cost),
    calculated_total_cost = coalesce(r.calculated_total_cost, o.calculated_total_cost),
    updated_at = CURRENT_TIMESTAMP
FROM json_to_recordset($1::json) AS r (id text, name text, start_time timestamp(3),
    end_time timestamp(3), completion_start_time timestamp(3), parent_observation_id text, input jsonb, output jsonb,
    metadata jsonb, level text, status_message text, version text, model text, model_parameters jsonb, prompt_id text,
    unit text, internal_model text, internal_model_id text, prompt_tokens integer, completion_tokens integer,
    total_tokens integer, input_cost numeric, output_cost numeric, total_cost numeric, calculated_input_cost numeric,
    calculated_output_cost numeric, calculated_total_cost numeric)
WHERE o.id = r.id AND o.project_id = $2"#;

const INSERT_SCORES: &str = r#"
INSERT INTO scores (id, project_id, name, value, string_value, data_type, source, trace_id, observation_id, comment,
    config_id)
SELECT id, $2, name, value, string_value, data_type::"ScoreDataType", source::"ScoreSource", trace_id,
    observation_id, comment, config_id
FROM json_to_recordset($1::json) AS r (id text, name text, value double precision, string_value text, data_type text,
    source text, trace_id text, observation_id text, comment text, config_id text)
ORDER BY id"#;

const UPDATE_SCORES: &str = r#"
UPDATE scores s SET
    name = r.name, value = r.value, string_value = r.string_value, data_type = r.data_type::"ScoreDataType",
    source = r.source::"ScoreSource", trace_id = r.trace_id,
    observation_id = coalesce(r.observation_id, s.observation_id), comment = coalesce(r.comment, s.comment),
    config_id = coalesce(r.config_id, s.config_id), updated_at = CURRENT_TIMESTAMP
FROM json_to_recordset($1::json) AS r (id text, name text, value double precision, string_value text, data_type text,
    source text, trace_id text, observation_id text, comment text, config_id text)
WHERE s.id = r.id AND s.project_id = $2"#;
