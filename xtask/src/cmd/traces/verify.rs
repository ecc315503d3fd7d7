//! `traces verify`: a call through the proxy, and its trace.

use std::time::{Duration, Instant};

use langfuse_client::{Client, TraceId};
use litellm_config::{Catalogue, Model, Via};
use serde_json::{Value, json};

use super::{
    find,
    view::{self, ObservationRow, TraceRow},
};
use crate::{
    cmd::langfuse::Answer,
    context::Context,
    exit::{Exit, UsageError},
    reach::{Door, ServiceArgs, Services},
};

/// Tokens of the answer: a model that reasons needs some before its first word.
const MAX_TOKENS: u32 = 256;
/// The name of its traces.
const NAME: &str = "goat-verify";
/// Between two looks, at first; each time half as long again, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Traces that `--query-only` shows.
const SHOWN: usize = 5;

/// What `--sql` asks. Columns are version 2's.
const SQL: [(&str, &str); 3] = [
    (
        "newest traces",
        "SELECT id, name, session_id, timestamp FROM traces ORDER BY timestamp DESC LIMIT 5",
    ),
    (
        "newest observations",
        "SELECT trace_id, name, model, prompt_tokens, completion_tokens, calculated_total_cost \
         FROM observations ORDER BY start_time DESC LIMIT 5",
    ),
    (
        "all of them",
        "SELECT (SELECT count(*) FROM traces) AS traces, (SELECT count(*) FROM observations) AS observations, \
         min(timestamp) AS first, max(timestamp) AS last FROM traces",
    ),
];

/// Call a model through the proxy, wait for the call's own trace, show what it holds
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask traces verify
  cargo xtask traces verify --model gpt-5-mini --within 120
  cargo xtask traces verify --query-only          no call: the newest traces there are
  cargo xtask traces verify --query-only --sql    the same, and what the database says
  cargo xtask traces verify --litellm-url http://127.0.0.1:4000 --langfuse-url http://127.0.0.1:3000

Without --model the cheapest cloud model of the catalogue whose provider is configured is called, never
one that has to start first. A call costs a few thousandths of a cent.
Exit codes: 1 the call failed, no trace came in time, or it lacks session, tokens or cost")]
pub(super) struct Args {
    /// The model to call
    #[arg(long)]
    model: Option<String>,
    /// Call nothing: show the newest traces and the observations of the newest one
    #[arg(long, conflicts_with = "model")]
    query_only: bool,
    /// Also ask the database: the newest traces and observations, how many there are, since when
    #[arg(long)]
    sql: bool,
    /// How long the trace may take
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    within: u64,
    #[command(flatten)]
    services: ServiceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let services = Services::new(&args.services, context)?;
    let verified = if args.query_only {
        query(&services.langfuse().await?, context).await?
    } else {
        verify(args, &services, context).await?
    };
    if args.sql {
        let door = services.postgres().await?;
        for (title, sql) in SQL {
            context.printer.note(title);
            let answer = Answer::to(&door, sql).await?;
            context.printer.text(&answer.table());
        }
    }
    Ok(verified)
}

async fn verify(args: &Args, services: &Services<'_>, context: &Context) -> anyhow::Result<Exit> {
    let catalogue = args.services.sources.catalogue()?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => cheapest(&catalogue, |name| services.variable(&[name]).is_some())
            .ok_or_else(|| {
                UsageError("the model catalogue has no chat model: give --model".into())
            })?
            .name
            .clone(),
    };
    let (door, client) = (services.litellm().await?, services.langfuse().await?);
    // Before anything is paid for.
    client.server().await?;
    let asked = Asked::new();
    context.printer.note(&format!("calling {model}"));
    if let Err(error) = asked.call(&door, &model).await {
        context.printer.failure(&format!("{error:#}"));
        context.printer.json(&json!({ "model": model, "problems": [format!("{error:#}")] }))?;
        return Ok(Exit::Failed);
    }
    context.printer.note(&format!("answered; waiting for trace {}", asked.id));
    let within = Duration::from_secs(args.within);
    let began = Instant::now();
    let (found, last) = asked.wait(&client, within).await;
    let waited = began.elapsed();
    let is_free = costs_nothing(&catalogue, &model);
    let problems = match &found {
        Some((trace, observations)) => asked.problems(trace, observations, is_free),
        None => vec![format!("no whole trace came within {} s: {last}", args.within)],
    };
    report(&model, found.as_ref(), waited, &problems, context)
}

