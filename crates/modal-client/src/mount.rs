//! Mounts: local files, uploaded once each by content, that show up in sandboxes and image builds.

use std::{
    collections::HashMap,
    future::IntoFuture,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    future::BoxFuture,
    stream::{self, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;
use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    apps::App,
    blob,
    client::Client,
    error::{Error, Operation, Result},
    ids::{AppId, MountId},
    ignore_rules::IgnoreRules,
    local::{self, LocalFile},
    retry::RetryPolicy,
    rpc::methods,
};

/// Files from here on go through a blob.
const BLOB_FROM: usize = 4 * 1024 * 1024;
/// Hashes asked for in one request.
const BATCH: usize = 64;
const PARALLEL_UPLOADS: usize = 16;
/// The server takes this long at most to have a file that was sent.
const PUT_LIMIT: Duration = Duration::from_secs(600);

/// Local files that are on the server now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// Its id.
    pub id: MountId,
    /// How many files it has.
    pub files: usize,
}

/// Which local files go where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LocalFiles(Vec<LocalItem>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum LocalItem {
    File { path: PathBuf, remote: String, mode: Option<u32> },
    Tree { root: PathBuf, remote: String, ignore: IgnoreRules },
}

impl LocalFiles {
    pub(crate) fn file(path: PathBuf, remote: &str) -> Self {
        // As with `cp`: a target that ends with a slash is a directory.
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let remote =
            if remote.ends_with('/') { format!("{remote}{name}") } else { remote.to_owned() };
        Self(vec![LocalItem::File { path, remote, mode: None }])
    }

    /// A program: executable, whatever this machine says of the file.
    fn program(path: PathBuf, remote: String) -> Self {
        Self(vec![LocalItem::File { path, remote, mode: Some(0o755) }])
    }

    pub(crate) fn tree(root: PathBuf, remote: String) -> Self {
        Self::tree_without(root, remote, IgnoreRules::default())
    }

    pub(crate) fn tree_without(root: PathBuf, remote: String, ignore: IgnoreRules) -> Self {
        Self(vec![LocalItem::Tree { root, remote, ignore }])
    }

    fn find(&self) -> Result<Vec<LocalFile>, local::Unreadable> {
        let mut found = Vec::new();
        for item in &self.0 {
            match item {
                LocalItem::File { path, remote, mode } => {
                    let file = local::file(path, remote)?;
                    let mode = mode.unwrap_or(file.mode);
                    found.push(LocalFile { mode, ..file });
                }
                LocalItem::Tree { root, remote, ignore } => {
                    found.extend(local::tree(root, remote, ignore)?);
                }
            }
        }
        Ok(found)
    }

    fn relative(&self) -> Option<&str> {
        let mut targets = self.0.iter().map(|item| match item {
            LocalItem::File { remote, .. } | LocalItem::Tree { remote, .. } => remote.as_str(),
        });
        targets.find(|remote| !remote.starts_with('/'))
    }
}

/// Uploads local files for an app's sandboxes; see [`Client::mount`].
#[derive(Debug, Clone)]
#[must_use = "nothing is sent until it is awaited"]
pub struct MountUpload {
    client: Client,
    app: AppId,
    files: LocalFiles,
}

impl Client {
    /// Uploads local files once, to be used by many sandboxes of an app:
    /// `client.mount(&app).file("agent", "/opt/agent").await?`.
    pub fn mount(&self, app: &App) -> MountUpload {
        MountUpload { client: self.clone(), app: app.id.clone(), files: LocalFiles::default() }
    }
}

impl MountUpload {
    /// A local file, to be at the absolute path `remote`, with its mode.
    pub fn file(mut self, path: impl Into<PathBuf>, remote: impl AsRef<str>) -> Self {
        self.files.0.extend(LocalFiles::file(path.into(), remote.as_ref()).0);
        self
    }

    /// A local program, to be at the absolute path `remote`, with mode 0755 whatever its own is:
    /// archives and artefacts of CI lose it.
    pub fn program(mut self, path: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.files.0.extend(LocalFiles::program(path.into(), remote.into()).0);
        self
    }

