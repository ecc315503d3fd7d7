//! `Watch`: changes below a path by inotify, one JSON object a line.
//!
//! Ends without an error when stdin ends (the SDK closes it to stop), when the time is up, and when the watched
//! path itself is gone.

mod events;
mod tree;

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde::Serialize;

use super::command::WatchOptions;
use super::failure::Failure;
use events::{Event, Translator};
use tree::Tree;

/// How long the second half of a rename is waited for.
const RENAME: Duration = Duration::from_millis(20);
/// One event with the longest name takes 272 bytes.
const BUFFER: usize = 16 << 10;

/// One line of output.
#[derive(Serialize)]
struct Line<'e> {
    event_type: &'static str,
    paths: &'e [String],
}

pub(super) fn watch(
    options: &WatchOptions,
    mut stdin: File,
    stdout: &mut dyn Write,
) -> Result<(), Failure> {
    let wants = |kind: &str| {
        options.filter.as_ref().is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind))
    };
    let tree = Tree::watch(&options.path, options.recursive, wants("Access"))?;
    let mut translator = Translator::new(tree);
    // A time that does not fit is as good as none.
    let limit =
        options.timeout_secs.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) || translator.is_over() {
            return Ok(());
        }
        let wait = if translator.waits_for_rename() {
            Some(left.map_or(RENAME, |left| left.min(RENAME)))
        } else {
            left
        };
        match ready(&stdin, translator.tree(), wait)? {
            Ready::Stdin if stdin_ended(&mut stdin)? => return Ok(()),
            Ready::Stdin => {}
            Ready::Changes => read_changes(&mut translator)?,
            Ready::Nothing => translator.give_up_rename(),
        }
        for event in translator.take().iter().filter(|event| wants(event.kind.name())) {
            print(event, stdout)?;
        }
    }
}

enum Ready {
    Stdin,
    Changes,
    Nothing,
}

fn ready(stdin: &File, tree: &Tree, wait: Option<Duration>) -> Result<Ready, Errno> {
    let mut descriptors =
        [PollFd::new(stdin, PollFlags::IN), PollFd::new(tree.inotify(), PollFlags::IN)];
    let timeout = wait.map(|wait| Timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    });
    match poll(&mut descriptors, timeout.as_ref()) {
        Err(Errno::INTR) => return Ok(Ready::Nothing),
        polled => polled?,
    };
    // Changes first: what happened before stdin ended is reported.
    Ok(match [descriptors[0].revents(), descriptors[1].revents()] {
        [_, changes] if changes.contains(PollFlags::IN) => Ready::Changes,
        [input, _] if !input.is_empty() => Ready::Stdin,
        _ => Ready::Nothing,
    })
}

fn stdin_ended(stdin: &mut File) -> io::Result<bool> {
    match stdin.read(&mut [0; 4096]) {
        Ok(size) => Ok(size == 0),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Takes one buffer full of changes.
fn read_changes(translator: &mut Translator) -> Result<(), Failure> {
    let inotify = translator.tree().inotify().try_clone()?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    loop {
        match reader.next() {
            Ok(change) => translator.translate(&change)?,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if reader.is_buffer_empty() {
            return Ok(());
        }
    }
}

fn print(event: &Event, stdout: &mut dyn Write) -> Result<(), Failure> {
    let paths: Vec<String> =
        event.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let line = serde_json::to_string(&Line { event_type: event.kind.name(), paths: &paths })
        .map_err(io::Error::from)?;
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
