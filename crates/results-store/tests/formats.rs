//! What is written, and what older versions wrote.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::sync::Arc;

use eval_types::{Attempt, ModelSource, Outcome, Run, TokenUsage, Trial, TrialKey, Variant};
use eval_types::{Verdict, Verification};
use object_store::{local::LocalFileSystem, memory::InMemory};
use results_store::{Artifact, Error, Index, RunFiles, format::SummaryFile};

fn run() -> Run {
    Run {
        id: "20261124_030506_ab3d".parse().unwrap(),
        started_at: "2026-11-24T03:05:06Z".parse().unwrap(),
        finished_at: Some("2026-11-24T03:05:18.5Z".parse().unwrap()),
        target: "local".into(),
        environment: "goat".into(),
        benchmark: Some("fixtures/benchmarks/smoke.json".into()),
        model: "gpt-5-nano".into(),
        model_source: ModelSource::Replay,
        answered_by: "recordings in fixtures/llm (written by hand)".into(),
        mode: "baseline".into(),
        skills_dir: None,
        mcp_config: None,
        image: "debian_slim".into(),
        network: "open".into(),
        allowance: Default::default(),
        agent_sha256: "00".repeat(32),
        total_tasks: 1,
        total_trials: 1,
        parallel: 4,
        substitutions: vec![],
        error: None,
    }
}

fn trial() -> Trial {
    Trial {
        key: TrialKey::new("math-simple".parse().unwrap(), Variant::Baseline),
        prompt: "What is 17 * 23?".into(),
        model: "gpt-5-nano".into(),
        model_source: ModelSource::Replay,
        output: " 391\n".into(),
        stderr: String::new(),
        exit_code: Some(0),
        outcome: Outcome::Passed,
        reason: None,
        verification: Some(Verification {
            verdict: Verdict::Passed,
            check: "the answer holds `391`".into(),
            output: String::new(),
        }),
        started_at: "2026-11-24T03:05:07Z".parse().unwrap(),
        elapsed_s: 1.23456,
        total_s: 2.5,
        turns: Some(1),
        usage: Some(TokenUsage { input: 100, cached: 0, output: 20 }),
        cost_usd: None,
        attempts: vec![Attempt {
            number: 1,
            sandbox: Some("sb-1".into()),
            outcome: Outcome::Passed,
            reason: None,
            started_at: "2026-11-24T03:05:07Z".parse().unwrap(),
            elapsed_s: 2.5,
            exit_code: Some(0),
            cleanup_error: None,
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
        }],
    }
}

fn old(case: &str) -> RunFiles {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let store = LocalFileSystem::new_with_prefix(fixtures).unwrap();
    assert!(std::path::Path::new(fixtures).join(case).is_dir());
    RunFiles::new(Arc::new(store))
}

#[tokio::test]
async fn a_run_is_written_field_by_field_as_its_readers_expect() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let files = RunFiles::new(Arc::new(store));
    files.put_trial(&run().id, &trial()).await.unwrap();
    files.put_summary(&run(), &[trial()]).await.unwrap();
    let read = |name: &str| {
        std::fs::read_to_string(directory.path().join("20261124_030506_ab3d").join(name)).unwrap()
    };
    insta::assert_snapshot!("trial_file", read("math-simple-baseline.json"));
    insta::assert_snapshot!("summary_file", read("summary.json"));
}

#[tokio::test]
async fn a_run_is_read_back_as_it_was_written() {
    let files = RunFiles::new(Arc::new(InMemory::new()));
    files.put_trial(&run().id, &trial()).await.unwrap();
    files.put_summary(&run(), &[trial()]).await.unwrap();
    let stored = files.run(run().id.as_str()).await.unwrap();
    assert!(stored.complete);
    assert_eq!(stored.summary, SummaryFile::new(&run(), &[trial()]));
    assert_eq!(files.runs().await.unwrap(), [run().id.to_string()]);
}

#[tokio::test]
async fn artifacts_lie_beside_their_trial() {
    let files = RunFiles::new(Arc::new(InMemory::new()));
    let artifact = Artifact { name: "transcript.jsonl".into(), contents: "{}\n".into() };
    let location = files.put_artifact(&run().id, &trial().key, &artifact).await.unwrap();
    assert_eq!(location, "20261124_030506_ab3d/math-simple-baseline/transcript.jsonl");
    let key = trial().key.to_string();
    let read = files.artifact(run().id.as_str(), &key, "transcript.jsonl").await.unwrap();
    assert_eq!(read, artifact.contents);
}

