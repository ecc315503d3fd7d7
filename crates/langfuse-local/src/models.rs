//! Prices: which model's an observation is, what its tokens cost.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;
use sqlx::{PgPool, Postgres, Transaction};

use crate::tokens::Tokenizer;

/// A default price, from `models.json`.
///
/// Sources: Langfuse 2's table of models (names, patterns, the price of `gpt-4o` as 2.95.12 has it) and the
/// providers' price pages of early 2025, when that version was made.
#[derive(Debug, Deserialize)]
struct DefaultPrice {
    id: String,
    name: String,
    pattern: String,
    start: Option<String>,
    input: Option<String>,
    output: Option<String>,
    total: Option<String>,
    tokenizer: Option<String>,
    config: Option<serde_json::Value>,
}

/// Makes the default models where the table holds none that belongs to no project.
pub(crate) async fn insert_defaults(to: &mut Transaction<'_, Postgres>) -> sqlx::Result<()> {
    let known: Option<bool> =
        sqlx::query_scalar("SELECT true FROM models WHERE project_id IS NULL LIMIT 1")
            .fetch_optional(&mut **to)
            .await?;
    if known.is_some() {
        return Ok(());
    }
    let defaults: Vec<DefaultPrice> = serde_json::from_str(include_str!("models.json"))
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    for model in defaults {
        sqlx::query(
            "INSERT INTO models (id, model_name, match_pattern, start_date, input_price, output_price,
                total_price, unit, tokenizer_id, tokenizer_config)
             VALUES ($1, $2, $3, $4::timestamp, $5::numeric, $6::numeric, $7::numeric, 'TOKENS', $8, $9::jsonb)",
        )
        .bind(model.id)
        .bind(model.name)
        .bind(model.pattern)
        .bind(model.start)
        .bind(model.input)
        .bind(model.output)
        .bind(model.total)
        .bind(model.tokenizer)
        .bind(model.config.map(|config| config.to_string()))
        .execute(&mut **to)
        .await?;
    }
    Ok(())
}

/// A row of the table, as far as costs need it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) unit: Option<String>,
    pub(crate) tokenizer: Option<Tokenizer>,
    start: Option<Timestamp>,
    of_project: bool,
    input: Option<Decimal>,
    output: Option<Decimal>,
    total: Option<Decimal>,
}

/// What an observation cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Costs {
    pub(crate) input: Option<Decimal>,
    pub(crate) output: Option<Decimal>,
    pub(crate) total: Option<Decimal>,
}

/// Units that were used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Units {
    pub(crate) input: Option<i64>,
    pub(crate) output: Option<i64>,
    pub(crate) total: Option<i64>,
}

impl Costs {
    /// What the caller said counts alone; else units times prices.
    pub(crate) fn of(given: Self, units: Units, model: Option<&Model>) -> Self {
        if given != Self::default() {
            let sum = || given.input.unwrap_or_default() + given.output.unwrap_or_default();
            return Self { total: Some(given.total.unwrap_or_else(sum)), ..given };
        }
        let Some(model) = model else { return Self::default() };
        let times =
            |units: Option<i64>, price: Option<Decimal>| Some(Decimal::from(units?) * price?);
        let input = times(units.input, model.input);
        let output = times(units.output, model.output).or(input.map(|_| Decimal::ZERO));
        let sum = || Some(input? + output.unwrap_or_default()).or(output);
        Self { input, output, total: times(units.total, model.total).or_else(sum) }
    }
}

/// Whose models are asked for, and by which name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) project: String,
    pub(crate) name: Name,
}

/// By what a model is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// What the caller wrote; patterns are matched with it.
    Given(String),
    /// The name of a model that was found before.
    Internal(String),
}

/// How long a look into the table is good for: prices that are changed by SQL count soon.
const FRESH: Duration = Duration::from_secs(5);
/// Names that are remembered; callers choose them, so they are bounded.
const REMEMBERED: usize = 1_000;

/// Looks models up, and remembers them for some seconds.
#[derive(Debug, Default)]
pub(crate) struct Models {
    found: Mutex<HashMap<Wanted, (Instant, Vec<Model>)>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    model_name: String,
    unit: Option<String>,
    start: Option<String>,
    of_project: bool,
    tokenizer_id: Option<String>,
    tokenizer_config: Option<serde_json::Value>,
    input: Option<String>,
    output: Option<String>,
    total: Option<String>,
}

