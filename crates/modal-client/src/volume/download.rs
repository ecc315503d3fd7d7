//! Downloads of files and trees, several files at once.

use std::{
    future::IntoFuture,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{
    EntryKind, Volume, VolumeEntry,
    progress::{Listener, Progress, Tracker},
    read::{AHEAD, Found},
    room,
};
use crate::error::{Error, Result};
use futures::{
    future::BoxFuture,
    stream::{self, StreamExt as _, TryStreamExt as _},
};

/// Files on their way at once, unless somebody says otherwise.
const PARALLEL_FILES: usize = 8;

/// Downloads a file or a directory; see [`Volume::download`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct Download {
    volume: Volume,
    path: String,
    target: PathBuf,
    overwrite: bool,
    parallel: usize,
    listener: Listener,
}

/// What a download did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DownloadSummary {
    /// Files that were written.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
    /// Entries that are neither files nor directories, such as symbolic links: they are left out.
    pub skipped: u64,
}

impl Volume {
    /// Downloads a file to the local path `target`, or everything below a directory to below it.
    ///
    /// ```no_run
    /// # async fn example(volume: modal_client::Volume) -> modal_client::Result<()> {
    /// let done = volume
    ///     .download("/results", "results")
    ///     .on_progress(|now| eprintln!("{} of {} bytes", now.bytes_done, now.bytes))
    ///     .await?;
    /// println!("{} files", done.files);
    /// # Ok(())
    /// # }
    /// ```
    pub fn download(&self, path: impl Into<String>, target: impl Into<PathBuf>) -> Download {
        Download {
            volume: self.clone(),
            path: path.into(),
            target: target.into(),
            overwrite: false,
            parallel: PARALLEL_FILES,
            listener: Listener::default(),
        }
    }
}

/// A file of the volume and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    remote: String,
    local: PathBuf,
    size: u64,
}

impl Download {
    /// Whether local files that exist are replaced; otherwise the download fails before anything is written.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// How many files are on their way at once; 8 unless this is called. Each takes up to 32 MiB of memory.
    pub fn parallel(mut self, files: usize) -> Self {
        self.parallel = files.max(1);
        self
    }

    /// Calls `listener` whenever bytes have been written.
    pub fn on_progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    async fn send(self) -> Result<DownloadSummary> {
        let entries = self.volume.list(&self.path).recursive(true).await?;
        let operation = || self.volume.operation("download", &self.path);
        let files = plan(&self.path, &self.target, &entries)
            .map_err(|problem| Error::protocol(operation(), problem))?;
        if !self.overwrite
            && let Some(file) = files.iter().find(|file| file.local.exists())
        {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Error::file(operation(), &file.local, exists));
        }
        let summary = DownloadSummary {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.size).sum(),
            skipped: entries
                .iter()
                .filter(|entry| !matches!(entry.kind, EntryKind::File | EntryKind::Directory))
                .count() as u64,
        };
        let tracker = Arc::new(Tracker::new(self.listener.clone(), summary.files, summary.bytes));
        let fetches = files.into_iter().map(|file| fetch(&self.volume, file, &tracker));
        stream::iter(fetches).buffer_unordered(self.parallel).try_collect::<()>().await?;
        Ok(summary)
    }
}

impl IntoFuture for Download {
    type Output = Result<DownloadSummary>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Which files go where. A name from the server may not lead out of `target`.
fn plan(path: &str, target: &Path, entries: &[VolumeEntry]) -> Result<Vec<Planned>, String> {
    let root = path.trim_matches('/');
    let mut files = Vec::new();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
        let name = entry.path.trim_start_matches('/');
        // A file that was asked for by its own path lists itself.
        let local = if name == root {
            target.to_owned()
        } else {
            let below = if root.is_empty() { Some(name) } else { name.strip_prefix(root) };
            let below = below.map(|below| Path::new(below.trim_start_matches('/')));
            let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
            match below.filter(|below| below.components().all(is_plain)) {
                Some(below) => target.join(below),
                None => return Err(format!("`{name}` is not a file below `{path}`")),
            }
        };
        files.push(Planned { remote: entry.path.clone(), local, size: entry.size });
    }
    Ok(files)
}

async fn fetch(volume: &Volume, file: Planned, tracker: &Tracker) -> Result<()> {
    let operation = || volume.operation("download", &file.remote);
    let failed = |source| Error::file(operation(), &file.local, source);
    if let Some(parent) = file.local.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    }
    let contents = volume.read(&file.remote).find().await?;
    // Written beside its place first, so that a broken download leaves no half file under the real name.
    let part = part_of(&file.local);
    let written = write(contents, &part, tracker).await;
    let settled = match written {
        Ok(()) => tokio::fs::rename(&part, &file.local).await.map_err(failed),
        Err(source) => match source.downcast::<Error>() {
            Ok(error) => Err(error),
            Err(source) => Err(failed(source)),
        },
    };
    if settled.is_err() {
        let _ = tokio::fs::remove_file(&part).await;
    } else {
        tracker.add(1, 0);
    }
    settled
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part-{}", uuid::Uuid::new_v4().simple()));
    path.with_file_name(name)
}

/// Writes each block where it belongs, in the order in which they come.
async fn write(contents: Found, path: &Path, tracker: &Tracker) -> std::io::Result<()> {
    let file = tokio::fs::File::create_new(path).await?;
    // Zeros at the end of a block are not written, but they count.
    let length = contents.length();
    file.set_len(length).await?;
    let file = file.into_std().await;
    let file = tokio::task::spawn_blocking(move || {
        room::reserve(&file, length);
        file
    });
    let file = Arc::new(Mutex::new(file.await?));
    let mut offset = 0;
    let blocks = contents.parts().map(|part| {
        let (file, at, length) = (Arc::clone(&file), offset, part.length());
        offset += length;
        async move { part.write_to(file, at).await.map(|()| length) }
    });
    let mut written = stream::iter(blocks).buffer_unordered(AHEAD);
    while let Some(length) = written.try_next().await? {
        tracker.add(0, length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> VolumeEntry {
        VolumeEntry { path: path.to_owned(), kind, size: 1, modified_at: None }
    }

    fn places(path: &str, names: &[&str]) -> Result<Vec<String>, String> {
        let entries: Vec<_> = names.iter().map(|name| entry(name, EntryKind::File)).collect();
        let planned = plan(path, Path::new("to"), &entries)?;
        Ok(planned.iter().map(|file| file.local.display().to_string()).collect())
    }

    #[test]
    fn a_tree_keeps_its_shape_and_a_file_takes_the_name() {
        assert_eq!(places("/", &["a", "b/c"]).unwrap(), ["to/a", "to/b/c"]);
        assert_eq!(places("/b/", &["b/c", "b/d/e"]).unwrap(), ["to/c", "to/d/e"]);
        assert_eq!(places("b/c", &["b/c"]).unwrap(), ["to"]);
    }

    #[test]
    fn a_name_that_leads_out_is_refused() {
        for name in ["b/../../etc/passwd", "c/x", "b/./../../x"] {
            assert!(places("b", &[name]).is_err(), "{name}");
        }
    }

    #[test]
    fn directories_and_links_are_no_files() {
        let entries = [entry("d", EntryKind::Directory), entry("l", EntryKind::Symlink)];
        assert_eq!(plan("/", Path::new("to"), &entries).unwrap(), []);
    }
}