#[tokio::test]
async fn the_oldest_format_is_read() {
    let stored = old("oldest").run("oldest").await.unwrap();
    let summary = &stored.summary;
    assert_eq!((summary.runs(), summary.model.as_str(), summary.mode.as_str()), (2, "", ""));
    let outcomes: Vec<_> = summary.results.iter().map(|trial| trial.outcome()).collect();
    assert_eq!(outcomes, [Outcome::Completed, Outcome::AgentError]);
    assert_eq!(summary.results[0].variant(), Variant::Baseline);
}

#[tokio::test]
async fn the_format_without_mcp_is_read() {
    let summary = old("before-mcp").run("before-mcp").await.unwrap().summary;
    let variants: Vec<_> = summary.results.iter().map(|trial| trial.variant()).collect();
    assert_eq!(variants, [Variant::Baseline, Variant::Skills]);
    assert_eq!(summary.skills_pass_rate.as_deref(), Some("1/1"));
}

#[tokio::test]
async fn the_last_format_of_the_scripts_survives_a_round_trip() {
    let summary = old("last-scripts").run("last-scripts").await.unwrap().summary;
    assert_eq!(summary.results[2].variant(), Variant::SkillsMcp);
    assert_eq!(summary.results[2].outcome(), Outcome::InfrastructureError);
    let again = serde_json::to_value(&summary).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/last-scripts/summary.json");
    let original: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (field, value) in original.as_object().unwrap() {
        if field != "results" && field != "comparisons" {
            assert_eq!(&again[field], value, "{field}");
        }
    }
    assert_eq!(again["comparisons"][0]["mcp_pass"], original["comparisons"][0]["mcp_pass"]);
}

#[tokio::test]
async fn a_run_without_summary_is_made_of_its_files_and_torn_ones_are_named() {
    let stored = old("no-summary").run("no-summary").await.unwrap();
    assert!(!stored.complete);
    assert_eq!(stored.summary.results.len(), 2);
    assert_eq!(
        stored.unreadable[0].to_string(),
        "`no-summary/go-1-skills-mcp.json` is no result file"
    );
}

#[tokio::test]
async fn an_unknown_run_and_a_newer_format_are_told_apart() {
    let files = RunFiles::new(Arc::new(InMemory::new()));
    assert!(files.run("20200101_000000").await.unwrap_err().is_not_found());
    let error = SummaryFile::parse("x/summary.json", br#"{"format": 99}"#).unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn the_index_keeps_runs_trials_and_what_a_kill_left_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("results.sqlite");
    let mut run = run();
    let key = trial().key;
    {
        let index = Index::open(&path).await.unwrap();
        index.begin(&Run { finished_at: None, ..run.clone() }).await.unwrap();
        assert!(index.begin(&run).await.is_err(), "a run of that name exists");
        index.attempt_started(&run.id, &key, 1, "sb-1").await.unwrap();
    }
    let index = Index::open(&path).await.unwrap();
    assert_eq!(index.unfinished().await.unwrap().len(), 1);
    let open = index.open_attempts(&run.id).await.unwrap();
    assert_eq!((open[0].sandbox.as_str(), &open[0].key), ("sb-1", &key));

    index.attempt_ended(&run.id, &key, 1, &Outcome::Passed).await.unwrap();
    index.record_trial(&run.id, &trial()).await.unwrap();
    run.substitutions.push("debian:12 → this machine's /usr".into());
    index.finish(&run).await.unwrap();

    assert!(index.open_attempts(&run.id).await.unwrap().is_empty());
    assert!(index.unfinished().await.unwrap().is_empty());
    assert_eq!(index.run(&run.id).await.unwrap(), (run.clone(), vec![trial()]));
    let rows = index.runs(10).await.unwrap();
    assert_eq!(rows[0].run, run);
    assert_eq!(rows[0].outcomes["passed"], 1);
    let unknown = index.run(&"20200101_000000".parse().unwrap()).await.unwrap_err();
    assert!(unknown.is_not_found());
}
