//! Compiles `proto/*.proto` with a compiler in Rust, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["modal_api.proto", "modal_task_command_router.proto"], ["proto"])?;
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&descriptors, files.encode_to_vec())?;
    tonic_prost_build::configure()
        // A server may leave RPCs out that only the client speaks.
        .generate_default_stubs(true)
        .bytes(".modal.client.MountPutFileRequest.data")
        .compile_fds(files)?;
    Ok(())
}
