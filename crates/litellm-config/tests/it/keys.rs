//! The hook that checks keys, in the real proxy of both version sets.

use std::{path::PathBuf, time::Duration};

use goat_keys::{Claims, RevokedRuns, SigningKeys};
use jiff::Timestamp;
use litellm_config::{VersionSet, hook};
use serde_json::json;

use crate::support::{
    proxy::{Boot, LiteLlm, MASTER_KEY, Proxy, Setup, environment, until},
    upstream::Upstream,
};

const CONFIG: &str = r#"
model_list:
  - model_name: m
    litellm_params: {model: hosted_vllm/mine, api_base: "{up}/v1", api_key: k}
    model_info: {input_cost_per_token: 0.01, output_cost_per_token: 0.01}
  - model_name: other
    litellm_params: {model: hosted_vllm/other, api_base: "{up}/v1", api_key: k}
litellm_settings:
  callbacks: [langfuse]
  enable_post_custom_auth_checks: true
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  disable_model_info_refresh: true
  custom_auth: goat_auth.user_api_key_auth
  custom_auth_run_common_checks: true
"#;

/// Every kind of route that a task has no business with.
const ADMIN: &[(&str, &str)] = &[
    ("GET", "/health"),
    ("GET", "/health/readiness/details"),
    ("GET", "/get/config/callbacks"),
    ("GET", "/key/list"),
    ("GET", "/user/list"),
    ("GET", "/spend/logs"),
    ("GET", "/global/spend"),
    ("GET", "/config/yaml"),
    ("GET", "/active/callbacks"),
    ("POST", "/config/update"),
    ("POST", "/key/generate"),
    ("POST", "/key/info"),
    ("POST", "/user/new"),
    ("POST", "/team/new"),
    ("POST", "/model/new"),
    ("POST", "/model/delete"),
    ("POST", "/openai/chat/completions"),
    ("POST", "/anthropic/v1/messages"),
    ("POST", "/v1/files"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/rerank"),
    ("GET", "/v1/mcp/server"),
];

struct Scene<'l> {
    upstream: Upstream,
    keys: SigningKeys,
    revoked: PathBuf,
    proxy: Proxy<'l>,
    _directory: tempfile::TempDir,
}

async fn scene(litellm: &LiteLlm) -> Scene<'_> {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(hook::FILE_NAME), hook::source()).unwrap();
    // A key that was rotated: the old one still verifies.
    let keys = SigningKeys::generate().unwrap();
    let rotated = keys.rotated().unwrap();
    let revoked = directory.path().join("revoked");
    let mut env = environment(&upstream);
    let more = [
        (hook::SIGNING_KEY_VARIABLE, rotated.expose().to_string()),
        (hook::REVOKED_RUNS_VARIABLE, revoked.display().to_string()),
        ("LANGFUSE_HOST", upstream.url.clone()),
        ("LANGFUSE_PUBLIC_KEY", "pk".to_owned()),
        ("LANGFUSE_SECRET_KEY", "sk".to_owned()),
    ];
    env.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let setup = Setup { config: CONFIG.replace("{up}", &upstream.url), env, ..Setup::default() };
    match litellm.boot(directory.path(), &setup).await {
        Boot::Up(proxy) => Scene { upstream, keys, revoked, proxy, _directory: directory },
        Boot::Exited { code, log } => panic!("it does not start ({code}):\n{log}"),
    }
}

fn claims(run: &str) -> Claims {
    let (run, task) = (run.parse().unwrap(), "task-1".parse().unwrap());
    Claims::for_trial(run, task, Duration::from_secs(600), Timestamp::now()).with_models(["m"])
}

impl Scene<'_> {
    fn token(&self, claims: &Claims) -> String {
        self.keys.issue(claims).unwrap().expose().to_owned()
    }

    async fn chat(&self, key: &str, model: &str) -> (u16, String) {
        self.proxy.chat_as(key, &json!({"model": model, "max_tokens": 7})).await
    }
}

async fn hook_holds(set: &'static str) {
    let litellm = tokio::task::block_in_place(|| LiteLlm::start(set));
    let scene = scene(&litellm).await;
    what_is_granted(&scene).await;
    what_is_refused(&scene).await;
    limits(&scene, set).await;
    admin_routes(&scene).await;
    revocation(&scene).await;
    traces(&scene).await;
    let log = scene.proxy.log();
    assert!(!log.contains(MASTER_KEY), "the log holds the master key");
    assert!(!log.contains("sk-goat1."), "the log holds a token");
}

async fn what_is_granted(scene: &Scene<'_>) {
    let good = scene.token(&claims("run-1"));
    let (status, text) = scene.chat(&good, "m").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(scene.chat(MASTER_KEY, "other").await.0, 200);
    for path in ["/v1/models", "/model/info"] {
        let (status, text) = scene.proxy.get(path, &good).await;
        assert_eq!(status, 200, "{path}: {text}");
    }
    let (status, text) = scene.chat(&good, "other").await;
    assert_eq!(status, 403, "another model than granted: {text}");
    let none = scene.token(&claims("run-1").with_models(Vec::<String>::new()));
    assert_eq!(scene.chat(&none, "m").await.0, 403, "a token for no model");
}