impl Models {
    /// All models that fit the name, best first; see [`choose`].
    pub(crate) async fn find(&self, pool: &PgPool, wanted: &Wanted) -> sqlx::Result<Vec<Model>> {
        if let Some(models) = self.remembered(wanted) {
            return Ok(models);
        }
        let (given, internal) = match &wanted.name {
            Name::Given(name) => (Some(name), None),
            Name::Internal(name) => (None, Some(name)),
        };
        let rows: Vec<Row> = sqlx::query_as(
            r#"SELECT id, model_name, unit, project_id IS NOT NULL AS of_project, tokenizer_id, tokenizer_config,
                to_char(start_date, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS start,
                trim_scale(input_price)::text AS input, trim_scale(output_price)::text AS output,
                trim_scale(total_price)::text AS total
             FROM models
             WHERE (project_id = $1 OR project_id IS NULL)
                AND CASE WHEN $2::text IS NULL THEN model_name = $3 ELSE $2 ~ match_pattern END
             ORDER BY project_id ASC, start_date DESC NULLS LAST"#,
        )
        .bind(&wanted.project)
        .bind(given)
        .bind(internal)
        .fetch_all(pool)
        .await?;
        let models: Vec<Model> = rows.into_iter().map(Model::from).collect();
        self.remember(wanted, &models);
        Ok(models)
    }

    /// Forgets what was found: a model was made or deleted.
    pub(crate) fn forget(&self) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn remembered(&self, wanted: &Wanted) -> Option<Vec<Model>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, models) = found.get(wanted)?;
        (when.elapsed() < FRESH).then(|| models.clone())
    }

    fn remember(&self, wanted: &Wanted, models: &[Model]) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED {
            found.clear();
        }
        found.insert(wanted.clone(), (Instant::now(), models.to_vec()));
    }
}

impl From<Row> for Model {
    fn from(row: Row) -> Self {
        let price = |text: Option<String>| text.and_then(|text| text.parse().ok());
        Self {
            id: row.id,
            name: row.model_name,
            unit: row.unit,
            tokenizer: Tokenizer::of(row.tokenizer_id.as_deref(), row.tokenizer_config),
            start: row.start.and_then(|text| text.parse().ok()),
            of_project: row.of_project,
            input: price(row.input),
            output: price(row.output),
            total: price(row.total),
        }
    }
}

/// The model of an observation: of the unit, where one is known, and begun by its start; the project's own first,
/// then the latest.
pub(crate) fn choose<'m>(
    models: &'m [Model],
    unit: Option<&str>,
    start: Timestamp,
) -> Option<&'m Model> {
    let fits = |model: &&Model| {
        unit.is_none_or(|unit| model.unit.as_deref() == Some(unit))
            && model.start.is_none_or(|from| from <= start)
    };
    models.iter().filter(fits).min_by_key(|model| !model.of_project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(start: Option<&str>, input: &str, output: &str) -> Model {
        Model {
            id: "m".into(),
            name: "m".into(),
            unit: Some("TOKENS".into()),
            tokenizer: None,
            start: start.map(|start| start.parse().unwrap()),
            of_project: false,
            input: Some(input.parse().unwrap()),
            output: Some(output.parse().unwrap()),
            total: None,
        }
    }

    fn units(input: i64, output: i64) -> Units {
        Units { input: Some(input), output: Some(output), total: Some(input + output) }
    }

    #[test]
    fn tokens_cost_their_price_exactly() {
        let costs =
            Costs::of(Costs::default(), units(1, 1), Some(&model(None, "0.000005", "0.000015")));
        assert_eq!(costs.total.unwrap().to_string(), "0.000020");
    }

    #[test]
    fn what_the_caller_says_counts_alone() {
        let given = Costs { total: Some("0.5".parse().unwrap()), ..Costs::default() };
        assert_eq!(Costs::of(given, units(9, 9), Some(&model(None, "1", "1"))), given);
        let parts = Costs { input: Some(Decimal::ONE), output: Some(Decimal::TWO), total: None };
        assert_eq!(Costs::of(parts, Units::default(), None).total, Some("3".parse().unwrap()));
    }

    #[test]
    fn the_price_of_the_day_counts() {
        let models = [model(Some("2024-02-16T00:00:00Z"), "5", "15"), model(None, "15", "20")];
        let at = |day: &str| choose(&models, None, day.parse().unwrap()).unwrap().input.unwrap();
        assert_eq!(at("2024-03-01T00:00:00Z").to_string(), "5");
        assert_eq!(at("2023-03-01T00:00:00Z").to_string(), "15");
        assert!(choose(&models, Some("IMAGES"), Timestamp::now()).is_none());
    }
}
