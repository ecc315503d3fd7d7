//! A Modal volume as an object store, so that results can be written to it and read from it.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use modal_client::{EntryKind, Volume, VolumeEntry};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, path::Path,
};
use tokio::sync::Mutex;

use crate::backend::{Connection, RESULTS};

/// The volume of results. Writes are whole files; there are no multipart uploads and no versions.
#[derive(Clone)]
pub(crate) struct VolumeStore {
    connection: Connection,
    /// The volume on the server that was there last.
    volume: Arc<Mutex<Option<Volume>>>,
}

const STORE: &str = "ModalVolume";

impl VolumeStore {
    /// Nothing is asked before something is read or written.
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, volume: Arc::default() }
    }

    async fn volume(&self) -> Result<Volume> {
        let mut volume = self.volume.lock().await;
        match &*volume {
            Some(volume) => Ok(volume.clone()),
            None => {
                let client = self.connection.connected().await.map_err(Unreachable);
                let found = client.map_err(generic)?.volume(RESULTS).create_if_missing().await;
                Ok(volume.insert(found.map_err(generic)?).clone())
            }
        }
    }

    /// Writes a file. Where the server was lost it is found anew, once: writing the same again is
    /// the same.
    async fn upload(&self, location: &Path, bytes: Bytes, overwrite: bool) -> Result<()> {
        let mut is_first = true;
        loop {
            let volume = self.volume().await?;
            let upload = volume.upload().bytes(bytes.clone(), absolute(location));
            match upload.overwrite(overwrite).await {
                Err(error) if error.is_transient() && is_first => {
                    tracing::debug!(%error, "the volume is looked up again");
                    self.volume.lock().await.take();
                    is_first = false;
                }
                uploaded => {
                    return uploaded.map(drop).map_err(|error| failed(location, error));
                }
            }
        }
    }
}

impl fmt::Debug for VolumeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeStore").field("volume", &RESULTS).finish_non_exhaustive()
    }
}

impl fmt::Display for VolumeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {RESULTS}")
    }
}

#[async_trait]
impl ObjectStore for VolumeStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) {
            return Err(unsupported("conditional updates"));
        }
        let overwrite = opts.mode == PutMode::Overwrite;
        self.upload(location, Bytes::from(payload), overwrite).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("multipart uploads"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let read = self.volume().await?.read(absolute(location)).await;
        let read = read.map_err(|error| failed(location, error))?;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: Default::default(),
            size: read.size(),
            e_tag: None,
            version: None,
        };
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(generic)?,
            None => 0..meta.size,
        };
        let body = if options.head {
            stream::empty().boxed()
        } else {
            self.body(location, range.clone()).await?
        };
        let payload = GetResultPayload::Stream(body);
        let (attributes, extensions) = Default::default();
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let removed = store.volume().await?.remove(absolute(&location)).await;
                removed.map_err(|error| failed(&location, error)).map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let from = prefix.map_or_else(|| "/".to_owned(), absolute);
        let at = prefix.cloned().unwrap_or_default();
        let store = self.clone();
        let listed = async move {
            let entries = store.volume().await?.list(from).recursive(true).stream();
            let is_file = |entry: &VolumeEntry| std::future::ready(entry.kind == EntryKind::File);
            Ok::<_, Error>(entries.try_filter(is_file).map(move |entry| match entry {
                Ok(entry) => meta(&entry),
                Err(error) => Err(failed(&at, error)),
            }))
        };
        let metas = stream::once(listed).try_flatten();
        // A prefix that does not exist has no objects.
        metas
            .filter(|meta| std::future::ready(!matches!(meta, Err(Error::NotFound { .. }))))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let from = prefix.map_or_else(|| "/".to_owned(), absolute);
        let at = prefix.cloned().unwrap_or_default();
        let mut listed =
            ListResult { common_prefixes: vec![], objects: vec![], extensions: Default::default() };
        let entries = match self.volume().await?.list(from).await {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(listed),
            Err(error) => return Err(failed(&at, error)),
        };
        for entry in &entries {
            match entry.kind {
                EntryKind::Directory => listed.common_prefixes.push(path(entry)?),
                EntryKind::File => listed.objects.push(meta(entry)?),
                _ => {}
            }
        }
        Ok(listed)
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(unsupported("copies"))
    }
}

impl VolumeStore {
    async fn body(
        &self,
        location: &Path,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let read = self.volume().await?.read(absolute(location)).range(range).await;
        let read = read.map_err(|error| failed(location, error))?;
        Ok(read.into_stream().map_err(generic).boxed())
    }
}

fn absolute(location: &Path) -> String {
    format!("/{location}")
}

fn path(entry: &VolumeEntry) -> Result<Path> {
    Path::parse(entry.path.trim_start_matches('/')).map_err(generic)
}

fn meta(entry: &VolumeEntry) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: path(entry)?,
        last_modified: entry.modified_at.map(Into::into).unwrap_or_default(),
        size: entry.size,
        e_tag: None,
        version: None,
    })
}

fn failed(location: &Path, error: modal_client::Error) -> Error {
    if error.is_not_found() {
        return Error::NotFound { path: location.to_string(), source: error.into() };
    }
    generic(error)
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

/// The target can't be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Unreachable(anyhow::Error);

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("a volume has no {what}").into() }
}
