//! The headless coding agent that runs inside a sandbox; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while this is the only thread: from here on no key is in the environment.
    let environment = goat_eval::hardening::take_environment();
    let arguments = std::env::args_os().skip(1).collect();
    ExitCode::from(goat_eval::run(arguments, environment))
}
