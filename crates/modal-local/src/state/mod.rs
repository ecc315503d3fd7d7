//! What outlives the process: records in SQLite, contents by hash, secrets in private files.

pub(crate) mod apps;
pub(crate) mod blobs;
pub(crate) mod blocks;
pub(crate) mod cas;
pub(crate) mod collections;
pub(crate) mod creation;
mod database;
pub(crate) mod environments;
pub(crate) mod image_names;
pub(crate) mod incoming;
pub(crate) mod mounts;
mod packs;
pub(crate) mod proxy_tokens;
pub(crate) mod secret_store;
pub(crate) mod secrets;
pub(crate) mod volumes;
pub(crate) mod workspace_settings;

use sqlx::SqlitePool;

use self::apps::Apps;
use self::blobs::Blobs;
use self::cas::Cas;
use self::collections::dicts::Dicts;
use self::collections::queues::Queues;
use self::collections::{Collections, Kind};
use self::environments::Environments;
use self::image_names::ImageNames;
use self::mounts::Mounts;
use self::proxy_tokens::ProxyTokens;
use self::secret_store::SecretStore;
use self::secrets::Secrets;
use self::volumes::Volumes;
use self::workspace_settings::WorkspaceSettings;
use crate::error::Result;
use crate::room::Room;
use crate::server::ServerConfig;
use crate::state_dir::StateDir;

/// Everything that outlives the process. Clones share it.
#[derive(Clone)]
pub(crate) struct State {
    /// Where files lie.
    pub(crate) dir: StateDir,
    /// The disk that it lies on.
    pub(crate) room: Room,
    /// Records.
    pub(crate) db: SqlitePool,
    /// File contents by hash.
    pub(crate) cas: Cas,
    pub(crate) apps: Apps,
    pub(crate) blobs: Blobs,
    /// Dicts as named objects.
    pub(crate) dict_objects: Collections,
    /// What is in dicts.
    pub(crate) dicts: Dicts,
    pub(crate) environments: Environments,
    pub(crate) image_names: ImageNames,
    pub(crate) proxy_tokens: ProxyTokens,
    pub(crate) mounts: Mounts,
    /// Queues as named objects.
    pub(crate) queue_objects: Collections,
    /// What is in queues.
    pub(crate) queues: Queues,
    pub(crate) secrets: Secrets,
    pub(crate) volumes: Volumes,
    pub(crate) workspace: WorkspaceSettings,
}

impl State {
    /// Opens the state directory, making what is missing in it.
    pub(crate) async fn open(config: &ServerConfig) -> Result<Self> {
        let dir = config.state_dir.clone();
        dir.create()?;
        let db = database::open(&dir.database()).await?;
        let room = Room::new(&dir, config.disk_reserve, config.disk_quota);
        let cas = Cas::new(dir.cas(), dir.tmp()).within(room.clone());
        let volumes = Volumes::new(db.clone(), dir.clone(), cas.clone());
        volumes.discard_leftovers().await?;
        let version = config.image_builder_version.clone();
        let workspace = WorkspaceSettings::open(db.clone(), version).await?;
        Ok(Self {
            workspace: workspace.clone(),
            apps: Apps::new(db.clone()),
            blobs: Blobs::new(db.clone(), dir.clone(), cas.clone(), config.blob_parts),
            dict_objects: Collections::new(db.clone(), Kind::Dict),
            dicts: Dicts::new(db.clone()),
            environments: Environments::open(db.clone(), workspace.clone()).await?,
            image_names: ImageNames::new(db.clone()),
            proxy_tokens: ProxyTokens::new(db.clone()),
            mounts: Mounts::new(db.clone(), dir.clone(), cas.clone()),
            queue_objects: Collections::new(db.clone(), Kind::Queue),
            queues: Queues::new(db.clone()),
            secrets: Secrets::new(db.clone(), SecretStore::new(dir.secrets())),
            volumes,
            dir,
            room,
            db,
            cas,
        })
    }
}
