//! One stream of lines for all services.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Who writes what the supervisor itself has to say.
const OWN: &str = "supervisor";
/// Longer lines are cut into several.
const MAX_LINE: usize = 64 * 1024;

/// Where lines go: each with the name of its service before it, never two mixed.
#[derive(Clone)]
pub struct Log(Arc<Mutex<dyn Write + Send>>);

impl Log {
    /// To any writer; it gets whole lines.
    pub fn new(to: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }

    /// A line of the supervisor itself.
    pub fn say(&self, text: impl AsRef<str>) {
        self.line(OWN, text.as_ref().as_bytes());
    }

    fn line(&self, name: &str, text: &[u8]) {
        let mut line = format!("[{name}] ").into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to be told that the log can't be written.
        let _ = to.write_all(&line).and_then(|()| to.flush());
    }

    /// Copies what a service writes, until it closes its end.
    pub(crate) async fn follow(self, name: String, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0_u8; 16 * 1024];
        let mut pending: Vec<u8> = Vec::new();
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            pending.extend_from_slice(&buffer[..length]);
            while let Some(end) = line_end(&pending) {
                let rest = pending.split_off(end);
                self.line(&name, trim_end(&pending));
                pending = rest;
            }
        }
        if !pending.is_empty() {
            self.line(&name, trim_end(&pending));
        }
    }
}

/// How many bytes make the first line, its end included.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let newline = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    match newline {
        Some(end) if end <= MAX_LINE => Some(end),
        _ if bytes.len() > MAX_LINE => Some(MAX_LINE),
        end => end,
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What was written, to be looked at.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn log(&self) -> Log {
            Log::new(self.clone())
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn followed(output: &[u8]) -> String {
        let written = Written::default();
        written.log().follow("web".to_owned(), output).await;
        written.text()
    }

    #[tokio::test]
    async fn every_line_has_its_service_s_name() {
        let text = followed(b"one\r\ntwo\n\nlast \xff").await;
        assert_eq!(text, "[web] one\n[web] two\n[web] \n[web] last \u{fffd}\n");
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let text = followed(&vec![b'x'; 2 * MAX_LINE + 1]).await;
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [MAX_LINE + 6, MAX_LINE + 6, 7]);
    }
}
