//! `setup` at a real terminal: a pseudoterminal with a person at its other end.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use it::Machine;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "sk-typed-by-a-person";

/// What is shown so far.
#[derive(Default)]
struct Shown {
    text: Mutex<String>,
    more: Condvar,
}

/// The person's end.
struct Person {
    keyboard: File,
    /// The program's end, held so that its state can be looked at.
    terminal: File,
    shown: Arc<Shown>,
    reader: JoinHandle<()>,
    child: Child,
    read: usize,
}

impl Person {
    /// Starts `xtask setup` on a terminal of its own.
    fn runs_setup(machine: &Machine, more: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = machine.command("setsid");
        command.args(["--ctty", "--wait"]).arg(it::xtask_binary()).arg("setup").args(more);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master);
        let shown = Arc::new(Shown::default());
        let (mut screen, told) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                told.text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
                told.more.notify_all();
            }
        });
        Self { keyboard, terminal, shown, reader, child, read: 0 }
    }

    /// Reads on until `text` is shown.
    fn sees(&mut self, text: &str) {
        let shown = self.shown.text.lock().unwrap();
        let is_missing = |shown: &mut String| !shown[self.read..].contains(text);
        let (shown, waited) =
            self.shown.more.wait_timeout_while(shown, PATIENCE, is_missing).unwrap();
        assert!(!waited.timed_out(), "`{text}` is not shown:\n{shown}");
        self.read += shown[self.read..].find(text).unwrap() + text.len();
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Whether what is typed would be shown.
    fn is_echoed(&self) -> bool {
        tcgetattr(self.terminal.as_fd()).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits until the program has switched echo off: before that a person would see what is asked, too.
    fn waits_for_a_secret(&mut self, of: &str) {
        self.sees(of);
        let began = std::time::Instant::now();
        while self.is_echoed() {
            assert!(began.elapsed() < PATIENCE, "{of} is echoed");
            std::thread::yield_now();
        }
    }

    /// The exit code, and all that was shown.
    fn sees_the_end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        assert!(self.is_echoed(), "the terminal is left without echo");
        // Nobody writes to it any more: the reader comes to its end.
        drop(self.terminal);
        self.reader.join().unwrap();
        let text = self.shown.text.lock().unwrap().clone();
        (status.code(), text)
    }
}

/// A machine whose target `modal` is a server here, and its file of values.
fn machine() -> (Machine, PathBuf) {
    let machine = Machine::new();
    let server = machine.start_local();
    let file = machine.path().join("values.env");
    let machine =
        server.into_iter().fold(machine, |machine, (name, value)| machine.with(&name, value));
    let named = file.display().to_string();
    (machine.with("GOAT_ENV_FILE", named).with("NO_PROXY", "127.0.0.1"), file)
}

const ON_MODAL: [&str; 2] = ["--target", "modal"];
/// All that can be made besides the environment, in the order in which it is asked for.
const THINGS: [&str; 9] = [
    "secret goat-llm-providers",
    "secret goat-litellm",
    "secret goat-langfuse",
    "secret goat-postgres",
    "volume goat-langfuse-pg",
    "volume goat-results",
    "volume goat-model-cache",
    "volume goat-vllm-cache",
    "volume goat-flashinfer-cache",
];

fn gives_a_key(person: &mut Person) {
    person.waits_for_a_secret("Azure AZURE_API_KEY: ");
    person.types("\n");
    person.waits_for_a_secret("OpenAI OPENAI_API_KEY: ");
    person.types(&format!("{KEY}\n"));
}

fn agrees(person: &mut Person, to: &str) {
    person.sees(&format!("make {to}? [y/N] "));
    person.types("y\n");
}

#[test]
fn a_person_is_asked_before_each_thing_and_for_a_key_that_nobody_sees() {
    let (machine, file) = machine();
    let mut person = Person::runs_setup(&machine, &ON_MODAL);
    gives_a_key(&mut person);
    agrees(&mut person, "environment goat");
    for thing in THINGS {
        person.sees(&format!("make {thing}? [y/N] "));
        person.types(if thing == "volume goat-results" { "n\n" } else { "y\n" });
    }
    let (code, shown) = person.sees_the_end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("secret goat-llm-providers: made"), "{shown}");
    assert!(!shown.contains("volume goat-results: made"), "{shown}");
    let values = std::fs::read_to_string(&file).unwrap();
    assert!(values.contains(&format!("OPENAI_API_KEY={KEY}\n")), "the typed key is kept");

    // Only what is missing is asked for, and Ctrl-D is no.
    let mut person = Person::runs_setup(&machine, &ON_MODAL);
    person.sees("make volume goat-results? [y/N] ");
    person.types("\u{4}");
    let (code, shown) = person.sees_the_end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("nothing was done"), "{shown}");
    let (done, said) = {
        let output = machine.run(&["setup", "--target", "modal", "--yes"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(done, Some(0), "{said}");
    assert!(said.contains("volume goat-results: made"), "{said}");
}

#[test]
fn ctrl_c_at_any_question_changes_nothing_and_leaves_the_terminal_as_it_was() {
    let (machine, file) = machine();
    for at_the_key in [true, false] {
        let mut person = Person::runs_setup(&machine, &ON_MODAL);
        if at_the_key {
            person.waits_for_a_secret("Azure AZURE_API_KEY: ");
            person.types("sk-half");
        } else {
            gives_a_key(&mut person);
            agrees(&mut person, "environment goat");
            agrees(&mut person, THINGS[0]);
            person.sees(&format!("make {}? [y/N] ", THINGS[1]));
        }
        person.types("\u{3}");
        let (code, shown) = person.sees_the_end();
        assert_eq!(code, Some(130), "{shown}");
        assert!(shown.contains("cancelled: nothing was changed"), "{shown}");
        assert!(!file.exists(), "nothing is written before all is agreed to");
    }
    let dry = machine.run(&["setup", "--target", "modal", "--dry-run", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(plan["environment"]["action"], "make", "{plan}");
}

#[test]
fn a_server_that_dies_meanwhile_is_one_clear_line_and_the_next_run_goes_on() {
    let (machine, file) = machine();
    let mut person = Person::runs_setup(&machine, &ON_MODAL);
    gives_a_key(&mut person);
    agrees(&mut person, "environment goat");
    for thing in THINGS.iter().take(THINGS.len() - 1) {
        agrees(&mut person, thing);
    }
    let last = THINGS[THINGS.len() - 1];
    person.sees(&format!("make {last}? [y/N] "));
    machine.succeed(&["local", "stop"]);
    person.types("y\n");
    let (code, shown) = person.sees_the_end();
    assert_eq!(code, Some(3), "{shown}");
    let errors: Vec<_> = shown.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(errors.len(), 1, "{shown}");
    assert!(errors[0].contains("run the command again"), "{shown}");
    assert!(!shown.contains("caused by") && !shown.contains("panicked"), "{shown}");
    let kept = std::fs::read_to_string(&file).unwrap();

    let again = machine.start_local().into_iter();
    let machine = again.fold(machine, |machine, (name, value)| machine.with(&name, value));
    machine.succeed(&["setup", "--target", "modal", "--yes"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept, "the same values were given");
    let check = machine.run(&["setup", "--target", "modal", "--check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
}
