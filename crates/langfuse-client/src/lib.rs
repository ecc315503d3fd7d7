//! Client of Langfuse's public API, versions 2, 3 and 4.
//!
//! Start with [`Client::new`]. To write, take a [`Recorder`] ([`Client::recorder`]), which finds out the server's
//! version and sends what that version stores; or, where the version is known, [`Ingestion`] (2, 3) and
//! [`Spans`] (3, 4). To read, ask for streams: [`Client::traces`], [`Client::observations`],
//! [`Client::scores`], [`Client::sessions`], [`Client::datasets`]. What a version cannot do is
//! [`Error::Unsupported`] with the way out, never silence: version 4 answers "207" to events that it drops.
//!
//! ```no_run
//! # async fn example() -> langfuse_client::Result<()> {
//! use langfuse_client::{Client, Config, ObservationBody, ObservationKind, QueueConfig, TraceBody, TraceId};
//!
//! let client = Client::new(Config::from_vars(|name| std::env::var(name).ok())?)?;
//! let recorder = client.recorder(QueueConfig::default()).await?;
//! let trace = TraceBody::new(TraceId::random());
//! let span = ObservationBody::new(trace.id.clone(), "00f067aa0ba902b7");
//! recorder.trace(&trace, &[(ObservationKind::Span, span)]).await?;
//! let report = recorder.shutdown(std::time::Duration::from_secs(10)).await;
//! assert!(report.is_complete(), "{:?}", report.failures);
//! # Ok(())
//! # }
//! ```
//!
//! Every call has a limit of time and is repeated only when that does no harm, with jitter, as long as the server
//! asks for and no longer than [`RetryPolicy`] allows. Answers keep the fields that this crate does not name.

mod client;
mod config;
mod dataset;
mod error;
mod http_call;
mod ids;
pub mod ingestion;
mod json;
mod metrics;
mod observation;
pub mod otlp;
mod page;
mod probe;
mod project;
mod queue;
mod recorder;
mod retry;
mod score;
mod secret;
mod session;
mod trace;

pub use crate::{
    client::Client,
    config::Config,
    dataset::{
        Dataset, DatasetItem, DatasetRun, DatasetRunItem, NewDataset, NewDatasetItem,
        NewDatasetRunItem, experiment_id,
    },
    error::{BoxError, Error, Result, ServerAnswer},
    ids::{
        DatasetId, DatasetItemId, DatasetRunId, EventId, ObservationId, ProjectId, ScoreId,
        SessionId, TraceId,
    },
    ingestion::{
        Event, EventKind, Ingestion, IngestionAnswer, Level, ObservationBody, ObservationKind,
        ScoreBody, ScoreType, ScoreValue, TraceBody,
    },
    json::Extra,
    metrics::{DailyFilter, DailyMetrics, DailyUsage},
    observation::{Observation, ObservationFilter, Usage},
    otlp::{Encoding, Experiment, Spans},
    page::Rows,
    probe::{ApiVersion, Health, Server},
    project::Project,
    queue::{Failure, QueueConfig, Report},
    recorder::Recorder,
    retry::RetryPolicy,
    score::{Score, ScoreFilter},
    secret::SecretKey,
    session::{Session, SessionFilter},
    trace::{Linked, Trace, TraceFilter},
};
