//! Finished image layers, handed from machine to machine, so that not every test makes Debian anew.
//!
//! Layers are addressed by what they are made of and never change, so machines share them: a server sees a link to each.
//! (Hard links to all their files took half of the tests' time: 15,000 directories made and removed for each machine.)

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::target_directory;

const LAYERS: &str = "images/layers";

fn seed() -> PathBuf {
    target_directory().join("it-layers")
}

/// Shows the kept layers to a new state directory.
pub fn plant(state: &Path) {
    let layers = state.join(LAYERS);
    for (name, kept) in finished(&seed()) {
        fs::create_dir_all(&layers).unwrap();
        symlink(kept, layers.join(name)).unwrap();
    }
}

/// Keeps the layers of a state directory that ends: those that it made itself.
pub fn keep(state: &Path) {
    let seed = seed();
    for (name, made) in finished(&state.join(LAYERS)) {
        let target = seed.join(&name);
        if made.is_symlink() || target.exists() {
            continue;
        }
        fs::create_dir_all(&seed).unwrap();
        // Another machine may have kept the same layer meanwhile, or the directories lie on two file systems.
        if fs::rename(&made, &target).is_err() && !target.exists() {
            copy(&made, &seed.join(format!("new-{}-{name}", std::process::id())), &target);
        }
    }
}

/// Copies a layer under a temporary name until it is whole.
fn copy(made: &Path, new: &Path, target: &Path) {
    let copied = Command::new("cp").arg("-a").arg(made).arg(new).status().unwrap();
    if !copied.success() || fs::rename(new, target).is_err() {
        let _ = fs::remove_dir_all(new);
    }
}

/// The layers below `directory` with their names; none where there is no such directory.
fn finished(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .map(Result::unwrap)
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, _)| !name.starts_with("new-"))
        .collect()
}
