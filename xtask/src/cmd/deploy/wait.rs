//! Waiting until the services answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::bail;
use goat_services::app::{LANGFUSE, LIFE_HEADER, LITELLM};
use reqwest::Client;

use crate::{context::Context, services, table};

/// One look; a function of Modal holds a request while its container starts.
const LOOK: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);
/// A look at what is about to be replaced: what does not answer by then need not be told from its successor.
const GLANCE: Duration = Duration::from_secs(2);

/// Containers by function, as their doors name them.
pub(super) type Lives = BTreeMap<String, String>;

/// Which containers answer now.
pub(super) async fn lives(
    urls: &BTreeMap<String, String>,
    context: &Context,
) -> anyhow::Result<Lives> {
    let client = services::http(context.choice.target, GLANCE)?;
    let mut lives = Lives::new();
    for (name, url) in urls {
        if let Ok(Some(life)) = look(&client, name, url).await {
            lives.insert(name.clone(), life);
        }
    }
    Ok(lives)
}

/// Returns when all of them answer, from other containers than those of `before`. What is waited for is said whenever
/// it changes.
pub(super) async fn until_healthy(
    urls: &BTreeMap<String, String>,
    before: &Lives,
    limit: Duration,
    context: &Context,
) -> anyhow::Result<BTreeMap<String, f64>> {
    let began = Instant::now();
    let client = services::http(context.choice.target, LOOK)?;
    let mut healthy = BTreeMap::new();
    let mut said = String::new();
    loop {
        let mut waits = Vec::new();
        for (name, url) in urls {
            if healthy.contains_key(name) {
                continue;
            }
            let looking = look(&client, name, url);
            tokio::pin!(looking);
            // A request is held while a container starts: who waits is told, if nothing else was said yet.
            let looked = match tokio::time::timeout(GLANCE, &mut looking).await {
                Ok(looked) => looked,
                Err(_) => {
                    if said.is_empty() {
                        said = "something".to_owned();
                        let left = limit.saturating_sub(began.elapsed()).as_secs();
                        context.printer.note(&format!("waiting for {name}; {left} s left"));
                    }
                    looking.await
                }
            };
            match looked {
                Ok(Some(life)) if before.get(name) == Some(&life) => {
                    waits.push(format!("{name} (the version before still answers)"));
                }
                Ok(_) => {
                    let took = began.elapsed().as_secs_f64();
                    context.printer.note(&format!("{name} answers after {}", table::seconds(took)));
                    healthy.insert(name.clone(), took);
                }
                Err(why) => waits.push(format!("{name} ({why})")),
            }
        }
        if waits.is_empty() {
            return Ok(healthy);
        }
        let waits = waits.join(", ");
        if began.elapsed() > limit {
            let seconds = limit.as_secs();
            bail!(
                "not healthy after {seconds} s: {waits}; `cargo xtask logs NAME` shows what a function prints"
            );
        }
        if waits != said {
            let left = limit.saturating_sub(began.elapsed()).as_secs();
            context.printer.note(&format!("waiting for {waits}; {left} s left"));
            said = waits;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The name of the container that answers, where its door gives one.
async fn look(client: &Client, name: &str, url: &str) -> Result<Option<String>, String> {
    let path = match name {
        LITELLM => "/health/readiness",
        LANGFUSE => "/api/public/health",
        _ => "/",
    };
    match client.get(format!("{url}{path}")).send().await {
        Ok(answer) if answer.status().is_success() => {
            let life = answer.headers().get(LIFE_HEADER).and_then(|life| life.to_str().ok());
            Ok(life.map(str::to_owned))
        }
        Ok(answer) => Err(format!("{path} answers {}", answer.status().as_u16())),
        Err(error) if error.is_timeout() => Err(format!("{path} does not answer yet")),
        Err(error) => Err(services::cause(&error)),
    }
}
