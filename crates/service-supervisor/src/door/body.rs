//! Bodies on their way through, within limits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// A body of either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("nothing came for {} s", .0.as_secs_f64())]
    Idle(Duration),
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
}

/// A body that must not rest too long, nor be too long.
pub(crate) struct Watched {
    inner: Incoming,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    left: u64,
    limit: u64,
}

impl Watched {
    pub(crate) fn new(inner: Incoming, idle: Duration, limit: u64) -> Self {
        Self { inner, idle, deadline: Box::pin(tokio::time::sleep(idle)), left: limit, limit }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.deadline.as_mut().poll(context));
                return Poll::Ready(Some(Err(BodyError::Idle(this.idle))));
            }
        };
        this.deadline.as_mut().reset(Instant::now() + this.idle);
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame?;
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = this.left.checked_sub(length) else {
            return Poll::Ready(Some(Err(BodyError::TooLarge(this.limit))));
        };
        this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Holds a place among the requests at a time until the answer is through, or nobody wants it any more.
pub(crate) fn while_it_lasts(answer: Response<Body>, room: OwnedSemaphorePermit) -> Response<Body> {
    answer.map(|body| {
        body.map_frame(move |frame| {
            let _held = &room;
            frame
        })
        .boxed_unsync()
    })
}
