//! Output in lines: what a person reads while a command runs.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::stream::{Stream, StreamExt as _};
use tokio::io::AsyncBufRead;

use super::output::{OutputStream, into_error};
use crate::error::Result;

/// The lines of an output; see [`OutputStream::lines`]. A [`Stream`], too.
#[derive(Debug)]
pub struct OutputLines {
    output: OutputStream,
    /// What has come of a line that is not complete yet.
    begun: Vec<u8>,
}

impl OutputLines {
    pub(super) fn new(output: OutputStream) -> Self {
        Self { output, begun: Vec::new() }
    }

    /// The next line without its end (`\n`, `\r\n`), or `None` after the last. Bytes that are not UTF-8 are replaced.
    /// A line waits for its end, however long it gets. Giving up the future loses nothing.
    ///
    /// # Errors
    /// As for reading the output: [`Error::SandboxGone`](crate::Error::SandboxGone), for one.
    pub async fn next_line(&mut self) -> Result<Option<String>> {
        self.next().await.transpose()
    }

    fn take(&mut self) -> String {
        let mut line = std::mem::take(&mut self.begun);
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    }
}

impl Stream for OutputLines {
    type Item = Result<String>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let bytes = match ready!(Pin::new(&mut this.output.reader).poll_fill_buf(cx)) {
                Ok([]) if this.begun.is_empty() => return Poll::Ready(None),
                Ok([]) => return Poll::Ready(Some(Ok(this.take()))),
                Ok(bytes) => bytes,
                Err(error) => return Poll::Ready(Some(Err(into_error(error)))),
            };
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            this.begun.extend_from_slice(&bytes[..taken]);
            Pin::new(&mut this.output.reader).consume(taken);
            if end.is_some() {
                return Poll::Ready(Some(Ok(this.take())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use tokio_util::io::StreamReader;

    use super::*;

    fn lines(chunks: &[&'static str]) -> OutputLines {
        let chunks: Vec<_> =
            chunks.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect();
        OutputStream { reader: StreamReader::new(stream::iter(chunks).boxed()) }.lines()
    }

    #[tokio::test]
    async fn lines_are_put_together_of_chunks_and_lose_their_ends() {
        let all = lines(&["one\ntw", "o\r", "\n\nlast, ", "without an end"]);
        let all: Vec<String> = all.map(|line| line.unwrap()).collect().await;
        assert_eq!(all, ["one", "two", "", "last, without an end"]);
        assert_eq!(lines(&["end\n"]).collect::<Vec<_>>().await.len(), 1);
        assert_eq!(lines(&[]).next_line().await.unwrap(), None);
    }
}
