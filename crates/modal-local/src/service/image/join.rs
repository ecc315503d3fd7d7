//! Following a build: its log, then its result, then the end of the stream.
//!
//! An entry's id is its number, from 1. A client that was cut off asks again with the last it saw and
//! misses nothing; so does one whose time was up, because the stream then ends without a result.

use std::time::Duration;

use modal_proto::client::{ImageJoinStreamingRequest, ImageJoinStreamingResponse, TaskLogs};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::result_of;
use crate::ctx::Ctx;
use crate::ids::ImageId;
use crate::image::{Entry, Progress};
use crate::service::BoxStream;

/// Entries in one message.
const BATCH: usize = 200;
/// Clients ask for 55 s; nobody gets more than this.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) async fn join(
    ctx: &Ctx,
    request: ImageJoinStreamingRequest,
) -> Result<BoxStream<ImageJoinStreamingResponse>, Status> {
    let id = ImageId::parse(&request.image_id).map_err(crate::Error::from)?;
    // Unknown ids are refused before the stream begins.
    ctx.images.get(ctx, &id).await?;
    let (messages, stream) = mpsc::channel(16);
    let follower = Follower { ctx: ctx.clone(), id, messages };
    tokio::spawn(async move {
        if let Err(status) = follower.run(&request).await {
            // The client may be gone; then nobody needs the error.
            let _ = follower.messages.send(Err(status)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

struct Follower {
    ctx: Ctx,
    id: ImageId,
    messages: mpsc::Sender<Result<ImageJoinStreamingResponse, Status>>,
}

impl Follower {
    async fn run(&self, request: &ImageJoinStreamingRequest) -> Result<(), Status> {
        let timeout = Duration::try_from_secs_f32(request.timeout).unwrap_or(LONGEST).min(LONGEST);
        let deadline = Instant::now() + timeout;
        let seen = request.last_entry_id.parse::<usize>().ok();
        let mut next = seen.unwrap_or(0);
        let mut is_following = seen.is_some() || request.include_logs_for_finished;
        if let Some(live) = self.ctx.images.live(&self.id) {
            is_following = true;
            let (mut grown, mut ended) = (live.log.watch(), live.ended.subscribe());
            loop {
                grown.borrow_and_update();
                let is_over = *ended.borrow_and_update();
                if !self.send_entries(&live.log.since(next), &mut next).await {
                    return Ok(());
                }
                if is_over {
                    break;
                }
                // The senders live as long as `live`; an error would only mean another look.
                tokio::select! {
                    _ = grown.changed() => {}
                    _ = ended.changed() => {}
                    () = tokio::time::sleep_until(deadline) => return Ok(()),
                    () = self.messages.closed() => return Ok(()),
                }
            }
        }
        let view = self.ctx.images.get(&self.ctx, &self.id).await?;
        if is_following && !matches!(view.progress, Progress::Building) {
            let entries = self.ctx.images.stored_log(&self.id).await?;
            let rest = entries.get(next..).unwrap_or_default();
            if !self.send_entries(rest, &mut next).await {
                return Ok(());
            }
        }
        let Some(result) = result_of(&view.progress) else { return Ok(()) };
        let message = ImageJoinStreamingResponse {
            result: Some(result),
            metadata: Some(view.metadata),
            eof: true,
            ..ImageJoinStreamingResponse::default()
        };
        // The client may be gone; it will ask again.
        let _ = self.messages.send(Ok(message)).await;
        Ok(())
    }

    /// Whether the client still listens.
    async fn send_entries(&self, entries: &[Entry], next: &mut usize) -> bool {
        for batch in entries.chunks(BATCH) {
            *next += batch.len();
            let message = ImageJoinStreamingResponse {
                task_logs: batch.iter().map(task_log).collect(),
                entry_id: next.to_string(),
                ..ImageJoinStreamingResponse::default()
            };
            if self.messages.send(Ok(message)).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn task_log(entry: &Entry) -> TaskLogs {
    TaskLogs {
        data: entry.text.clone(),
        file_descriptor: entry.stream.descriptor().into(),
        timestamp: entry.time,
        timestamp_ns: (entry.time * 1e9) as u64,
        ..TaskLogs::default()
    }
}
