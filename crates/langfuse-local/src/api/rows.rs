//! Rows as version 2 writes them in JSON: SQL expressions over an alias `t`.

/// A timestamp column as ISO 8601 with milliseconds.
macro_rules! iso {
    ($column:literal) => {
        concat!("to_char(", $column, r#", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#)
    };
}

/// The pairs of a trace, for `json_build_object`.
macro_rules! trace_pairs {
    () => {
        concat!(
            "'id', t.id, 'htmlPath', '/project/' || t.project_id || '/traces/' || t.id, 'timestamp', ",
            iso!("t.timestamp"),
            ", 'name', t.name, 'input', t.input, 'output', t.output, 'projectId', t.project_id, 'sessionId', t.session_id,
            'metadata', t.metadata, 'externalId', t.external_id, 'userId', t.user_id, 'release', t.release,
            'version', t.version, 'bookmarked', t.bookmarked, 'public', t.public,
            'tags', coalesce(to_json(t.tags), '[]'::json), 'createdAt', ",
            iso!("t.created_at"),
            ", 'updatedAt', ",
            iso!("t.updated_at")
        )
    };
}

/// An observation, from `observations_view`.
pub(crate) const OBSERVATION: &str = concat!(
    "json_build_object('id', t.id, 'traceId', t.trace_id, 'type', t.type, 'name', t.name, 'startTime', ",
    iso!("t.start_time"),
    ", 'endTime', ",
    iso!("t.end_time"),
    ", 'completionStartTime', ",
    iso!("t.completion_start_time"),
    r#", 'model', t.model, 'modelParameters', t."modelParameters", 'input', t.input, 'output', t.output,
    'metadata', t.metadata, 'version', t.version, 'level', t.level, 'statusMessage', t.status_message,
    'parentObservationId', t.parent_observation_id, 'promptId', t.prompt_id, 'promptName', t.prompt_name,
    'promptVersion', t.prompt_version, 'projectId', t.project_id, 'createdAt', "#,
    iso!("t.created_at"),
    ", 'updatedAt', ",
    iso!("t.updated_at"),
    ", 'promptTokens', t.prompt_tokens, 'completionTokens', t.completion_tokens, 'totalTokens', t.total_tokens,
    'unit', t.unit, 'usage', json_build_object('unit', t.unit, 'input', t.prompt_tokens,
        'output', t.completion_tokens, 'total', t.total_tokens),
    'modelId', t.model_id, 'inputPrice', t.input_price::double precision, 'outputPrice', t.output_price::double precision,
    'totalPrice', t.total_price::double precision, 'calculatedInputCost', t.calculated_input_cost::double precision,
    'calculatedOutputCost', t.calculated_output_cost::double precision,
    'calculatedTotalCost', t.calculated_total_cost::double precision,
    'latency', t.latency, 'timeToFirstToken', t.time_to_first_token)"
);

/// The pairs of a score, for `json_build_object`.
macro_rules! score_pairs {
    () => {
        concat!(
            "'id', t.id, 'timestamp', ",
            iso!("t.timestamp"),
            ", 'projectId', t.project_id, 'name', t.name, 'value', t.value, 'stringValue', t.string_value,
            'dataType', t.data_type, 'source', t.source, 'traceId', t.trace_id, 'observationId', t.observation_id,
            'comment', t.comment, 'authorUserId', t.author_user_id, 'configId', t.config_id, 'queueId', t.queue_id,
            'createdAt', ",
            iso!("t.created_at"),
            ", 'updatedAt', ",
            iso!("t.updated_at")
        )
    };
}

pub(crate) use {iso, score_pairs, trace_pairs};

/// A score.
pub(crate) const SCORE: &str = concat!("json_build_object(", score_pairs!(), ")");
