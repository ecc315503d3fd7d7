//! This machine's own programs as a base, where no Debian tree can be made: see
//! [`container_runtime::host_root`] for what is shown of them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::BaseError;
use crate::durable;
use crate::error::Error;
use crate::image::digest::Hasher;
use crate::image::layer::{LayerId, LayerStore};

/// Counted up when what is done here changes the result.
const RECIPE: &str = "1";

/// The layer of this machine as it is now.
pub(super) fn layer_id() -> LayerId {
    let mut hasher = Hasher::new("host");
    hasher.part(RECIPE);
    for path in ["/usr/bin", "/usr/lib", "/var/lib/dpkg/status", "/etc/os-release"] {
        let changed = fs::metadata(path).map(|found| (found.mtime(), found.mtime_nsec()));
        hasher.part(format!("{changed:?}"));
    }
    LayerId::of(&hasher)
}

/// The Python series of this machine's `python3`, such as `3.11`.
pub(super) fn python() -> Option<String> {
    let target = fs::read_link("/usr/bin/python3").ok()?;
    Some(target.file_name()?.to_str()?.strip_prefix("python")?.to_owned())
}

/// Puts the tree together. Blocks; takes seconds.
pub(super) fn make(id: &LayerId, store: &LayerStore) -> Result<(), BaseError> {
    let scratch = store.scratch()?;
    let tree = scratch.path().join("tree");
    container_runtime::host_root::layer(&tree).map_err(BaseError::Host)?;
    let link = tree.join("usr/bin/python");
    if tree.join("usr/bin/python3").exists() && fs::symlink_metadata(&link).is_err() {
        symlink("python3", &link).map_err(Error::file("link", &link))?;
    }
    if let Some(series) = python() {
        durable::remove_file(&tree.join(format!("usr/lib/python{series}/EXTERNALLY-MANAGED")))?;
    }
    Ok(store.commit(id, &tree)?)
}
