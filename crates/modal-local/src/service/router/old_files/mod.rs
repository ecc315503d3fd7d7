//! The file API that SDKs had before 1.6 (`Sandbox.open`, `ls`, `mkdir`, `rm`), which tools still use.
//!
//! `ContainerFilesystemExec` names one operation; what came of it is read by `ContainerFilesystemExecGetOutput`.
//! Each operation is a run of the file tools inside, as those of today's API, so that a path means what it means
//! there. An open file is a path with a position, kept here: it is opened anew for each operation.

mod file;
mod messages;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::post;
use futures::future::{BoxFuture, Ready, ready};
use futures::stream;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;

use self::file::{OpenFile, Outcome};
use self::messages::{Action, ExecRequest, ExecResponse, OutputBatch, OutputRequest};
use super::host::Host;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::TaskId;
use crate::service::BoxStream;

/// The paths of the two RPCs.
pub(crate) const PATHS: [&str; 2] = [
    "/modal.client.ModalClient/ContainerFilesystemExec",
    "/modal.client.ModalClient/ContainerFilesystemExecGetOutput",
];
/// Operations whose outcome is kept for whoever asks for it; the oldest go first.
const KEPT: usize = 256;
/// And so many bytes of them all; the last one stays, however long it is.
const KEPT_BYTES: usize = 256 << 20;
/// Open files, of all sandboxes together; the oldest go first, for clients that never close.
const OPEN: usize = 4_096;
/// One message carries at most this much of an outcome.
const PIECE: usize = 1 << 20;

/// What is open, and what came of the last operations.
#[derive(Default)]
pub(crate) struct OldFiles {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    open: HashMap<String, Arc<tokio::sync::Mutex<OpenFile>>>,
    opened: VecDeque<String>,
    outcomes: HashMap<String, Outcome>,
    done: VecDeque<String>,
    /// Those of all outcomes.
    bytes: usize,
}

fn length(outcome: &Outcome) -> usize {
    outcome.as_ref().map_or(0, Vec::len)
}

impl OldFiles {
    fn open(&self, file: OpenFile) -> String {
        let id = format!("fd-{}", crate::ids::random_suffix());
        let mut tables = self.lock();
        if tables.opened.len() >= OPEN
            && let Some(oldest) = tables.opened.pop_front()
        {
            tables.open.remove(&oldest);
        }
        tables.open.insert(id.clone(), Arc::new(tokio::sync::Mutex::new(file)));
        tables.opened.push_back(id.clone());
        id
    }

    fn find(&self, id: &str) -> Option<Arc<tokio::sync::Mutex<OpenFile>>> {
        self.lock().open.get(id).cloned()
    }

    fn close(&self, id: &str) {
        let mut tables = self.lock();
        tables.open.remove(id);
        tables.opened.retain(|it| it != id);
    }

    fn keep(&self, outcome: Outcome) -> String {
        let id = format!("fe-{}", crate::ids::random_suffix());
        let mut tables = self.lock();
        tables.bytes += length(&outcome);
        while tables.done.len() >= KEPT || tables.bytes > KEPT_BYTES {
            let Some(oldest) = tables.done.pop_front() else { break };
            if let Some(gone) = tables.outcomes.remove(&oldest) {
                tables.bytes -= length(&gone);
            }
        }
        tables.outcomes.insert(id.clone(), outcome);
        tables.done.push_back(id.clone());
        id
    }

    /// It stays, for a client whose stream broke off.
    fn outcome(&self, id: &str) -> Option<Outcome> {
        self.lock().outcomes.get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both RPCs.
pub(crate) fn routes(ctx: Ctx) -> Router {
    Router::new().route(PATHS[0], post(exec)).route(PATHS[1], post(output)).with_state(ctx)
}

async fn exec(State(ctx): State<Ctx>, request: Request) -> http::Response<tonic::body::Body> {
    let codec = ProstCodec::<ExecResponse, ExecRequest>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(usize::MAX);
    grpc.unary(Exec(ctx), request).await
}

async fn output(State(ctx): State<Ctx>, request: Request) -> http::Response<tonic::body::Body> {
    let codec = ProstCodec::<OutputBatch, OutputRequest>::default();
    Grpc::new(codec).server_streaming(Output(ctx), request).await
}

struct Exec(Ctx);

impl UnaryService<ExecRequest> for Exec {
    type Response = ExecResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<ExecResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<ExecRequest>) -> Self::Future {
        let ctx = self.0.clone();
        Box::pin(async move { run(&ctx, request.into_inner()).await.map(tonic::Response::new) })
    }
}

struct Output(Ctx);

impl ServerStreamingService<OutputRequest> for Output {
    type Response = OutputBatch;
    type ResponseStream = BoxStream<OutputBatch>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<OutputRequest>) -> Self::Future {
        ready(batches(&self.0, &request.into_inner().exec_id).map(tonic::Response::new))
    }
}

