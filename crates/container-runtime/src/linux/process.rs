//! A program in a container: its streams, its end, signals to it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::container::Inner;
use super::message::{ExecFailure, Order};
use super::sys;
use crate::error::{Error, Result};
use crate::spec::{ExecSpec, ExitStatus, PtySize, Stdio};

/// A started program. Dropping it neither ends nor waits for the program.
#[derive(Debug)]
pub struct Process {
    container: Arc<Inner>,
    exec: u64,
    exit: watch::Receiver<Option<ExitStatus>>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

/// Our ends and the program's ends of its pipes.
#[derive(Default)]
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    theirs: Vec<OwnedFd>,
    piped: [bool; 3],
}

impl Pipes {
    fn make(spec: &ExecSpec) -> io::Result<Self> {
        let mut pipes = Self::default();
        if spec.pty.is_some() {
            return Ok(pipes);
        }
        if spec.stdin == Stdio::Pipe {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            pipes.stdin = Some(pipe::Sender::from_owned_fd(write)?);
            pipes.theirs.push(read);
            pipes.piped[0] = true;
        }
        if spec.stdout == Stdio::Pipe {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            pipes.stdout = Some(pipe::Receiver::from_owned_fd(read)?);
            pipes.theirs.push(write);
            pipes.piped[1] = true;
        }
        if spec.stderr == Stdio::Pipe {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            pipes.stderr = Some(pipe::Receiver::from_owned_fd(read)?);
            pipes.theirs.push(write);
            pipes.piped[2] = true;
        }
        Ok(pipes)
    }
}

/// Orders a program and waits until it runs or does not.
pub(crate) async fn start(container: &Arc<Inner>, spec: ExecSpec) -> Result<Process> {
    spec.check()?;
    let pipes = Pipes::make(&spec).map_err(Error::system("make pipes"))?;
    let order = sys::memory_file(&order(&spec).encode())
        .map_err(Error::system("hold a program's arguments"))?;
    let (exec, started, exit) = {
        let mut fds: Vec<BorrowedFd<'_>> = vec![order.as_fd()];
        fds.extend(pipes.theirs.iter().map(|fd| fd.as_fd()));
        container.order(&spec, pipes.piped, &fds).await?
    };
    drop(pipes.theirs);
    let master = started.map_err(|failure| refused(container, &spec, failure))?;
    let terminal = master.map(watched).transpose().map_err(Error::system("watch a terminal"))?;
    let (stdin, stdout) = match &terminal {
        Some(terminal) => (
            Some(Input(Writer::Terminal(Arc::clone(terminal)))),
            Some(Output(Reader::Terminal(Arc::clone(terminal)))),
        ),
        None => (
            pipes.stdin.map(|pipe| Input(Writer::Pipe(pipe))),
            pipes.stdout.map(|pipe| Output(Reader::Pipe(pipe))),
        ),
    };
    let stderr = pipes.stderr.map(|pipe| Output(Reader::Pipe(pipe)));
    let container = Arc::clone(container);
    Ok(Process { container, exec, exit, terminal, stdin, stdout, stderr })
}

fn watched(master: OwnedFd) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
    rustix::io::ioctl_fionbio(&master, true)?;
    sys::watch(master, Interest::READABLE | Interest::WRITABLE).map(Arc::new)
}

fn order(spec: &ExecSpec) -> Order {
    let pair = |(name, value): &(OsString, OsString)| {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        pair
    };
    Order {
        argv: spec.argv.clone(),
        env: spec.env.iter().map(pair).collect(),
        cwd: spec.cwd.clone(),
        uid: spec.uid,
        gid: spec.gid,
    }
}

fn refused(
    container: &Inner,
    spec: &ExecSpec,
    (failure, source, stage): (ExecFailure, io::Error, String),
) -> Error {
    let container = container.id().clone();
    let program =
        || spec.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match failure {
        ExecFailure::NotFound => Error::ProgramNotFound { container, program: program() },
        ExecFailure::NotExecutable => {
            Error::ProgramNotExecutable { container, program: program(), source }
        }
        ExecFailure::Workdir => Error::Workdir { container, cwd: spec.cwd.clone(), source },
        ExecFailure::Other => Error::Exec { container, stage, source },
    }
}

impl Process {
    /// The writing end of its standard input, once. Dropping it is the end of the input.
    #[must_use]
    pub fn take_stdin(&mut self) -> Option<Input> {
        self.stdin.take()
    }

    /// The reading end of its standard output, once; with a terminal, all it prints.
    #[must_use]
    pub fn take_stdout(&mut self) -> Option<Output> {
        self.stdout.take()
    }

    /// The reading end of its standard error, once; none with a terminal.
    #[must_use]
    pub fn take_stderr(&mut self) -> Option<Output> {
        self.stderr.take()
    }

    /// Waits for its end; may be called again and gives the same answer. Its streams may still have bytes, and
    /// stay open as long as a process it left behind holds them.
    ///
    /// When the container is ended first the answer is signal 9. When it went by a fault of the machine (its
    /// init or the spawner died) there is no answer but an error that [`is_gone`](Error::is_gone): the program did
    /// not end by itself.
    pub async fn wait(&self) -> Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let found = exit.wait_for(Option::is_some).await;
        found.ok().and_then(|status| *status).ok_or_else(|| self.container.gone())
    }

    /// Its end, if it has ended.
    #[must_use]
    pub fn poll(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends a signal to its process group. `SIGKILL` (9) reaches everything that descends from it, also after
    /// its own end.
    pub async fn kill(&self, signal: i32) -> Result<()> {
        self.container.signal(self.exec, signal).await
    }

    /// Changes its terminal's size; without a terminal does nothing.
    pub fn resize(&self, size: PtySize) -> Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let (ws_row, ws_col) = (size.rows, size.cols);
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal.get_ref(), size)
            .map_err(Error::system("change a terminal's size"))
    }
}

/// The way into a program: a pipe, or its terminal, whose end of input is the byte 4.
#[derive(Debug)]
pub struct Input(Writer);

#[derive(Debug)]
enum Writer {
    Pipe(pipe::Sender),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Writer::Pipe(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Writer::Terminal(terminal) => loop {
                let mut guard = ready!(terminal.poll_write_ready(context))?;
                let written = guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?));
                if let Ok(written) = written {
                    return Poll::Ready(written);
                }
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What comes out of a program: a pipe, or its terminal.
#[derive(Debug)]
pub struct Output(Reader);

#[derive(Debug)]
enum Reader {
    Pipe(pipe::Receiver),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Reader::Pipe(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Reader::Terminal(terminal) => loop {
                let mut guard = ready!(terminal.poll_read_ready(context))?;
                let space = buffer.initialize_unfilled();
                match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *space)?)) {
                    Ok(Ok(length)) => {
                        buffer.advance(length);
                        return Poll::Ready(Ok(()));
                    }
                    // The other end has been closed by everyone: that is a terminal's end of file.
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Err(error)) => return Poll::Ready(Err(error)),
                    Err(_would_block) => {}
                }
            },
        }
    }
}
