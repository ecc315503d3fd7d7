//! A spawner for programs whose `main` is not theirs to change, such as test harnesses.
//!
//! Name it in `RuntimeConfig::spawner`. It knows one built-in program, `/.container-spawner/hello`, which shows how
//! built-ins see their arguments, environment and working directory.

#![expect(clippy::print_stdout, reason = "it is the output of a program")]
#![expect(clippy::print_stderr, reason = "it is the output of a program")]

use std::ffi::OsString;

use container_runtime::Builtin;

const BUILTINS: &[Builtin] = &[Builtin { path: "/.container-spawner/hello", main: hello }];

fn main() -> std::process::ExitCode {
    container_runtime::run_if_spawner(BUILTINS);
    eprintln!("container-spawner is started by a container runtime, not by hand");
    std::process::ExitCode::from(2)
}

/// Prints what it was given; exits with the number in its first argument.
fn hello(args: Vec<OsString>) -> i32 {
    let code = args.get(1).and_then(|code| code.to_str()?.parse().ok()).unwrap_or(0);
    let cwd = std::env::current_dir().unwrap_or_default();
    let names: Vec<String> =
        std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    println!("hello from {} with {}", cwd.display(), names.join(","));
    code
}
