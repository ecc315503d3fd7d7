//! The generated configuration in the real proxy of both version sets: it serves its models at the catalogue's prices,
//! traces them, and asks nothing by itself. `GOAT_LITELLM_QUIET_SECONDS` says for how long nothing may come (12 without
//! it; `cargo xtask soak quiet-proxy` takes eleven minutes, which is two rounds of LiteLLM's own timer).

use std::time::Duration;

use goat_keys::{Claims, SigningKeys};
use jiff::Timestamp;
use litellm_config::{
    Catalogue, VersionSet,
    generate::{OwnModel, StandIn, Wanted, generate},
    hook,
};
use serde_json::json;

use crate::support::{
    proxy::{Boot, LiteLlm, MASTER_KEY, Setup, environment, until},
    upstream::{Seens, Upstream},
};

/// How soon a proxy without the switch asks.
const PROBED_WITHIN: Duration = Duration::from_secs(30);

fn quiet_for() -> Duration {
    let told = std::env::var("GOAT_LITELLM_QUIET_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(12))
}

fn config(set: &VersionSet, upstream: &Upstream) -> String {
    let catalogue = Catalogue::builtin().unwrap();
    let api_base = format!("{}/v1", upstream.url);
    let key_variable = "STAND_IN_KEY".to_owned();
    let stand_in = StandIn { api_base: api_base.clone(), key_variable: key_variable.clone() };
    let mut wanted = Wanted::with_stand_in(set, &catalogue, stand_in);
    wanted.own.push(OwnModel {
        name: "qwen3-4b-local".to_owned(),
        served_name: "Qwen/Qwen3-4B-Instruct-2507".to_owned(),
        api_base,
        key_variable,
        start_up: Duration::from_secs(900),
        context: 32_768,
        max_output: None,
        tools: true,
    });
    generate(&wanted).render()
}

fn setup(config: String, upstream: &Upstream, keys: &SigningKeys) -> Setup {
    let mut env = environment(upstream);
    let more = [
        ("STAND_IN_KEY", "key-of-the-stand-in"),
        (hook::SIGNING_KEY_VARIABLE, &keys.expose()),
        ("LANGFUSE_HOST", &upstream.url),
        ("LANGFUSE_PUBLIC_KEY", "pk"),
        ("LANGFUSE_SECRET_KEY", "sk"),
    ];
    env.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Setup { config, env, ..Setup::default() }
}

/// Anything that the model's server was asked.
fn asked(seen: &Seens) -> usize {
    seen.all().iter().filter(|it| !it.path.starts_with("/api/public/")).count()
}

async fn serves_and_stays_quiet(set: &'static str) {
    let set = VersionSet::named(set).unwrap();
    let litellm = tokio::task::block_in_place(|| LiteLlm::start(&set.name));
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(hook::FILE_NAME), hook::source()).unwrap();
    let keys = SigningKeys::generate().unwrap();
    let boot =
        litellm.boot(directory.path(), &setup(config(set, &upstream), &upstream, &keys)).await;
    let Boot::Up(proxy) = boot else { panic!("it does not start") };
    let quiet = quiet_for();
    let broken = until(&upstream.seen, quiet, |seen| asked(seen) > 0).await;
    assert!(!broken, "it asked by itself: {:#?}", upstream.seen.all());
    println!(
        "LiteLLM {}: the generated configuration asked nothing in {} s",
        set.litellm,
        quiet.as_secs()
    );

    // 11 tokens in, 7 out.
    let cost = proxy.cost("gpt-5-nano").await.unwrap();
    assert!((cost - (11.0 * 5e-8 + 7.0 * 4e-7)).abs() < 1e-12, "{cost}");
    let (status, text) = proxy.get("/v1/models", MASTER_KEY).await;
    assert!(status == 200 && text.contains("qwen3-4b-local"), "{text}");
    let (run, task) = ("run-1".parse().unwrap(), "task-1".parse().unwrap());
    let claims = Claims::for_trial(run, task, Duration::from_secs(60), Timestamp::now())
        .with_models(["qwen3-4b-local"]);
    let token = keys.issue(&claims).unwrap();
    let ask = |model: &str| json!({"model": model, "max_tokens": 7, "temperature": 0.3});
    assert_eq!(proxy.chat_as(token.expose(), &ask("qwen3-4b-local")).await.0, 200);
    assert_eq!(proxy.chat_as(token.expose(), &ask("gpt-5-nano")).await.0, 403);
    let path = set.sends.path();
    let traced =
        until(&upstream.seen, Duration::from_secs(30), |seen| seen.count("POST", path) > 0).await;
    assert!(traced, "no trace came by {path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generated_configuration_serves_traces_and_is_quiet_langfuse_2() {
    serves_and_stays_quiet("langfuse-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generated_configuration_serves_traces_and_is_quiet_langfuse_3() {
    serves_and_stays_quiet("langfuse-3").await;
}

/// The control: without the switch the newer proxy asks, so that the tests above could fail.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_switch_the_newer_proxy_asks_at_once() {
    let set = VersionSet::named("langfuse-3").unwrap();
    let litellm = tokio::task::block_in_place(|| LiteLlm::start(&set.name));
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(hook::FILE_NAME), hook::source()).unwrap();
    let keys = SigningKeys::generate().unwrap();
    let config = config(set, &upstream)
        .replace("disable_model_info_refresh: true", "disable_model_info_refresh: false");
    let boot = litellm.boot(directory.path(), &setup(config, &upstream, &keys)).await;
    let Boot::Up(_proxy) = boot else { panic!("it does not start") };
    let probed =
        until(&upstream.seen, PROBED_WITHIN, |seen| seen.count("GET", "/v1/models") > 0).await;
    assert!(probed, "no probe came within 30 s: {:#?}", upstream.seen.all());
}
