//! The client and its examples against `langfuse-local`, over a real PostgreSQL.

use std::{path::PathBuf, time::Duration};

use futures::TryStreamExt as _;
use langfuse_client::{
    Client, Config, DailyFilter, NewDataset, NewDatasetItem, NewDatasetRunItem, ObservationBody,
    ObservationFilter, ObservationKind, QueueConfig, ScoreBody, ScoreFilter, SecretKey,
    SessionFilter, TraceBody, TraceFilter,
};
use langfuse_local::{Init, Secret, Server, Settings};
use test_postgres::Postgres;

const PUBLIC: &str = "pk-lf-client";
const SECRET: &str = "sk-lf-client";

struct Local {
    server: Server,
    _postgres: Postgres,
}

impl Local {
    async fn start() -> Self {
        let postgres = Postgres::start("langfuse");
        let init = Init {
            org_id: "org".into(),
            org_name: None,
            project_id: Some("project".into()),
            project_name: None,
            keys: Some((PUBLIC.into(), Secret::new(SECRET))),
            user: None,
            user_name: None,
        };
        let settings = Settings {
            database_url: Secret::new(postgres.url()),
            listen: "127.0.0.1:0".parse().unwrap(),
            salt: Secret::new("pepper"),
            init: Some(init),
        };
        Self { server: Server::start(settings).await.unwrap(), _postgres: postgres }
    }

    fn client(&self) -> Client {
        let config = Config::new(&self.server.url(), PUBLIC, SecretKey::new(SECRET)).unwrap();
        Client::new(config).unwrap()
    }

    /// An example, built beside this test.
    async fn example(&self, name: &str, arguments: &[&str]) -> String {
        let test = std::env::current_exe().unwrap();
        let examples: PathBuf = test.parent().unwrap().parent().unwrap().join("examples");
        let output = tokio::process::Command::new(examples.join(name))
            .args(arguments)
            .env("LANGFUSE_HOST", self.server.url())
            .env("LANGFUSE_PUBLIC_KEY", PUBLIC)
            .env("LANGFUSE_SECRET_KEY", SECRET)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn the_examples_write_and_read_a_trace() {
    let local = Local::start().await;
    let id = local.example("write", &[]).await;
    let shown = local.example("read", &[id.trim()]).await;
    assert_eq!(
        shown,
        "Langfuse 2.95.12, read as version 2\n\
         GENERATION call: 10 tokens, 0.000002 USD, 0.25 s\n  \
         [{\"role\":\"user\",\"content\":\"2 + 2\"}] -> {\"role\":\"assistant\",\"content\":\"4\"}\n\
         correct = 1\n"
    );
    let trace = local.client().trace(&id.trim().into()).await.unwrap();
    assert_eq!(trace.total_cost, Some(0.000_002));
    assert_eq!(trace.observations[0].whole().unwrap().kind, "GENERATION");
    assert_eq!(trace.scores[0].whole().unwrap().string_value.as_deref(), Some("True"));
}

#[tokio::test]
async fn everything_that_is_written_is_read_back_over_pages() {
    let local = Local::start().await;
    let client = local.client();
    let recorder = client.recorder(QueueConfig { batch_events: 50, ..QueueConfig::default() });
    let recorder = recorder.await.unwrap();
    for number in 0..250 {
        let mut trace = TraceBody::new(format!("t{number:03}"));
        trace.timestamp = Some(format!("2026-01-02T00:00:00.{number:03}Z").parse().unwrap());
        trace.session_id = Some(format!("s{}", number % 3).into());
        let mut span = ObservationBody::new(trace.id.clone(), format!("o{number:03}"));
        span.start_time = trace.timestamp;
        recorder.trace(&trace, &[(ObservationKind::Agent, span)]).await.unwrap();
    }
    recorder.score(ScoreBody::numeric("ok", 1.0).of_trace("t000")).await.unwrap();
    recorder.score(ScoreBody::numeric("ok", 0.5).of_trace("t001")).await.unwrap();
    // Version 2 has no scores of sessions, and says so of this one alone.
    recorder.score(ScoreBody::numeric("ok", 0.5).of_session("s0")).await.unwrap();
    let report = recorder.shutdown(Duration::from_secs(60)).await;
    assert_eq!((report.delivered, report.failed, report.pending), (502, 1, 0), "{report:?}");
    assert_eq!(report.failures[0].status, Some(400));

    let window = TraceFilter::window(
        "2026-01-01T00:00:00Z".parse().unwrap(),
        "2026-01-03T00:00:00Z".parse().unwrap(),
    );
    let traces: Vec<_> = client.traces(window).try_collect().await.unwrap();
    let ids: Vec<String> = traces.iter().map(|trace| trace.id.to_string()).collect();
    assert_eq!(ids, (0..250).map(|number| format!("t{number:03}")).collect::<Vec<_>>());
    let observations = client.observations(ObservationFilter::default());
    let observations: Vec<_> = observations.try_collect().await.unwrap();
    assert_eq!(observations.len(), 250);
    assert!(observations.iter().all(|observation| observation.kind == "SPAN"));
    let sessions: Vec<_> = client.sessions(SessionFilter::default()).try_collect().await.unwrap();
    assert_eq!(sessions.len(), 3);
    assert_eq!(client.session(&"s1".into()).await.unwrap().traces.len(), 83);
    let of_one = ScoreFilter { trace_id: Some("t001".into()), ..ScoreFilter::default() };
    let scores: Vec<_> = client.scores(of_one).try_collect().await.unwrap();
    assert_eq!((scores.len(), &scores[0].value), (1, &0.5.into()));
    client.delete_score(&scores[0].id).await.unwrap();
    assert!(client.delete_score(&scores[0].id).await.unwrap_err().is_not_found());
    let days: Vec<_> = client.daily_metrics(DailyFilter::default()).try_collect().await.unwrap();
    assert_eq!((days[0].date.as_str(), days[0].count_traces), ("2026-01-02", 250));
    assert_eq!(client.projects().await.unwrap()[0].id.as_str(), "project");
}

#[tokio::test]
async fn datasets_are_made_run_and_read() {
    let local = Local::start().await;
    let client = local.client();
    let new = NewDataset { name: "folder/a b".into(), ..NewDataset::default() };
    let dataset = client.create_dataset(&new).await.unwrap();
    assert_eq!(client.create_dataset(&new).await.unwrap().id, dataset.id);
    for number in 0..120 {
        let item = NewDatasetItem::new("folder/a b", format!("i{number}"));
        client.create_dataset_item(&item).await.unwrap();
    }
    let items: Vec<_> = client.dataset_items("folder/a b").try_collect().await.unwrap();
    assert_eq!(items.len(), 120);
    let link = NewDatasetRunItem {
        run_name: "run".into(),
        run_description: None,
        metadata: None,
        dataset_item_id: "i7".into(),
        trace_id: "t".into(),
        observation_id: None,
    };
    client.create_dataset_run_item(&link).await.unwrap();
    let runs: Vec<_> = client.dataset_runs("folder/a b").try_collect().await.unwrap();
    assert_eq!(runs.len(), 1);
    let run = client.dataset_run("folder/a b", "run").await.unwrap();
    assert_eq!(run.dataset_run_items[0].dataset_item_id.as_str(), "i7");
    let missing = client.create_dataset_item(&NewDatasetItem::new("none", "i")).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
}
