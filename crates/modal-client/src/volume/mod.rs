//! Volumes: shared file trees. New ones are of version 2, whose files are stored as blocks by content.

mod blocks;
mod download;
mod ephemeral;
mod hashed;
mod list;
mod place;
mod plan;
mod progress;
mod read;
mod received;
mod room;
mod upload;
mod upload_v1;

use std::{future::IntoFuture, time::SystemTime};

use futures::future::BoxFuture;
use modal_proto::client as api;

pub use download::{Download, DownloadSummary};
pub use ephemeral::{EphemeralVolume, EphemeralVolumeCreate};
pub use list::{EntryKind, ListFiles, VolumeEntry};
pub use progress::Progress;
pub use read::{ReadFile, VolumeFile};
pub use upload::{Upload, UploadSummary};

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::VolumeId,
    page,
    rpc::methods,
};

/// A volume.
#[derive(Debug, Clone)]
pub struct Volume {
    pub(crate) client: Client,
    id: VolumeId,
    name: String,
    version: VolumeVersion,
}

/// How a volume stores its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeVersion {
    /// Whole files.
    V1,
    /// Blocks by content: what new volumes are.
    V2,
}

/// A volume, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Its id.
    pub id: VolumeId,
    /// Its name.
    pub name: String,
    /// When it was made, where the server says it.
    pub created_at: Option<SystemTime>,
}

/// Looks a volume up; see [`Client::volume`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct VolumeLookup {
    client: Client,
    name: String,
    creation: api::ObjectCreationType,
    version: Option<VolumeVersion>,
}

/// The volumes of an environment; see [`Client::volumes`].
#[derive(Debug, Clone)]
pub struct Volumes {
    client: Client,
}

impl Client {
    /// Looks up the volume of that name: `client.volume("goat-results").create_if_missing().await?`. One RPC.
    pub fn volume(&self, name: impl Into<String>) -> VolumeLookup {
        VolumeLookup {
            client: self.clone(),
            name: name.into(),
            creation: api::ObjectCreationType::Unspecified,
            version: None,
        }
    }

    /// The volumes of this client's environment.
    pub fn volumes(&self) -> Volumes {
        Volumes { client: self.clone() }
    }
}

