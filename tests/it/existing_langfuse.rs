//! The proxy for a Langfuse that is there already, of version 4: the real LiteLLM of its version set, and a server of
//! this machine that takes spans as version 4 does.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use it::Machine;
use serde_json::Value;

use crate::{
    infra_test,
    keys::{self, Outside},
    langfuse_4::{KEYS, Langfuse},
};

/// Traces may be on their way for so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(machine: &Machine, keys: Option<[&str; 2]>, args: &[&str]) -> Output {
    let mut command = machine.xtask(&[&["--target", "local", "--output", "json"], args].concat());
    if let Some([public, secret]) = keys {
        command.env("LANGFUSE_PUBLIC_KEY", public).env("LANGFUSE_SECRET_KEY", secret);
    }
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(machine: &Machine, args: &[&str]) -> Value {
    let output = run(machine, Some(KEYS), args);
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn traces_go_to_an_existing_langfuse_through_the_spool_and_by_its_version_set() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (langfuse, url) = Langfuse::start(&runtime);
    let machine = Machine::new();
    let file = machine.path().join("values.env").display().to_string();
    let machine = machine.with("GOAT_ENV_FILE", file).with("NO_PROXY", "127.0.0.1,localhost");
    // The same programs in half the time: what is measured here is not their speed.
    let machine = machine.with("CARGO_PROFILE_SERVICE_OPT_LEVEL", "0");
    succeed(&machine, &["setup", "--yes"]);

    // What would lose traces is told before anything is built.
    let deploy = ["deploy", "--wait", "--langfuse-url", &url];
    let refused = |keys, more: &[&str], wanted: &str| {
        let output = run(&machine, keys, &[&deploy[..], more].concat());
        assert!(
            !output.status.success() && stderr(&output).contains(wanted),
            "{}",
            stderr(&output)
        );
        assert_eq!(run(&machine, None, &["urls"]).status.code(), Some(1), "something was deployed");
    };
    refused(None, &[], "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY not set");
    refused(Some([KEYS[0], "sk-lf-wrong"]), &[], "takes no traces with these keys");
    refused(Some(KEYS), &["--set", "langfuse-2"], "which Langfuse 4 does not");
    refused(Some(KEYS), &["--only", "langfuse"], "is not sent");

    let deployed = succeed(&machine, &deploy);
    assert_eq!(deployed["traces_to"], Value::from(url.clone()), "{deployed}");
    let names: Vec<_> =
        deployed["functions"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["litellm"]);
    let again = succeed(&machine, &deploy);
    assert_eq!(again["unchanged"], true, "{again}");

    // Calls of an evaluation, while Langfuse is away: their traces wait on disk.
    *langfuse.is_down.lock().unwrap() = true;
    let eval = succeed(&machine, &["eval", "--batch", "fixtures/benchmarks/smoke.json"]);
    let run_id = eval["run_id"].as_str().unwrap_or_else(|| panic!("{eval}"));
    let trials = eval["results"].as_array().unwrap();
    assert!(langfuse.spans().is_empty());
    *langfuse.is_down.lock().unwrap() = false;
    let traced = langfuse.of_session(run_id, trials.len());
    for trial in trials {
        let task = trial["id"].as_str().unwrap();
        assert!(traced.iter().any(|name| name == task), "{task} is missing: {traced:?}");
        let link = trial["attempts"][0]["trace_id"].as_str().unwrap();
        assert!(langfuse.spans().iter().any(|span| span.trace_id == link), "{task}: {link}");
    }
    let spans = langfuse.spans().clone();
    for span in &spans {
        let usage = span.text("langfuse.observation.usage_details").unwrap_or_default();
        let usage: Value = serde_json::from_str(usage).unwrap();
        assert!(usage["input"].as_u64() > Some(0) && usage["output"].as_u64() > Some(0), "{usage}");
        let claims = span.text("langfuse.observation.metadata.user_api_key_auth_metadata").unwrap();
        let claims: Value = serde_json::from_str(claims).unwrap();
        assert_eq!(claims["run"], Value::from(run_id), "run and task are the token's");
    }
    let mut ids: Vec<_> = spans.iter().map(|span| &span.span_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "a span came twice");

    // Each call was answered and its trace came: nothing is missing, nothing was lost.
    let counts = settled(&machine);
    assert_eq!(counts["delivered"], Value::from(spans.len()), "{counts}");
    for name in ["refused", "dropped", "untraced", "awaited"] {
        assert_eq!(counts[name], 0, "{counts}");
    }

    // The door counts what this LiteLLM says that answers cost, streams too.
    let text = std::fs::read_to_string(machine.path().join("values.env")).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let values: Vec<_> = text.lines().filter_map(pair).collect();
    let mut urls = succeed(&machine, &["urls"]);
    urls["langfuse"] = Value::from(url.clone());
    let outside = Outside::new(&machine, &values, &urls);
    keys::a_budget_ends(&outside);
    keys::a_stream_is_counted(&outside);

    // The checks are about that Langfuse, and each can fail.
    let machine = machine.with("LANGFUSE_PUBLIC_KEY", KEYS[0]).with("LANGFUSE_SECRET_KEY", KEYS[1]);
    infra_test::prove_existing(&machine);

    // Without the flag they would go elsewhere, and that is said.
    let dry = run(&machine, None, &["deploy", "--dry-run"]);
    assert!(
        stderr(&dry).contains(&format!("traces went to {url}; from now on")),
        "{}",
        stderr(&dry)
    );
    let logs = run(&machine, None, &["logs", "--tail", "20000"]);
    let said = String::from_utf8_lossy(&logs.stdout);
    assert!(!said.contains(KEYS[1]), "the key is in the log");
    succeed(&machine, &["stop", "--yes"]);
}

/// The spool's counts, as soon as nothing is under way.
fn settled(machine: &Machine) -> Value {
    let began = Instant::now();
    loop {
        let counts = succeed(machine, &["traces", "status"]);
        if counts["waiting"] == 0 && counts["awaited"] == 0 {
            return counts;
        }
        assert!(began.elapsed() < PATIENCE, "{counts}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
