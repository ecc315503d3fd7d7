//! Query strings: repeated keys, pages, times, and filters that become SQL.

use axum::{
    extract::{FromRequestParts, Query as AxumQuery},
    http::request::Parts,
};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    ingestion::time_column,
    respond::{ApiError, RawJson, page},
    server::App,
};

/// The parameters of a request, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = AxumQuery::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let pairs = pairs.map_err(|error| ApiError::invalid("query", error.to_string()))?;
        Ok(Self(pairs.0))
    }
}

impl Parameters {
    /// The value of a key; an empty one counts as absent, as version 2 has it.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a key.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(name, _)| name == key);
        named.map(|(_, value)| value.clone()).collect()
    }

    /// A time, as a column without zone takes it.
    pub(crate) fn time(&self, key: &str) -> Result<Option<String>, ApiError> {
        let time = self.get(key).map(time_column).transpose();
        time.map_err(|message| ApiError::invalid(key, message))
    }

    /// `page` and `limit`.
    pub(crate) fn window(&self, default: i64) -> Result<Window, ApiError> {
        let number = |key: &str, default: i64| match self.get(key) {
            None => Ok(default),
            Some(text) => text
                .parse::<f64>()
                .ok()
                .filter(|number| number.fract() == 0.0 && number.abs() < 1e12)
                .map(whole)
                .ok_or_else(|| ApiError::invalid(key, "Expected number, received nan")),
        };
        let window = Window { page: number("page", 1)?, limit: number("limit", default)? };
        if window.limit > 100 {
            return Err(ApiError::invalid("limit", "Number must be less than or equal to 100"));
        }
        Ok(window)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
fn whole(number: f64) -> i64 {
    number as i64
}

/// Which rows are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) page: i64,
    pub(crate) limit: i64,
}

/// A list: the columns of its rows as JSON, where they come from, which count, in what order.
pub(crate) struct List {
    pub(crate) json: &'static str,
    /// Tables with the project's condition, up to the project's id; conditions are added to it.
    pub(crate) from: &'static str,
    /// SQL behind the project's id.
    pub(crate) behind_project: &'static str,
    /// What is joined to each shown row alone.
    pub(crate) details: &'static str,
    pub(crate) order: &'static str,
    pub(crate) window: Window,
    pub(crate) conditions: Vec<Condition>,
}

/// One condition on a row.
pub(crate) enum Condition {
    /// SQL before the value, the value, SQL behind it.
    Text(&'static str, String, &'static str),
    Texts(&'static str, Vec<String>, &'static str),
    Number(&'static str, f64),
}

impl List {
    /// A condition where the parameter is given.
    pub(crate) fn filter(&mut self, before: &'static str, value: Option<impl Into<String>>) {
        self.filter_cast(before, value, "");
    }

    /// As [`List::filter`], with SQL behind the value.
    pub(crate) fn filter_cast(
        &mut self,
        before: &'static str,
        value: Option<impl Into<String>>,
        behind: &'static str,
    ) {
        if let Some(value) = value {
            self.conditions.push(Condition::Text(before, value.into(), behind));
        }
    }

    /// The rows must hold all of the values.
    pub(crate) fn filter_all(
        &mut self,
        before: &'static str,
        values: Vec<String>,
        behind: &'static str,
    ) {
        if !values.is_empty() {
            self.conditions.push(Condition::Texts(before, values, behind));
        }
    }

    fn push_conditions(&self, query: &mut QueryBuilder<Postgres>, project: &str) {
        query.push(self.from).push_bind(project.to_owned()).push(self.behind_project);
        for condition in &self.conditions {
            query.push(" AND ");
            match condition {
                Condition::Text(before, value, behind) => {
                    query.push(before).push_bind(value.clone()).push(behind);
                }
                Condition::Texts(before, values, behind) => {
                    query.push(before).push_bind(values.clone()).push(behind);
                }
                Condition::Number(before, value) => {
                    query.push(before).push_bind(*value);
                }
            }
        }
    }

    /// The page.
    pub(crate) async fn answer(self, app: &App, project: &str) -> Result<RawJson, ApiError> {
        let Window { page: number, limit } = self.window;
        let mut query = QueryBuilder::new("SELECT (");
        query.push(self.json).push(")::text FROM (SELECT * FROM ");
        self.push_conditions(&mut query, project);
        query.push(" ORDER BY ").push(self.order);
        query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind((number - 1) * limit);
        query.push(") t ").push(self.details).push(" ORDER BY ").push(self.order);
        let rows: Vec<String> = query.build_query_scalar().fetch_all(&app.pool).await?;
        let mut count = QueryBuilder::new("SELECT count(*) FROM ");
        self.push_conditions(&mut count, project);
        let total: i64 = count.build_query_scalar().fetch_one(&app.pool).await?;
        Ok(page(&rows, number, limit, total))
    }
}
