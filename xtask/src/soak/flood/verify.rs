//! What became of the traces: by the database's own account, and by the spool's.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    PATIENCE,
    load::{Answers, trace_id},
    scene::{Scene, run_id},
};
use crate::{services, target::Target};

/// How often we look.
const POLL: Duration = Duration::from_millis(500);
/// What the callback has in memory is here by then.
const QUIET: Duration = Duration::from_secs(5);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(40);

/// What is there in the end.
#[derive(Debug, Default, Serialize)]
pub(super) struct Traces {
    /// Numbers whose trace is there, with their own answer.
    once: u64,
    /// Numbers whose trace has more than one answered call: asked again after a kill.
    again: u64,
    /// Numbers without a trace.
    missing: Vec<u64>,
    /// Numbers whose trace holds another answer, or whose answered calls are more than their attempts.
    wrong: Vec<u64>,
    /// By the spool's count.
    counts: Counts,
}

/// As the supervisor of the proxy counts.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Counts {
    waiting: u64,
    delivered: u64,
    refused: u64,
    dropped: u64,
    awaited: u64,
    untraced: u64,
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { once, again, missing, wrong, counts } = self;
        let Counts { waiting, delivered, refused, dropped, awaited: _, untraced } = counts;
        write!(
            f,
            "traces there once {once}, of them of calls that were made twice {again}, wrong {}, missing {}, and told \
             as lost {untraced}; events delivered {delivered}, waiting {waiting}, refused {refused}, dropped {dropped}",
            wrong.len(),
            missing.len()
        )
    }
}

/// Waits until nothing is under way any more, and looks.
pub(super) async fn settled(scene: &Scene, requests: u64, seed: u64) -> anyhow::Result<Traces> {
    let client = services::http(Target::Local, ANSWER)?;
    let began = Instant::now();
    let mut last = (0, Instant::now());
    loop {
        let counts = counts(&client, scene).await?;
        let events = counts.delivered + counts.refused + counts.dropped;
        if events != last.0 {
            last = (events, Instant::now());
        }
        if counts.waiting == 0 && counts.awaited == 0 && last.1.elapsed() > QUIET {
            let found = found(&client, scene, seed).await?;
            return Ok(compare(&found, requests, seed, counts));
        }
        ensure!(began.elapsed() < PATIENCE, "still waiting: {counts:?}");
        tokio::time::sleep(POLL).await;
    }
}

async fn counts(client: &Client, scene: &Scene) -> anyhow::Result<Counts> {
    let url = format!("{}/goat/traces/status", scene.proxy_url());
    let key = scene.value("LITELLM_MASTER_KEY");
    let answer = client.get(url).bearer_auth(key).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}

/// The answers of each trace.
async fn found(
    client: &Client,
    scene: &Scene,
    seed: u64,
) -> anyhow::Result<BTreeMap<String, Vec<Option<String>>>> {
    #[derive(Deserialize)]
    struct Table {
        rows: Vec<Vec<Option<String>>>,
        truncated: bool,
    }
    let sql = format!(
        "SELECT t.id, o.output::text FROM traces t LEFT JOIN observations o
         ON o.trace_id = t.id AND o.type = 'GENERATION' AND o.level <> 'ERROR'
         WHERE t.session_id = '{}'",
        run_id(seed)
    );
    let url = format!("{}/goat/postgres/query", scene.langfuse_url());
    let asked = client.post(url).bearer_auth(scene.value("POSTGRES_PASSWORD"));
    let answer = asked.json(&json!({ "sql": sql })).send().await?.error_for_status()?;
    let table: Table = answer.json().await?;
    ensure!(!table.truncated, "the database has more rows than it tells");
    let mut found: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for row in table.rows {
        let [id, output] = <[_; 2]>::try_from(row).ok().context("another number of columns")?;
        let answers = found.entry(id.context("a trace has an id")?).or_default();
        answers.push(output.map(|output| said(&output)));
    }
    Ok(found)
}

/// The text of a generation's output.
fn said(output: &str) -> String {
    let value: Value = serde_json::from_str(output).unwrap_or_default();
    value["content"].as_str().map_or_else(|| output.to_owned(), str::to_owned)
}

fn compare(
    found: &BTreeMap<String, Vec<Option<String>>>,
    requests: u64,
    seed: u64,
    counts: Counts,
) -> Traces {
    let mut traces = Traces { counts, ..Traces::default() };
    for number in 0..requests {
        let own = Some(number.to_string());
        match found.get(&trace_id(seed, number)).map(Vec::as_slice) {
            None | Some([None]) => traces.missing.push(number),
            Some(answers) if answers.iter().any(|answer| *answer != own) => {
                traces.wrong.push(number);
            }
            Some(answers) => {
                traces.once += 1;
                traces.again += u64::from(answers.len() > 1);
            }
        }
    }
    traces
}

/// Whether all is as it must be.
pub(super) fn judge(requests: u64, answers: &Answers, traces: &Traces) -> anyhow::Result<()> {
    ensure!(answers.wrong == 0 && answers.right == requests, "a request got another's answer");
    ensure!(traces.wrong.is_empty(), "traces hold another answer: {:?}", traces.wrong);
    // One that was answered to the proxy's door and to nobody behind it is told as lost, and is there by its repetition.
    let (missing, told) = (traces.missing.len() as u64, traces.counts.untraced);
    ensure!(
        missing <= told && told <= missing + answers.again.min(super::load::PARALLEL as u64),
        "{missing} traces are missing and {told} are told as lost: {:?}",
        traces.missing
    );
    ensure!(
        traces.again <= answers.again,
        "{} calls are there twice, and {} were made again",
        traces.again,
        answers.again
    );
    Ok(())
}
