//! The program: `service-supervisor` with Modal's register of leases.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_supervisor::program::main(Some(modal_supervisor::DictRegister::of_container))
}
