//! Wire types of the part of Modal's API that this workspace speaks, client and server side.
//!
//! Nearly everything here is generated at build time from `proto/*.proto`; names and numbers are those of
//! the `modal` package that `tests/descriptors.rs` compares them with. To declare another RPC, add
//! its name to `tools/rpcs.txt` and run `tools/generate.py`.

mod rich_status;

pub use self::rich_status::RichStatus;

/// Messages and the service `ModalClient`, the control plane.
#[allow(missing_docs, clippy::all)]
pub mod client {
    tonic::include_proto!("modal.client");
}

/// Messages and the service `TaskCommandRouter`, which runs commands in sandboxes.
#[allow(missing_docs, clippy::all)]
pub mod task_command_router {
    tonic::include_proto!("modal.task_command_router");
}

/// The encoded `FileDescriptorSet` of everything declared here.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Every RPC declared here, as `package.Service/Method`, in the order of the `.proto` files.
pub fn rpcs() -> Vec<String> {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS)
        .expect("build.rs wrote these bytes with the same types");
    let mut names = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                names.push(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    names
}