async fn run(ctx: &Ctx, request: ExecRequest) -> Result<ExecResponse, tonic::Status> {
    let task = TaskId::parse(&request.task_id).map_err(Error::from)?;
    let host = Host::find(ctx, &task)?;
    let action = request.action.ok_or_else(|| Error::invalid("a file operation is missing"))?;
    let mut file_descriptor = None;
    let outcome = match action {
        Action::Open(open) => match OpenFile::open(ctx, task, &open).await? {
            Ok(file) => {
                file_descriptor = Some(ctx.old_files.open(file));
                Ok(Vec::new())
            }
            // The SDK looks at the descriptor before it reads why there is none.
            Err(error) => {
                file_descriptor = Some(String::new());
                Err(error)
            }
        },
        Action::Close(it) => {
            ctx.old_files.close(&it.file_descriptor);
            Ok(Vec::new())
        }
        Action::Write(it) => of(ctx, &it.file_descriptor)?.lock().await.write(ctx, it.data).await?,
        Action::Read(it) => {
            of(ctx, &it.file_descriptor)?.lock().await.read(ctx, it.n, false).await?
        }
        Action::ReadLine(it) => {
            of(ctx, &it.file_descriptor)?.lock().await.read(ctx, None, true).await?
        }
        Action::Seek(it) => of(ctx, &it.file_descriptor)?.lock().await.seek(ctx, &it).await?,
        // Every write is in the file when it is answered.
        Action::Flush(it) => of(ctx, &it.file_descriptor).map(|_| Ok(Vec::new()))?,
        Action::List(it) => file::list(ctx, &host, &it.path).await?,
        Action::MakeDirectory(it) => file::make_directory(ctx, &host, &it).await?,
        Action::Remove(it) => file::remove(ctx, &host, &it).await?,
        Action::DeleteBytes(_) | Action::ReplaceBytes(_) | Action::Watch(_) => {
            return Err(tonic::Status::unimplemented(
                "of the file API before 1.6 the local server has no `watch`, `delete_bytes` or `replace_bytes`",
            ));
        }
    };
    Ok(ExecResponse { exec_id: ctx.old_files.keep(outcome), file_descriptor })
}

fn of(ctx: &Ctx, id: &str) -> Result<Arc<tokio::sync::Mutex<OpenFile>>, tonic::Status> {
    let file = ctx.old_files.find(id);
    file.ok_or_else(|| tonic::Status::not_found("there is no such open file"))
}

fn batches(ctx: &Ctx, id: &str) -> Result<BoxStream<OutputBatch>, tonic::Status> {
    let outcome = ctx.old_files.outcome(id);
    let outcome = outcome.ok_or_else(|| tonic::Status::not_found("there is no such operation"))?;
    let mut batches = match outcome {
        Ok(data) => data
            .chunks(PIECE)
            .map(|piece| OutputBatch { output: vec![piece.to_vec()], ..OutputBatch::default() })
            .collect(),
        Err(error) => {
            vec![OutputBatch { error: Some(error), ..OutputBatch::default() }]
        }
    };
    batches.push(OutputBatch { eof: true, ..OutputBatch::default() });
    let numbered = (0..).zip(batches);
    let numbered = numbered.map(|(batch_index, batch)| Ok(OutputBatch { batch_index, ..batch }));
    Ok(Box::pin(stream::iter(numbered.collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_go_when_they_are_too_many_or_too_long_and_the_last_stays() {
        let files = OldFiles::default();
        let first = files.keep(Ok(vec![0; KEPT_BYTES / 2]));
        let second = files.keep(Ok(vec![1; KEPT_BYTES / 2]));
        assert!(files.outcome(&first).is_some() && files.outcome(&second).is_some());
        let third = files.keep(Ok(vec![2; 1]));
        assert!(files.outcome(&first).is_none() && files.outcome(&second).is_some());
        (0..KEPT).for_each(|_| drop(files.keep(Ok(Vec::new()))));
        assert!(files.outcome(&second).is_none() && files.outcome(&third).is_none());
        let long = files.keep(Ok(vec![3; KEPT_BYTES + 1]));
        assert!(files.outcome(&long).is_some() && files.lock().done.len() == 1);
    }
}