impl VolumeLookup {
    /// How the volume stores its files: of a new one (version 2 unless this is called), and what an existing
    /// one must be.
    pub fn version(mut self, version: VolumeVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Creates the volume if there is none by that name.
    pub fn create_if_missing(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateIfMissing;
        self
    }

    /// Creates the volume, and fails with [`Error::AlreadyExists`] if there is one.
    pub fn create(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateFailIfExists;
        self
    }

    fn operation(&self) -> Operation {
        Operation::new("look up", self.client.object("volume", &self.name))
    }

    async fn send(self) -> Result<Volume> {
        let environment = self.client.environment_name();
        let query = get_request(&self.name, environment, self.creation, self.version);
        let answer =
            self.client.call(&methods::VOLUME_GET_OR_CREATE, &query, self.operation()).await?;
        let metadata = answer.metadata.unwrap_or_default();
        let mut volume = volume_of(&self.client, answer.volume_id, metadata, || self.operation())?;
        if let Some(wanted) = self.version.filter(|&wanted| wanted != volume.version) {
            let problem =
                format!("it is of version {}, not {}", volume.version.number(), wanted.number());
            return Err(Error::invalid(self.operation(), problem));
        }
        volume.name = self.name;
        Ok(volume)
    }
}

/// The volume of an answer.
fn volume_of(
    client: &Client,
    id: String,
    metadata: api::VolumeMetadata,
    operation: impl Fn() -> Operation,
) -> Result<Volume> {
    let version = match metadata.version() {
        api::VolumeFsVersion::V2 => VolumeVersion::V2,
        _ => VolumeVersion::V1,
    };
    let id = VolumeId::try_from(id)
        .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
    Ok(Volume { client: client.clone(), id, name: metadata.name, version })
}

impl VolumeVersion {
    fn wire(self) -> api::VolumeFsVersion {
        match self {
            Self::V1 => api::VolumeFsVersion::V1,
            Self::V2 => api::VolumeFsVersion::V2,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

impl IntoFuture for VolumeLookup {
    type Output = Result<Volume>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

pub(crate) fn get_request(
    name: &str,
    environment_name: String,
    creation: api::ObjectCreationType,
    version: Option<VolumeVersion>,
) -> api::VolumeGetOrCreateRequest {
    let version = match (version, creation) {
        (Some(version), _) => version.wire(),
        (None, api::ObjectCreationType::Unspecified) => api::VolumeFsVersion::Unspecified,
        (None, _) => api::VolumeFsVersion::V2,
    };
    api::VolumeGetOrCreateRequest {
        deployment_name: name.to_owned(),
        environment_name,
        object_creation_type: creation.into(),
        version: version.into(),
        create_options: Some(api::VolumeCreateOptions::default()),
        ..Default::default()
    }
}

impl Volumes {
    /// All volumes, newest first. One RPC for every hundred.
    pub async fn list(&self) -> Result<Vec<VolumeInfo>> {
        page::collect(async |pagination| {
            let query = api::VolumeListRequest {
                environment_name: self.client.environment_name(),
                pagination: Some(pagination),
            };
            let operation = || Operation::new("list", "the volumes");
            let answer = self.client.call(&methods::VOLUME_LIST, &query, operation()).await?;
            answer.items.into_iter().map(|item| page_item(item, operation)).collect()
        })
        .await
    }

    /// The volume with that id. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn from_id(&self, id: &VolumeId) -> Result<Volume> {
        let operation = || Operation::new("look up", format!("volume `{id}`"));
        let query = api::VolumeGetByIdRequest { volume_id: id.to_string() };
        let answer = self.client.call(&methods::VOLUME_GET_BY_ID, &query, operation()).await?;
        let metadata = answer.metadata.unwrap_or_default();
        volume_of(&self.client, answer.volume_id, metadata, operation)
    }

    /// Deletes a volume and everything in it. One RPC.
    pub async fn delete(&self, volume: &VolumeId) -> Result<()> {
        let operation = Operation::new("delete", format!("volume `{volume}`"));
        self.client.call(&methods::VOLUME_DELETE, &delete_request(volume), operation).await
    }
}

fn page_item(
    item: api::VolumeListItem,
    operation: impl Fn() -> Operation,
) -> Result<page::Item<VolumeInfo>> {
    let created_at = item
        .metadata
        .and_then(|metadata| metadata.creation_info)
        .map_or(item.created_at, |info| info.created_at);
    let value = VolumeInfo {
        id: VolumeId::try_from(item.volume_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?,
        name: item.label,
        created_at: clock::from_unix(created_at),
    };
    Ok(page::Item { created_at, value })
}

impl Volume {
    /// Its id.
    pub fn id(&self) -> &VolumeId {
        &self.id
    }

    /// Its name; empty for an ephemeral one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it stores its files.
    pub fn version(&self) -> VolumeVersion {
        self.version
    }

    /// Removes a file, or with [`recursive`](RemoveFile::recursive) a directory with everything in it. One RPC.
    pub fn remove(&self, path: impl Into<String>) -> RemoveFile {
        RemoveFile { volume: self.clone(), path: path.into(), recursive: false }
    }

    /// Copies files and directories within the volume; several sources need a directory as target. One RPC.
    pub async fn copy(
        &self,
        sources: impl IntoIterator<Item = impl Into<String>>,
        target: impl Into<String>,
        recursive: bool,
    ) -> Result<()> {
        let sources: Vec<String> = sources.into_iter().map(Into::into).collect();
        let operation = self.operation("copy within", &sources.join(", "));
        match self.version {
            VolumeVersion::V2 => {
                let query = copy_request(&self.id, sources, target.into(), recursive);
                self.client.call(&methods::VOLUME_COPY_FILES_2, &query, operation).await
            }
            VolumeVersion::V1 => {
                let query = api::VolumeCopyFilesRequest {
                    volume_id: self.id.to_string(),
                    src_paths: sources,
                    dst_path: target.into(),
                    recursive,
                };
                self.client.call(&methods::VOLUME_COPY_FILES, &query, operation).await
            }
        }
    }

    /// Gives the volume another name. One RPC.
    pub async fn rename(&mut self, name: impl Into<String>) -> Result<()> {
        let name = name.into();
        let query = api::VolumeRenameRequest { volume_id: self.id.to_string(), name: name.clone() };
        let operation = Operation::new("rename", self.client.object("volume", &self.name));
        self.client.call(&methods::VOLUME_RENAME, &query, operation).await?;
        self.name = name;
        Ok(())
    }

    /// Deletes the volume and everything in it. One RPC.
    pub async fn delete(self) -> Result<()> {
        self.client.volumes().delete(&self.id).await
    }

    /// ``read `/x` of volume `y` ``, for error messages.
    pub(crate) fn operation(&self, verb: &'static str, path: &str) -> Operation {
        Operation::new(verb, format!("`{path}` of {}", self.client.object("volume", &self.name)))
    }
}

/// Removes a file; see [`Volume::remove`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct RemoveFile {
    volume: Volume,
    path: String,
    recursive: bool,
}

impl RemoveFile {
    /// Whether a directory is removed, with everything in it.
    pub fn recursive(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }

    async fn send(self) -> Result<()> {
        let operation = self.volume.operation("remove", &self.path);
        let client = &self.volume.client;
        match self.volume.version {
            VolumeVersion::V2 => {
                let query = remove_request(&self.volume.id, &self.path, self.recursive);
                client.call(&methods::VOLUME_REMOVE_FILE_2, &query, operation).await
            }
            VolumeVersion::V1 => {
                let query = api::VolumeRemoveFileRequest {
                    volume_id: self.volume.id.to_string(),
                    path: self.path,
                    recursive: self.recursive,
                };
                client.call(&methods::VOLUME_REMOVE_FILE, &query, operation).await
            }
        }
    }
}

impl IntoFuture for RemoveFile {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

pub(crate) fn delete_request(volume: &VolumeId) -> api::VolumeDeleteRequest {
    api::VolumeDeleteRequest { volume_id: volume.to_string(), ..Default::default() }
}

pub(crate) fn remove_request(
    volume: &VolumeId,
    path: &str,
    recursive: bool,
) -> api::VolumeRemoveFile2Request {
    api::VolumeRemoveFile2Request {
        volume_id: volume.to_string(),
        path: path.to_owned(),
        recursive,
    }
}

pub(crate) fn copy_request(
    volume: &VolumeId,
    sources: Vec<String>,
    target: String,
    recursive: bool,
) -> api::VolumeCopyFiles2Request {
    api::VolumeCopyFiles2Request {
        volume_id: volume.to_string(),
        src_paths: sources,
        dst_path: target,
        recursive,
    }
}