    /// Every file of a local directory, to be below the absolute path `remote`.
    pub fn tree(mut self, root: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.files.0.extend(LocalFiles::tree(root.into(), remote.into()).0);
        self
    }
}

impl IntoFuture for MountUpload {
    type Output = Result<Mount>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { create(&self.client, &self.app, &self.files).await })
    }
}

/// Uploads what the server lacks of `files` and makes a mount of them that belongs to the app.
pub(crate) async fn create(client: &Client, app: &AppId, files: &LocalFiles) -> Result<Mount> {
    if let Some(remote) = files.relative() {
        return Err(Error::invalid(operation(), format!("`{remote}` is not an absolute path")));
    }
    let files = files.clone();
    let hashed = blocking(move || files.find()?.into_iter().map(hash).collect()).await?;
    create_of(client, app, hashed).await
}

/// As [`create`], of files that were found already.
pub(crate) async fn create_of_found(
    client: &Client,
    app: &AppId,
    files: Vec<LocalFile>,
) -> Result<Mount> {
    let hashed = blocking(move || files.into_iter().map(hash).collect()).await?;
    create_of(client, app, hashed).await
}

fn operation() -> Operation {
    Operation::new("upload", "local files")
}

async fn create_of(client: &Client, app: &AppId, hashed: Vec<HashedFile>) -> Result<Mount> {
    let hashes = unique(&hashed);
    let mut missing = Vec::new();
    let mut earliest: Option<Timestamp> = None;
    for batch in hashes.chunks(BATCH) {
        let query = api::MountBatchedCheckExistenceRequest { sha256_hex_hashes: batch.to_vec() };
        let answer =
            client.call(&methods::MOUNT_BATCHED_CHECK_EXISTENCE, &query, operation()).await?;
        missing.extend(answer.missing_sha256_hex_hashes);
        let checked = earliest.into_iter().chain(answer.checked_at);
        earliest = checked.min_by_key(|at| (at.seconds, at.nanos));
    }
    let by_hash: HashMap<&str, &LocalFile> =
        hashed.iter().map(|file| (file.sha256.as_str(), &file.local)).collect();
    let mut uploads = Vec::new();
    for hash in missing {
        let file = by_hash.get(hash.as_str()).ok_or_else(|| {
            Error::protocol(operation(), "a file is missing that was not offered")
        })?;
        uploads.push(put(client.clone(), hash, (*file).clone()));
    }
    stream::iter(uploads).buffer_unordered(PARALLEL_UPLOADS).try_collect::<()>().await?;
    let mut query = create_request(app, &hashed);
    query.earliest_checked_at = earliest;
    let answer = client.call(&methods::MOUNT_GET_OR_CREATE, &query, operation()).await?;
    mount_of(answer, hashed.len(), operation)
}

/// A mount that Modal itself provides, such as a Python for images without one.
pub(crate) async fn global(client: &Client, name: &str) -> Result<Mount> {
    let operation = || Operation::new("look up", format!("Modal's own mount `{name}`"));
    let query = global_request(name, client.environment_name());
    let answer = client.call(&methods::MOUNT_GET_OR_CREATE, &query, operation()).await?;
    mount_of(answer, 0, operation)
}

fn mount_of(
    answer: api::MountGetOrCreateResponse,
    files: usize,
    operation: impl Fn() -> Operation,
) -> Result<Mount> {
    let id = MountId::try_from(answer.mount_id)
        .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
    Ok(Mount { id, files })
}

/// A local file and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct HashedFile {
    pub(crate) local: LocalFile,
    pub(crate) sha256: String,
}

/// Looks at local files where blocking is allowed.
async fn blocking(
    find: impl FnOnce() -> Result<Vec<HashedFile>, local::Unreadable> + Send + 'static,
) -> Result<Vec<HashedFile>> {
    match tokio::task::spawn_blocking(find).await {
        Ok(Ok(hashed)) => Ok(hashed),
        Ok(Err(error)) => Err(Error::file(operation(), error.path, error.source)),
        Err(error) => Err(Error::file(operation(), "(local files)", error.into())),
    }
}

