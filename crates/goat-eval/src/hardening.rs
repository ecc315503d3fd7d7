//! Keeps the keys from the tools, and the tools' processes under control.
//!
//! Tools run commands that a model wrote, under the same user as the agent. Where could they find a key?
//!
//! - In their environment: [`take_environment`] removes it from the agent's own, so that nothing inherits it.
//! - In `/proc/<agent>/environ`: that file shows the block of memory in which the kernel put the environment when
//!   the program was started. Removing a variable leaves its text there, so it is overwritten in place. That
//!   needs no second `exec`, which would cost time and pass the key on once more.
//! - In the agent's memory, through ptrace or `/proc/<agent>/mem`: the process is made non-dumpable, and where it
//!   runs as root, `CAP_SYS_PTRACE` is taken from everything that it starts.
//!
//! [`adopt_orphans`] is the other half: whatever a tool started stays findable, also when its parent is gone.

use std::ffi::{CStr, OsString, c_char};

use crate::secret::Secret;

/// The environment after the keys were taken out of it.
#[derive(Debug, Default)]
pub struct Environment {
    /// What is left, and what the commands of tools get.
    pub public: Vec<(OsString, OsString)>,
    /// The variables that hold keys.
    pub secrets: Vec<(String, Secret)>,
}

impl Environment {
    /// The value of a variable; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.public.iter().find(|(key, _)| key == name)?;
        value.to_str().filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// The key in a variable; an empty one counts as none.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        let (_, value) = self.secrets.iter().find(|(key, _)| key == name)?;
        (!value.expose().is_empty()).then(|| value.clone())
    }
}

/// Takes the keys out of this process's environment and hides its memory from the processes it will start.
///
/// Must be the first thing that `main` does: no other thread may exist yet.
pub fn take_environment() -> Environment {
    let secrets = take_secret_variables();
    let public = std::env::vars_os().collect();
    hide_memory();
    Environment { public, secrets }
}

/// Whether a variable of this name holds a key that no tool should see.
///
/// Names of providers and of this system. A task's own `DATABASE_PASSWORD` is the task's, and stays.
pub fn is_secret_name(name: &str) -> bool {
    const NAMES: [&str; 5] = [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "MODAL_TOKEN_ID",
        "MODAL_TOKEN_SECRET",
        "LANGFUSE_SALT",
    ];
    const ENDS: [&str; 9] = [
        "_API_KEY",
        "_API_TOKEN",
        "_MASTER_KEY",
        "_SECRET_KEY",
        "_SECRET_ACCESS_KEY",
        "_SIGNING_KEY",
        "_LITELLM_KEY",
        "_AUTH_TOKEN",
        "_SESSION_TOKEN",
    ];
    let name = name.to_ascii_uppercase();
    NAMES.contains(&name.as_str()) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether a variable must go: by its name, or because it repeats the agent's own key.
fn must_go(name: &[u8], value: &[u8], key: Option<&[u8]>) -> bool {
    std::str::from_utf8(name).is_ok_and(is_secret_name)
        || key.is_some_and(|key| value.windows(key.len()).any(|part| part == key))
}

#[expect(
    unsafe_code,
    reason = "only the environment block itself can be overwritten, and only through its pointers"
)]
fn take_secret_variables() -> Vec<(String, Secret)> {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    let key = std::env::var("OPENAI_API_KEY").ok().filter(|key| key.len() >= 8);
    let mut taken = Vec::new();
    // SAFETY: `environ` is the null-terminated list of null-terminated strings that the C library keeps. This is
    // the only thread (the contract of `take_environment`), so nobody reads or changes it meanwhile; the strings
    // lie in memory of this process that is writable (the kernel put them on its stack). Only the bytes before a
    // terminator are overwritten, and the list only gets shorter.
    unsafe {
        let mut from = environ;
        let mut to = environ;
        while !from.is_null() && !(*from).is_null() {
            let entry = *from;
            let bytes = CStr::from_ptr(entry).to_bytes();
            let (name, value) = split(bytes);
            if must_go(name, value, key.as_deref().map(str::as_bytes)) {
                let name = String::from_utf8_lossy(name).into_owned();
                taken.push((name, Secret::new(String::from_utf8_lossy(value))));
                let length = bytes.len();
                std::ptr::write_bytes(entry, 0, length);
            } else {
                *to = entry;
                to = to.add(1);
            }
            from = from.add(1);
        }
        if !to.is_null() {
            *to = std::ptr::null_mut();
        }
    }
    if let Some(key) = key {
        drop(Secret::new(key));
    }
    taken
}

/// `NAME=value` in its two parts.
fn split(entry: &[u8]) -> (&[u8], &[u8]) {
    match entry.iter().position(|byte| *byte == b'=') {
        Some(at) => (&entry[..at], &entry[at + 1..]),
        None => (entry, &[]),
    }
}

/// No core dump, no ptrace, no `/proc/<pid>/mem` for others of the same user.
///
/// A system that does not know these calls has no such files either, so a refusal is not an error.
#[cfg(target_os = "linux")]
fn hide_memory() {
    use rustix::{process, thread};
    let _ = process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable);
    // Root with this capability may look into non-dumpable processes too. Without it in the bounding set, no
    // program that is executed from here on can have it.
    let _ = thread::remove_capability_from_bounding_set(thread::CapabilitySet::SYS_PTRACE);
}

#[cfg(not(target_os = "linux"))]
fn hide_memory() {}

/// Makes this process the parent of every descendant whose own parent has ended.
#[cfg(target_os = "linux")]
pub fn adopt_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Makes this process the parent of every descendant whose own parent has ended, where the system can.
#[cfg(not(target_os = "linux"))]
pub fn adopt_orphans() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_are_known_and_those_of_tasks_left() {
        for name in [
            "OPENAI_API_KEY",
            "azure_api_key",
            "LITELLM_MASTER_KEY",
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["OPENAI_BASE_URL", "EVAL_MODEL", "POSTGRES_PASSWORD", "PATH", "AZURE_API_BASE"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn copies_of_the_key_go_too() {
        assert!(must_go(b"MY_COPY", b"Bearer sk-123456789", Some(b"sk-123456789")));
        assert!(!must_go(b"OTHER", b"value", Some(b"sk-123456789")));
    }

    #[test]
    fn empty_values_count_as_none() {
        let environment = Environment {
            public: vec![("EVAL_MODEL".into(), "".into())],
            secrets: vec![("OPENAI_API_KEY".into(), Secret::new(""))],
        };
        assert!(environment.get("EVAL_MODEL").is_none());
        assert!(environment.secret("OPENAI_API_KEY").is_none());
    }
}