/// A call that can be told from all others.
pub(crate) struct Asked {
    pub(crate) id: TraceId,
    session: String,
}

/// A trace with its observations.
pub(crate) type Found = (TraceRow, Vec<ObservationRow>);

impl Asked {
    pub(crate) fn new() -> Self {
        let id = TraceId::random();
        let session = format!("verify-{}", &id.as_str()[..12]);
        Self { id, session }
    }

    pub(crate) async fn call(&self, door: &Door, model: &str) -> anyhow::Result<Value> {
        let body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": "Answer with one word: which animal bleats?" }],
            "max_tokens": MAX_TOKENS,
            "metadata": {
                "trace_id": self.id.as_str(),
                "session_id": self.session,
                "trace_name": NAME,
                "tags": ["goat-verify"],
            },
        });
        door.post("/v1/chat/completions", &body).await
    }

    /// Looks until the trace has an observation that has ended, and says what the last look saw.
    pub(crate) async fn wait(&self, client: &Client, within: Duration) -> (Option<Found>, String) {
        let deadline = tokio::time::Instant::now() + within;
        let mut last = "Langfuse has not answered".to_owned();
        let mut pause = FIRST_PAUSE;
        loop {
            let look = tokio::time::timeout_at(deadline, find::whole(client, &self.id)).await;
            match look {
                Ok(Ok(Some(found))) if found.1.iter().any(|it| it.latency_s.is_some()) => {
                    return (Some(found), last);
                }
                Ok(Ok(Some(_))) => last = "the trace has no call that ended".to_owned(),
                Ok(Ok(None)) => last = "Langfuse has no such trace".to_owned(),
                Ok(Err(error)) => last = format!("{error:#}"),
                Err(_) => return (None, last),
            }
            if tokio::time::Instant::now() + pause >= deadline {
                return (None, last);
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.5).min(LAST_PAUSE);
        }
    }

    /// What the trace lacks.
    fn problems(
        &self,
        trace: &TraceRow,
        observations: &[ObservationRow],
        is_free: bool,
    ) -> Vec<String> {
        let problems = [
            self.without_session(trace),
            without_tokens(observations),
            without_cost(observations).filter(|_| !is_free),
        ];
        problems.into_iter().flatten().map(str::to_owned).collect()
    }

    /// That it has not the call's session.
    pub(crate) fn without_session(&self, trace: &TraceRow) -> Option<&'static str> {
        let is_other = trace.session.as_deref() != Some(&*self.session);
        is_other.then_some("the trace has another session")
    }
}

/// That no observation has tokens.
pub(crate) fn without_tokens(observations: &[ObservationRow]) -> Option<&'static str> {
    if !some(observations, |it| it.input_tokens) {
        return Some("no observation has tokens of the request");
    }
    (!some(observations, |it| it.output_tokens))
        .then_some("no observation has tokens of the answer")
}

/// That no observation has a cost.
pub(crate) fn without_cost(observations: &[ObservationRow]) -> Option<&'static str> {
    (!some(observations, |it| it.cost_usd)).then_some("no observation has a cost")
}

fn some(observations: &[ObservationRow], of: fn(&ObservationRow) -> Option<f64>) -> bool {
    observations.iter().filter_map(of).any(|it| it > 0.0)
}

/// Whether a model costs nothing; one that the catalogue lacks may.
pub(crate) fn costs_nothing(catalogue: &Catalogue, model: &str) -> bool {
    catalogue.model(model).is_none_or(|model| model.via.iter().all(is_free))
}

