//! A deployment that ends in the middle: by Ctrl-C, because the local server is killed, or because its disk is full. It
//! ends at once, says what was done, leaves nothing running but the server, and the next one goes on.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use it::Machine;

use crate::{
    eval::{Lines, signal, wait_for},
    small_disk::SmallDisk,
};

/// Longer than any of these ends takes.
const SOON: Duration = Duration::from_secs(15);
/// Less than LiteLLM's packages take.
const TOO_LITTLE: u64 = 16 << 20;

/// A deployment at work, and what it says.
struct Deployment {
    child: Child,
    lines: Option<Lines>,
}

impl Deployment {
    fn start(machine: &Machine) -> Self {
        let mut command = machine.xtask(&["--target", "local", "deploy", "--wait"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines: Some(lines) }
    }

    /// Returns once it says that.
    fn says(mut self, text: &str) -> Self {
        self.lines = self.lines.map(|lines| wait_for(lines, text));
        self
    }

    /// Its exit code and the rest of what it says; it must end soon.
    fn end(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        let rest: Vec<String> = self.lines.take().unwrap().map(Result::unwrap).collect();
        let code = self.child.wait().unwrap().code();
        assert!(began.elapsed() < SOON, "it took {:?}: {rest:?}", began.elapsed());
        (code, rest.join("\n"))
    }
}

/// Takes LiteLLM's layers away, so that they are built.
fn forget_litellm(machine: &Machine) {
    let Ok(layers) = fs::read_dir(machine.state().join("images/layers")) else { return };
    for layer in layers.map(|entry| entry.unwrap().path()) {
        if holds_litellm(&layer, 8) {
            fs::remove_dir_all(layer).unwrap();
        }
    }
}

fn holds_litellm(directory: &Path, depth: u32) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let below = entries.map(|entry| entry.unwrap()).filter(|it| it.file_type().unwrap().is_dir());
    below.map(|entry| entry.path()).any(|path| {
        path.ends_with("dist-packages/litellm") || depth > 0 && holds_litellm(&path, depth - 1)
    })
}

/// Programs that a command on this machine started and that still run; the server's own are its children.
fn left(machine: &Machine) -> Vec<String> {
    let state = format!("GOAT_STATE_DIR={}", machine.state().display());
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let is_of = |path: &Path| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == state.as_bytes())
    };
    let mine = processes.map(|entry| entry.path()).filter(|path| is_of(path));
    let words = |path: PathBuf| {
        String::from_utf8_lossy(&fs::read(path.join("cmdline")).unwrap_or_default())
            .replace('\0', " ")
    };
    let is_server =
        |words: &String| words.contains("local serve") || words.starts_with("container-spawner");
    mine.map(words).filter(|words| !words.is_empty() && !is_server(words)).collect()
}

#[test]
fn a_deployment_that_ends_in_the_middle_says_what_was_done_and_the_next_goes_on() {
    let machine = Machine::new();
    let file = machine.path().join("values.env").display().to_string();
    // The same programs in half the time: what is measured here is not their speed.
    let machine = machine.with("GOAT_ENV_FILE", file).with("CARGO_PROFILE_SERVICE_OPT_LEVEL", "0");
    // Nothing is kept back: the kernel says that the disk is full, to whoever writes.
    let machine = machine.with("GOAT_DISK_RESERVE", "0");
    forget_litellm(&machine);
    let disk = SmallDisk::of(&machine);
    machine.succeed(&["--target", "local", "setup", "--yes"]);

    let building = Deployment::start(&machine).says("Collecting");
    disk.leave(TOO_LITTLE);
    let (code, words) = building.end();
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("the disk of the local server is full"), "{words}");
    assert!(words.contains(&machine.state().display().to_string()), "{words}");
    assert!(words.contains("cargo xtask local gc"), "{words}");
    assert!(words.contains("nothing was deployed"), "{words}");
    assert_eq!(left(&machine), Vec::<String>::new());
    assert_eq!(disk.half_built(), Vec::<PathBuf>::new());
    disk.make_room();

    let building = Deployment::start(&machine).says("Collecting");
    crate::local::kill_server(&machine);
    let (code, words) = building.end();
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("the local server has ended in the middle of it"), "{words}");
    assert!(words.contains("`cargo xtask deploy` starts it anew"), "{words}");
    assert_eq!(left(&machine), Vec::<String>::new());

    let building = Deployment::start(&machine).says("Collecting");
    signal(&building.child, "INT");
    let (code, words) = building.end();
    assert_eq!(code, Some(130), "{words}");
    assert!(words.contains("cancelled: nothing was deployed"), "{words}");
    assert_eq!(left(&machine), Vec::<String>::new());
    let urls = machine.run(&["--target", "local", "urls"]);
    assert_eq!(urls.status.code(), Some(1), "nothing is deployed");

    let waiting = Deployment::start(&machine).says("waiting for");
    signal(&waiting.child, "INT");
    let (code, words) = waiting.end();
    assert_eq!(code, Some(130), "{words}");
    assert!(words.contains("cancelled: version 1 of goat-services is deployed"), "{words}");
    assert_eq!(left(&machine), Vec::<String>::new());

    crate::local::kill_server(&machine);
    let waiting = Deployment::start(&machine).says("waiting for");
    crate::local::kill_server(&machine);
    let (code, words) = waiting.end();
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("what is deployed starts with it again"), "{words}");
    assert_eq!(left(&machine), Vec::<String>::new());

    let output = machine.run(&["--target", "local", "deploy", "--wait"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.contains("version 1 of goat-services is deployed like this already"), "{words}");
    assert_eq!(disk.half_built(), Vec::<PathBuf>::new());
    machine.succeed(&["--target", "local", "stop", "--yes"]);
}