fn hash(local: LocalFile) -> Result<HashedFile, local::Unreadable> {
    let digest = || -> std::io::Result<String> {
        let mut sha256 = Sha256::new();
        match &local.data {
            Some(data) => sha256.update(data),
            None => drop(std::io::copy(&mut std::fs::File::open(&local.path)?, &mut sha256)?),
        }
        Ok(hex::encode(sha256.finalize()))
    };
    match digest() {
        Ok(sha256) => Ok(HashedFile { local, sha256 }),
        Err(source) => Err(local::Unreadable { path: local.path, source }),
    }
}

/// Each hash once, in the order of the files.
fn unique(files: &[HashedFile]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    files.iter().filter(|file| seen.insert(&file.sha256)).map(|file| file.sha256.clone()).collect()
}

async fn put(client: Client, hash: String, file: LocalFile) -> Result<()> {
    let path = file.path.clone();
    let operation = || Operation::new("upload", format!("`{}`", path.display()));
    let data = match tokio::task::spawn_blocking(move || file.read()).await {
        Ok(Ok(data)) => data,
        Ok(Err(source)) => return Err(Error::file(operation(), path, source)),
        Err(error) => return Err(Error::file(operation(), path, error.into())),
    };
    if hex::encode(Sha256::digest(&data)) != hash {
        return Err(Error::invalid(operation(), "the file changed while it was being uploaded"));
    }
    send_file(&client, hash, data, &path, PUT_LIMIT).await
}

/// Sends the bytes of a file that the server lacks, and waits until it has them.
pub(crate) async fn send_file(
    client: &Client,
    hash: String,
    data: Bytes,
    path: &Path,
    limit: Duration,
) -> Result<()> {
    let operation = || Operation::new("upload", format!("`{}`", path.display()));
    let data = if data.len() >= BLOB_FROM {
        api::mount_put_file_request::DataOneof::DataBlobId(blob::upload(client, data, path).await?)
    } else {
        api::mount_put_file_request::DataOneof::Data(data)
    };
    let query = api::MountPutFileRequest { sha256_hex: hash, data_oneof: Some(data) };
    let sent = async {
        while !put_file(client, &query, operation()).await?.exists {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    match tokio::time::timeout(limit, sent).await {
        Ok(sent) => sent,
        Err(_) => {
            let problem = format!("the server did not have it within {limit:?}");
            Err(Error::deadline(operation(), problem))
        }
    }
}

/// One `MountPutFile`: with the hash alone it asks whether the server has the file.
pub(crate) async fn put_file(
    client: &Client,
    query: &api::MountPutFileRequest,
    operation: Operation,
) -> Result<api::MountPutFileResponse> {
    let mut options = client.options(&methods::MOUNT_PUT_FILE, operation).await?;
    options.policy = RetryPolicy::SLOW;
    client.call_with(&methods::MOUNT_PUT_FILE, query, options).await
}

pub(crate) fn create_request(app: &AppId, files: &[HashedFile]) -> api::MountGetOrCreateRequest {
    let files = files.iter().map(|file| api::MountFile {
        filename: file.local.remote.clone(),
        sha256_hex: file.sha256.clone(),
        size: None,
        mode: Some(file.local.mode),
    });
    api::MountGetOrCreateRequest {
        object_creation_type: api::ObjectCreationType::AnonymousOwnedByApp.into(),
        files: files.collect(),
        app_id: app.to_string(),
        ..Default::default()
    }
}

/// The environment is named, though the mount is of none: Modal's own client does.
pub(crate) fn global_request(name: &str, environment_name: String) -> api::MountGetOrCreateRequest {
    api::MountGetOrCreateRequest {
        deployment_name: name.to_owned(),
        environment_name,
        namespace: api::DeploymentNamespace::Global.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_program_is_executable_and_a_file_is_as_it_is() {
        use std::os::unix::fs::PermissionsExt as _;

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut files = LocalFiles::file(file.path().to_owned(), "/a");
        files.0.extend(LocalFiles::program(file.path().to_owned(), "/b".to_owned()).0);
        let modes: Vec<_> = files.find().unwrap().iter().map(|file| file.mode).collect();
        assert_eq!(modes, [0o640, 0o755]);
    }
}
