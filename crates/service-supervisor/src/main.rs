//! `service-supervisor`, for machines whose containers see one directory alike: it knows no other register of leases.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_supervisor::program::main(None)
}
