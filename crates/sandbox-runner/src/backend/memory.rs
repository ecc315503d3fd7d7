//! Sandboxes whose programs are Rust functions and whose files are in memory. For tests.
//!
//! `sh` is there, as far as checks and the conformance suite need it: see [`shell`].

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Exec, Prepared, Running, Said, Sandbox, SandboxBackend, SandboxSpec, Say, WORKSPACE};
use crate::{Error, Result};

pub mod shell;

/// Files by absolute path.
pub type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// What a program sees.
#[derive(Clone)]
pub struct Program {
    /// Its arguments, its own name first.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// The files of its sandbox.
    pub files: Files,
    stdout: mpsc::UnboundedSender<Bytes>,
    stderr: mpsc::UnboundedSender<Bytes>,
    end: Arc<End>,
}

/// How a sandbox ends.
#[derive(Default)]
struct End {
    stop: CancellationToken,
    from_inside: AtomicBool,
}

impl Program {
    /// Writes to standard output.
    pub fn print(&self, text: impl Into<Bytes>) {
        let _closed = self.stdout.send(text.into());
    }

    /// Writes to standard error.
    pub fn complain(&self, text: impl Into<Bytes>) {
        let _closed = self.stderr.send(text.into());
    }

    /// Writes a file; relative paths begin at the workspace.
    pub fn write(&self, path: &str, contents: impl Into<Vec<u8>>) {
        lock(&self.files).insert(absolute(path), contents.into());
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        lock(&self.files).get(&absolute(path)).cloned()
    }

    /// Removes a file, or a directory with what is in it.
    pub fn remove(&self, path: &str) {
        let path = absolute(path);
        let below = format!("{path}/");
        lock(&self.files).retain(|file, _| *file != path && !file.starts_with(&below));
        if path == WORKSPACE {
            lock(&self.files).insert(GONE.to_owned(), Vec::new());
        }
    }

    /// Whether a directory can be entered: all but a workspace that was removed.
    fn enters(&self, directory: &str) -> bool {
        directory != WORKSPACE || !lock(&self.files).contains_key(GONE)
    }

    /// Ends its sandbox, as a program does that kills everything it can.
    pub fn end_sandbox(&self) {
        self.end.from_inside.store(true, Ordering::SeqCst);
        self.end.stop.cancel();
    }

    /// The value of `--name=value`.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.argv.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Marks a sandbox whose workspace was removed.
const GONE: &str = "the workspace is gone";

type Main = Arc<dyn Fn(Program) -> BoxFuture<'static, i32> + Send + Sync>;

/// Makes sandboxes in memory.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    programs: HashMap<String, Main>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    count: AtomicU64,
    failing_creates: AtomicU64,
    hangs: AtomicBool,
    specs: Mutex<Vec<SandboxSpec>>,
    alive: Mutex<BTreeMap<String, Alive>>,
}

struct Alive {
    tags: BTreeMap<String, String>,
    end: Arc<End>,
}

impl MemoryBackend {
    /// A backend whose only program is `sh`.
    pub fn new() -> Self {
        Self::default().with_program("sh", |program| async move { shell::run(&program).await })
    }

    /// Adds a program by its `argv[0]`.
    pub fn with_program<F>(
        mut self,
        name: &str,
        main: impl Fn(Program) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = i32> + Send + 'static,
    {
        self.programs.insert(name.to_owned(), Arc::new(move |program| main(program).boxed()));
        self
    }

    /// The next `n` creations fail.
    pub fn fail_creates(&self, n: u64) {
        self.state.failing_creates.store(n, Ordering::SeqCst);
    }

    /// From now on no sandbox can be ended: asked to, the backend does not answer.
    pub fn hang(&self) {
        self.state.hangs.store(true, Ordering::SeqCst);
    }

    /// What was asked for, sandbox by sandbox.
    pub fn specs(&self) -> Vec<SandboxSpec> {
        lock(&self.state.specs).clone()
    }

    /// Sandboxes that were made and not ended.
    pub fn alive(&self) -> Vec<String> {
        lock(&self.state.alive).keys().cloned().collect()
    }
}

#[async_trait]
impl SandboxBackend for MemoryBackend {
    async fn prepare(&self, say: Say<'_>) -> Result<Prepared> {
        say(Said::Step("sandboxes in memory".to_owned()));
        Ok(Prepared::default())
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>> {
        lock(&self.state.specs).push(spec.clone());
        let failing = &self.state.failing_creates;
        let fails = failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            return Err(Error::backend("create a sandbox", "told to fail"));
        }
        let id = format!("sb-memory-{}", self.state.count.fetch_add(1, Ordering::SeqCst) + 1);
        let end = Arc::new(End::default());
        let alive = Alive { tags: spec.tags.clone(), end: Arc::clone(&end) };
        lock(&self.state.alive).insert(id.clone(), alive);
        let ends = end.stop.clone();
        let timeout = spec.timeout;
        tokio::spawn(async move {
            let _first = tokio::time::timeout(timeout, ends.cancelled()).await;
            ends.cancel();
        });
        Ok(Box::new(MemorySandbox {
            id,
            backend: self.clone(),
            env: spec.env.clone(),
            files: Files::default(),
            end,
        }))
    }

