//! A body whose end is looked at when all of it has passed.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::door::body::{Body, BodyError};

/// Bytes of the end that are kept: more than the last events of a stream have.
const TAIL: usize = 64 * 1024;

/// Told the end of the body, and whether all of it came.
type Count = Box<dyn FnOnce(&[u8], bool) + Send>;

/// Passes everything on as it comes, and hands the end of it over when it is through.
///
/// Where the reader goes away, the rest is read all the same: what it cost stands at its end, and a task could call
/// models for nothing otherwise.
pub(in crate::door) struct Metered {
    inner: Option<Body>,
    tail: Tail,
    count: Option<Count>,
}

impl Metered {
    pub(in crate::door) fn new(inner: Body, count: Count) -> Self {
        Self { inner: Some(inner), tail: Tail::default(), count: Some(count) }
    }

    fn settle(&mut self, is_whole: bool) {
        if let Some(count) = self.count.take() {
            count(&self.tail.0, is_whole);
        }
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                frame.data_ref().into_iter().for_each(|data| this.tail.push(data));
                // Before the reader has the last byte, so that what it knows is counted.
                if this.inner.as_ref().is_some_and(HttpBody::is_end_stream) {
                    this.settle(true);
                }
            }
            Poll::Ready(ended) => {
                let is_whole = ended.is_none();
                this.inner = None;
                this.settle(is_whole);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|body| !body.is_end_stream());
        let is_whole = rest.is_none();
        let (Some(mut rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) else {
            return self.settle(is_whole);
        };
        let (mut tail, count) = (std::mem::take(&mut self.tail), self.count.take());
        runtime.spawn(async move {
            let is_whole = loop {
                match rest.frame().await {
                    Some(Ok(frame)) => {
                        frame.data_ref().into_iter().for_each(|data| tail.push(data))
                    }
                    ended => break ended.is_none(),
                }
            };
            if let Some(count) = count {
                count(&tail.0, is_whole);
            }
        });
    }
}

/// The last bytes.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(TAIL)..];
        // Cut only now and then: moving bytes for each piece would cost more than keeping some.
        if self.0.len() + data.len() > 2 * TAIL {
            self.0.drain(..self.0.len() - TAIL);
        }
        self.0.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_ends_as_the_body_does_and_stays_small() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("{number:0100}").as_bytes());
        }
        assert!(tail.0.len() <= 2 * TAIL && tail.0.len() >= TAIL - 100);
        assert!(tail.0.ends_with(b"009999"));
        tail.push(&vec![b'x'; 10 * TAIL]);
        assert!(tail.0.len() <= 2 * TAIL && tail.0.ends_with(b"xxx"));
    }
}
