//! Finished image layers, handed from machine to machine, so that not every test makes Debian anew.
//!
//! Layers are addressed by what they are made of and never change, so hard links to their files are
//! as good as copies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::target_directory;

const LAYERS: &str = "images/layers";

fn seed() -> PathBuf {
    target_directory().join("it-layers")
}

/// Links the kept layers into a new state directory.
pub fn plant(state: &Path) {
    link(&seed(), &state.join(LAYERS));
}

/// Keeps the layers of a state directory that ends.
pub fn keep(state: &Path) {
    link(&state.join(LAYERS), &seed());
}

/// Links every layer of `from` that `to` lacks, under a temporary name until it is whole.
fn link(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for entry in entries.map(Result::unwrap) {
        let target = to.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if target.exists() || name.starts_with("new-") {
            continue;
        }
        let new = to.join(format!("new-{}-{name}", std::process::id()));
        let copied = Command::new("cp").arg("-al").arg(entry.path()).arg(&new).status().unwrap();
        if !copied.success() || fs::rename(&new, &target).is_err() {
            let _ = fs::remove_dir_all(&new);
        }
    }
}