    async fn end_tagged(&self, name: &str, value: &str) -> Result<usize> {
        let mut alive = lock(&self.state.alive);
        let before = alive.len();
        alive.retain(|_, sandbox| {
            let wanted = sandbox.tags.get(name).is_some_and(|found| found == value);
            if wanted {
                sandbox.end.stop.cancel();
            }
            !wanted
        });
        Ok(before - alive.len())
    }
}

struct MemorySandbox {
    id: String,
    backend: MemoryBackend,
    env: BTreeMap<String, String>,
    files: Files,
    end: Arc<End>,
}

impl MemorySandbox {
    fn check_alive(&self) -> Result<()> {
        if self.end.stop.is_cancelled() {
            return Err(Error::SandboxGone { sandbox: self.id.clone() });
        }
        Ok(())
    }
}

#[async_trait]
impl Sandbox for MemorySandbox {
    fn id(&self) -> &str {
        &self.id
    }

    async fn exec(&self, exec: &Exec) -> Result<Running> {
        self.check_alive()?;
        let name = exec.argv.first().cloned().unwrap_or_default();
        let main = self.backend.programs.get(&name).cloned();
        let doing = format!("run `{name}`");
        if exec.workdir == WORKSPACE && lock(&self.files).contains_key(GONE) {
            return Err(Error::Refused { doing, source: "no such directory".into() });
        }
        let main =
            main.ok_or_else(|| Error::Refused { doing, source: "no such program".into() })?;
        let (stdout, out) = mpsc::unbounded_channel();
        let (stderr, err) = mpsc::unbounded_channel();
        let mut env = self.env.clone();
        let secrets = exec.secrets.iter();
        env.extend(secrets.map(|(name, key)| (name.clone(), key.expose().to_owned())));
        let files = Arc::clone(&self.files);
        let end = Arc::clone(&self.end);
        let argv = exec.argv.clone();
        let program = Program { argv, env, files, stdout, stderr, end: Arc::clone(&end) };
        let running = tokio::spawn(run(main, program, exec.timeout, end.stop.clone()));
        let id = self.id.clone();
        let exit = async move {
            let code = running.await;
            if end.from_inside.load(Ordering::SeqCst) {
                return Err(Error::SandboxGone { sandbox: id });
            }
            code.map_err(|error| Error::backend("wait for a program", error))
        };
        Ok(Running {
            stdout: UnboundedReceiverStream::new(out).map(Ok).boxed(),
            stderr: UnboundedReceiverStream::new(err).map(Ok).boxed(),
            exit: exit.boxed(),
        })
    }

    async fn write_file(&self, path: &str, contents: &[u8]) -> Result<()> {
        self.check_alive()?;
        lock(&self.files).insert(absolute(path), contents.to_vec());
        Ok(())
    }

    async fn read_file(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.check_alive()?;
        let found = lock(&self.files).get(&absolute(path)).cloned();
        Ok(found.map(|mut contents| {
            contents.truncate(limit);
            contents
        }))
    }

    async fn ended_from_inside(&self) -> bool {
        self.end.from_inside.load(Ordering::SeqCst)
    }

    async fn terminate(&self) -> Result<()> {
        if self.backend.state.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        lock(&self.backend.state.alive).remove(&self.id);
        self.end.stop.cancel();
        Ok(())
    }
}

async fn run(main: Main, program: Program, timeout: Duration, stop: CancellationToken) -> i32 {
    const KILLED: i32 = 128 + 9;
    tokio::select! {
        biased;
        () = stop.cancelled() => KILLED,
        code = main(program) => code,
        () = tokio::time::sleep(timeout) => KILLED,
    }
}

fn absolute(path: &str) -> String {
    Path::new(WORKSPACE).join(path).display().to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
