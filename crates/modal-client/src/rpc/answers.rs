//! The answers of a stream, in the span of their call from the first to the last.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{FutureExt as _, Stream, StreamExt as _};
use tonic::{Status, Streaming};
use tracing::Span;

use super::warning::Warnings;

/// A stream of answers. Whatever is done to read them happens in the call's span, which ends with the stream;
/// warnings that come with its end are noted.
pub(crate) struct Answers<A> {
    inner: Streaming<A>,
    rpc: &'static str,
    warnings: Arc<Warnings>,
    span: Span,
}

impl<A> Answers<A> {
    pub(super) fn new(
        inner: Streaming<A>,
        rpc: &'static str,
        warnings: Arc<Warnings>,
        span: Span,
    ) -> Self {
        Self { inner, rpc, warnings, span }
    }

    /// The next answer; `None` is the end.
    pub(crate) async fn message(&mut self) -> Result<Option<A>, Status> {
        self.next().await.transpose()
    }
}

impl<A> Stream for Answers<A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        let next = ready!(this.inner.poll_next_unpin(cx));
        match &next {
            Some(Ok(_)) => {}
            Some(Err(status)) => {
                tracing::debug!(code = ?status.code(), "the stream broke off");
                this.warnings.note(this.rpc, status.metadata());
            }
            // The trailers are there when the stream has ended: nothing is waited for.
            None => {
                if let Some(Ok(Some(trailers))) = this.inner.trailers().now_or_never() {
                    this.warnings.note(this.rpc, &trailers);
                }
            }
        }
        Poll::Ready(next)
    }
}