async fn what_is_refused(scene: &Scene<'_>) {
    let good = scene.token(&claims("run-1"));
    let mut expired = claims("run-1");
    expired.expires_at = Timestamp::now();
    let expired = scene.token(&expired);
    let forged =
        SigningKeys::generate().unwrap().issue(&claims("run-1")).unwrap().expose().to_owned();
    let (head, mac) = good.rsplit_once('.').unwrap();
    let other_claims = scene.token(&claims("run-2"));
    // The claims of one token with the signature of another: another run's.
    let mixed = format!("{}.{mac}", other_claims.rsplit_once('.').unwrap().0);
    let refused = [
        ("expired", expired.as_str(), "the key has expired"),
        ("another key's", &forged, "the key is not valid"),
        ("another run's signature", &mixed, "the key is not valid"),
        ("cut", head, "the key is not valid"),
        ("wrong", "sk-1234567890", "the key is not valid"),
        ("a token's beginning", "sk-goat1.x.y.z", "the key is not valid"),
        ("a master key and more", &format!("{MASTER_KEY}x"), "the key is not valid"),
    ];
    for (what, key, word) in refused {
        let (status, text) = scene.chat(key, "m").await;
        assert!(status == 401 && text.contains(word), "{what}: {status} {text}");
    }
    let url = format!("{}/v1/chat/completions", scene.proxy.url);
    let status = scene.proxy.fresh().without_key(&url).await;
    assert_eq!(status, 401, "without a key");
}

async fn limits(scene: &Scene<'_>, set: &str) {
    let slow =
        scene.token(&claims("run-1").with_rpm(2).with_id(goat_keys::TokenId::generate().unwrap()));
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(scene.chat(&slow, "m").await.0);
    }
    assert_eq!(answers, [200, 200, 429, 429], "two requests a minute");
    // A call costs 0.18 US dollars.
    let poor = scene.token(&claims("run-1").with_budget_usd(0.3));
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(scene.chat(&poor, "m").await.0);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let refusal = if set == "langfuse-2" { 429 } else { 422 };
    assert!(answers[0] == 200 && answers[5] == refusal, "30 cents are kept to: {answers:?}");
}

async fn admin_routes(scene: &Scene<'_>) {
    let good = scene.token(&claims("run-1"));
    let mut open = Vec::new();
    for (method, path) in ADMIN {
        let (status, text) = if *method == "GET" {
            scene.proxy.get(path, &good).await
        } else {
            scene.proxy.post(path, &good, &json!({"model": "m", "messages": []})).await
        };
        // 404 and 405: this version has no such route.
        if !matches!(status, 401 | 403 | 404 | 405) {
            open.push(format!("{method} {path}: {status} {text}"));
        }
    }
    assert!(open.is_empty(), "{open:#?}");
}

async fn revocation(scene: &Scene<'_>) {
    let mut revoked = RevokedRuns::default();
    revoked.add("run-9".parse().unwrap(), Timestamp::now() + Duration::from_secs(900));
    let gone = scene.token(&claims("run-9"));
    assert_eq!(scene.chat(&gone, "m").await.0, 200);
    revoked.save(&scene.revoked).unwrap();
    let (status, text) = scene.chat(&gone, "m").await;
    assert!(status == 401 && text.contains("revoked"), "{status} {text}");
    assert_eq!(scene.chat(&scene.token(&claims("run-1")), "m").await.0, 200, "another run goes on");
    std::fs::write(&scene.revoked, "not a line of two words that one reads\n").unwrap();
    assert_eq!(scene.chat(&gone, "m").await.0, 401, "a broken list lets nobody in");
    std::fs::remove_file(&scene.revoked).unwrap();
}

/// Run and task of the token reach the trace.
async fn traces(scene: &Scene<'_>) {
    let token = scene.token(&claims("run-traced"));
    assert_eq!(scene.chat(&token, "m").await.0, 200);
    let names = |seen: &crate::support::upstream::Seens| {
        let sent = seen.all().into_iter().filter(|it| it.path.starts_with("/api/public/"));
        sent.into_iter().any(|it| it.raw.contains("run-traced/task-1"))
    };
    let came = until(&scene.upstream.seen, Duration::from_secs(30), names).await;
    assert!(came, "no trace names the token's run and task");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_holds_in_the_real_proxy_langfuse_2() {
    hook_holds("langfuse-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_holds_in_the_real_proxy_langfuse_3() {
    hook_holds("langfuse-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_signing_key_the_proxy_does_not_start() {
    let set = VersionSet::default_set();
    let litellm = tokio::task::block_in_place(|| LiteLlm::start(&set.name));
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(hook::FILE_NAME), hook::source()).unwrap();
    let config = CONFIG.replace("{up}", &upstream.url).replace("  callbacks: [langfuse]\n", "");
    let setup = Setup { config, env: environment(&upstream), ..Setup::default() };
    match litellm.boot(directory.path(), &setup).await {
        Boot::Up(_) => panic!("it starts"),
        Boot::Exited { log, .. } => {
            assert!(log.contains("GOAT_TASK_SIGNING_KEY is not set"), "{log}")
        }
    }
}
