//! `GET /metrics/daily`: traces, observations, units and costs by day and model.

use axum::extract::State;
use sqlx::{Postgres, QueryBuilder};

use super::query::Parameters;
use crate::{
    auth::Full,
    respond::{ApiError, RawJson, page},
    server::App,
};

/// Conditions on the trace, `t`.
struct Filter {
    project: String,
    name: Option<String>,
    user: Option<String>,
    tags: Vec<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Filter {
    /// `column` is the day's own time: of the trace, or of the observation.
    fn push(&self, query: &mut QueryBuilder<Postgres>, column: &'static str) {
        query.push(" WHERE t.project_id = ").push_bind(self.project.clone());
        for (before, value) in [(" AND t.name = ", &self.name), (" AND t.user_id = ", &self.user)] {
            if let Some(value) = value {
                query.push(before).push_bind(value.clone());
            }
        }
        if !self.tags.is_empty() {
            query.push(" AND t.tags @> ").push_bind(self.tags.clone());
        }
        for (operator, time) in [(" >= ", &self.from), (" < ", &self.to)] {
            if let Some(time) = time {
                query.push(" AND ").push(column).push(operator);
                query.push_bind(time.clone()).push("::text::timestamp");
            }
        }
    }
}

pub(crate) async fn daily(
    State(app): State<App>,
    Full(scope): Full,
    query: Parameters,
) -> Result<RawJson, ApiError> {
    let window = query.window(50)?;
    let filter = Filter {
        project: scope.project_id,
        name: query.get("traceName").map(str::to_owned),
        user: query.get("userId").map(str::to_owned),
        tags: query.all("tags"),
        from: query.time("fromTimestamp")?,
        to: query.time("toTimestamp")?,
    };
    let mut days = QueryBuilder::new("");
    push_days(&mut days, &filter);
    days.push(
        "SELECT json_build_object('date', to_char(day, 'YYYY-MM-DD'), 'countTraces', count_traces,
            'countObservations', count_observations, 'totalCost', total_cost, 'usage', usage)::text
         FROM days ORDER BY day DESC LIMIT ",
    );
    days.push_bind(window.limit).push(" OFFSET ").push_bind((window.page - 1) * window.limit);
    let rows: Vec<String> = days.build_query_scalar().fetch_all(&app.pool).await?;
    let mut count = QueryBuilder::new("");
    push_days(&mut count, &filter);
    count.push("SELECT count(*) FROM days");
    let total: i64 = count.build_query_scalar().fetch_one(&app.pool).await?;
    Ok(page(&rows, window.page, window.limit, total))
}

fn push_days(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    query.push(
        "WITH by_model AS (
            SELECT date_trunc('day', o.start_time) AS day, o.model, count(*) AS observations,
                count(DISTINCT t.id) AS traces, coalesce(sum(o.prompt_tokens), 0) AS input,
                coalesce(sum(o.completion_tokens), 0) AS output, coalesce(sum(o.total_tokens), 0) AS total,
                coalesce(sum(o.calculated_total_cost), 0)::double precision AS cost
            FROM traces t JOIN observations o ON o.trace_id = t.id AND o.project_id = t.project_id",
    );
    filter.push(query, "o.start_time");
    query.push(
        " GROUP BY 1, 2), by_day AS (
            SELECT day, sum(observations)::bigint AS observations, sum(cost) AS cost,
                json_agg(json_build_object('model', model, 'inputUsage', input, 'outputUsage', output,
                    'totalUsage', total, 'totalCost', cost, 'countObservations', observations,
                    'countTraces', traces) ORDER BY model) AS usage
            FROM by_model GROUP BY day), trace_days AS (
            SELECT date_trunc('day', t.timestamp) AS day, count(*) AS traces FROM traces t",
    );
    filter.push(query, "t.timestamp");
    query.push(
        " GROUP BY 1), days AS (
            SELECT coalesce(b.day, d.day) AS day, coalesce(d.traces, 0) AS count_traces,
                coalesce(b.observations, 0) AS count_observations, coalesce(b.cost, 0) AS total_cost,
                coalesce(b.usage, '[]'::json) AS usage
            FROM by_day b FULL JOIN trace_days d ON d.day = b.day) ",
    );
}
