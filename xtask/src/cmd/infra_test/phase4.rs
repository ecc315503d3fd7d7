//! Phase 4: a call through the proxy, and what Langfuse knows of it.

use std::future::ready;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::Value;

use super::{
    Args,
    check::CheckId,
    door::{TASK, TaskKey},
    phase::Phase,
    report::Report,
    within,
};
use crate::{
    cmd::traces::{
        status::Counts,
        verify::{Asked, Found, costs_nothing, without_cost, without_tokens},
    },
    context::Context,
    reach::Services,
};

/// What the question's right answers hold, in lower case.
const RIGHT: [&str; 5] = ["goat", "sheep", "lamb", "ewe", "ram"];

pub(super) async fn run(args: &Args, context: &Context, report: &mut Report<'_>) {
    let services = match Services::new(&args.services, context) {
        Ok(services) => services,
        Err(error) => {
            report.check(CheckId::Call, ready(Err(error))).await;
            for check in CheckId::of_phase(Phase::Phase4).filter(|it| *it != CheckId::Call) {
                report.needs(check, CheckId::Call);
            }
            return;
        }
    };
    let (asked, mut key) = (Asked::new(), None);
    let called = report.check(CheckId::Call, call(args, &services, &asked, &mut key)).await;
    match key.filter(|_| called) {
        Some(key) => traced(args, &services, &asked, &key, report).await,
        None => OF_THE_TRACE.into_iter().for_each(|check| report.needs(check, CheckId::Call)),
    }
    report.check(CheckId::TracesLost, within(args.patience(), lost(&services))).await;
}

const OF_THE_TRACE: [CheckId; 5] = [
    CheckId::Trace,
    CheckId::TraceSession,
    CheckId::TraceTokens,
    CheckId::TraceCost,
    CheckId::TraceOwner,
];

/// As an agent calls: with a key of its own, which this makes.
async fn call(
    args: &Args,
    services: &Services<'_>,
    asked: &Asked,
    key: &mut Option<TaskKey>,
) -> anyhow::Result<String> {
    let model = args.model.model.as_str();
    let made = key.insert(TaskKey::issue(services, model)?);
    let proxy = services.litellm_as(made.text.as_str().into()).await?;
    let answer = within(args.patience(), asked.call(&proxy, model)).await;
    let answer = answer.with_context(|| format!("`{model}` was not answered"))?;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().trim();
    let lower = text.to_lowercase();
    ensure!(RIGHT.iter().any(|word| lower.contains(word)), "the answer is wrong: `{text}`");
    Ok(format!("`{text}`, by {}", said_model(&answer)))
}

fn said_model(answer: &Value) -> &str {
    answer["model"].as_str().unwrap_or("a model without a name")
}

async fn traced(
    args: &Args,
    services: &Services<'_>,
    asked: &Asked,
    key: &TaskKey,
    report: &mut Report<'_>,
) {
    let mut found = None;
    let is_there = report.check(CheckId::Trace, trace(args, services, asked, &mut found)).await;
    let Some((trace, calls)) = found.filter(|_| is_there) else {
        let others = OF_THE_TRACE.into_iter().filter(|check| *check != CheckId::Trace);
        return others.for_each(|check| report.needs(check, CheckId::Trace));
    };
    let session = trace.session.clone().unwrap_or_default();
    report
        .check(CheckId::TraceSession, ready(unless(asked.without_session(&trace), session)))
        .await;
    let sum = |of: fn(&crate::cmd::traces::ObservationRow) -> Option<f64>| -> f64 {
        calls.iter().filter_map(of).sum()
    };
    let tokens = format!("{} in, {} out", sum(|it| it.input_tokens), sum(|it| it.output_tokens));
    report.check(CheckId::TraceTokens, ready(unless(without_tokens(&calls), tokens))).await;
    let cost = format!("{} US dollars", sum(|it| it.cost_usd));
    let is_free = args.services.sources.catalogue();
    let is_free = is_free.map(|catalogue| costs_nothing(&catalogue, &args.model.model));
    let cost = match is_free {
        Ok(true) => Ok("the model costs nothing".to_owned()),
        Ok(false) => unless(without_cost(&calls), cost),
        Err(error) => Err(error),
    };
    report.check(CheckId::TraceCost, ready(cost)).await;
    let owners: Vec<_> = calls.iter().filter_map(|call| call.owner.as_deref()).collect();
    report.check(CheckId::TraceOwner, ready(owner(&owners, key))).await;
}

fn unless(problem: Option<&'static str>, answer: String) -> anyhow::Result<String> {
    problem.map_or(Ok(answer), |problem| Err(anyhow!(problem)))
}

async fn trace(
    args: &Args,
    services: &Services<'_>,
    asked: &Asked,
    into: &mut Option<Found>,
) -> anyhow::Result<String> {
    let client = services.langfuse().await?;
    let limit = args.patience();
    let (found, last) = asked.wait(&client, limit).await;
    let Some(found) = found else {
        bail!("not within {} s: {last}", limit.as_secs());
    };
    let calls = found.1.len();
    *into = Some(found);
    Ok(format!("trace {}, {calls} call(s)", asked.id))
}

fn owner(found: &[&str], key: &TaskKey) -> anyhow::Result<String> {
    let wanted = format!("{}/{TASK}", key.run);
    let all = if found.is_empty() { "nobody".to_owned() } else { found.join(", ") };
    ensure!(found.contains(&&*wanted), "it names {all}, not {wanted}");
    Ok(wanted)
}

async fn lost(services: &Services<'_>) -> anyhow::Result<String> {
    let counts = Counts::of(&services.litellm().await?).await?;
    let Counts { taken, waiting, refused, dropped, untraced, .. } = counts;
    ensure!(
        refused + dropped + untraced == 0,
        "of {taken} events {refused} were refused by Langfuse, {dropped} had no room; of {untraced} answered \
         calls no trace came"
    );
    Ok(format!("{taken} events taken, {waiting} waiting, none lost"))
}