fn report(
    model: &str,
    found: Option<&Found>,
    waited: Duration,
    problems: &[String],
    context: &Context,
) -> anyhow::Result<Exit> {
    context.printer.json(&json!({
        "model": model,
        "trace": found.map(|(trace, _)| trace),
        "observations": found.map(|(_, observations)| observations),
        "waited_s": waited.as_secs_f64(),
        "problems": problems,
    }))?;
    if let Some((trace, observations)) = found {
        context.printer.text(&view::traces(std::slice::from_ref(trace)));
        context.printer.text(&format!("\n{}", view::observations(observations)));
        context.printer.note(&format!("there after {:.1} s", waited.as_secs_f64()));
    }
    for problem in problems {
        context.printer.failure(problem);
    }
    Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Only looks, at anybody's traces.
async fn query(client: &Client, context: &Context) -> anyhow::Result<Exit> {
    let traces = find::newest(client, None, None, SHOWN).await?;
    let newest = match traces.first() {
        Some(trace) => find::whole(client, &TraceId::new(&*trace.id)).await?,
        None => None,
    };
    let observations = newest.map(|(_, observations)| observations).unwrap_or_default();
    context.printer.json(&json!({ "traces": traces, "observations": observations }))?;
    if traces.is_empty() {
        context.printer.failure("there is no trace");
        return Ok(Exit::Failed);
    }
    context.printer.text(&view::traces(&traces));
    context.printer.text(&format!("\n{}", view::observations(&observations)));
    Ok(Exit::Ok)
}

/// The cheapest chat model whose provider is configured; where none is, the proxy stands in for all of them.
/// Names that end in `-local` are models on GPUs of ours, which would have to start first.
fn cheapest(catalogue: &Catalogue, is_set: impl Fn(&str) -> bool) -> Option<&Model> {
    let price = |via: &Via| via.input + via.output;
    let is_cloud = |model: &Model| model.mode == "chat" && !model.name.ends_with("-local");
    let offers = catalogue.offers(is_set);
    let offered = offers.iter().filter(|offer| is_cloud(offer.model));
    let offered = offered.min_by(|a, b| price(a.via).total_cmp(&price(b.via)));
    offered.map(|offer| offer.model).or_else(|| {
        let first = |model: &Model| model.via.first().map_or(f64::INFINITY, price);
        let models = catalogue.models.iter().filter(|model| is_cloud(model));
        models.min_by(|a, b| first(a).total_cmp(&first(b)))
    })
}

fn is_free(via: &Via) -> bool {
    via.input + via.output == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_a_cheap_model_that_is_there() {
        let catalogue = Catalogue::builtin().unwrap();
        let name = |set: &[&str]| {
            cheapest(&catalogue, |name| set.contains(&name)).map(|model| model.name.clone())
        };
        let by_openai = name(&["OPENAI_API_KEY"]).unwrap();
        let offered = catalogue.offers(|name| name == "OPENAI_API_KEY");
        let one = offered.iter().find(|offer| offer.model.name == by_openai).unwrap();
        let is_chat = offered.iter().filter(|offer| offer.model.mode == "chat");
        let price = |via: &Via| via.input + via.output;
        assert!(is_chat.clone().count() > 1);
        assert!(is_chat.clone().all(|offer| price(offer.via) >= price(one.via)));
        assert!(name(&["GROQ_API_KEY"]).is_some_and(|name| name != by_openai));
        assert!(name(&[]).is_some());
    }

    #[test]
    fn a_trace_of_somebody_else_or_without_numbers_is_not_taken() {
        let asked = Asked::new();
        let trace = TraceRow {
            id: asked.id.to_string(),
            timestamp: "2026-01-02T03:04:05Z".parse().unwrap(),
            name: Some(NAME.into()),
            session: Some(asked.session.clone()),
            tags: Vec::new(),
            latency_s: None,
            cost_usd: None,
        };
        let mut observation = ObservationRow {
            id: "o".into(),
            kind: "GENERATION".into(),
            name: None,
            model: None,
            input_tokens: Some(11.0),
            output_tokens: Some(7.0),
            cost_usd: Some(0.1),
            latency_s: Some(1.0),
            level: None,
            status: None,
            owner: None,
        };
        let problems = |trace: &TraceRow, it: &ObservationRow, is_free| {
            asked.problems(trace, std::slice::from_ref(it), is_free).len()
        };
        assert_eq!(problems(&trace, &observation, false), 0);
        let other = TraceRow { session: None, ..trace.clone() };
        assert_eq!(problems(&other, &observation, false), 1);
        observation.cost_usd = None;
        assert_eq!(problems(&trace, &observation, false), 1);
        assert_eq!(problems(&trace, &observation, true), 0);
        observation.output_tokens = Some(0.0);
        assert_eq!(problems(&trace, &observation, true), 1);
    }
}
