//! Volumes that exist as long as somebody holds them.

use std::{future::IntoFuture, ops::Deref};

use futures::future::BoxFuture;
use modal_proto::client as api;

use super::{Volume, VolumeVersion, volume_of};
use crate::{
    client::Client,
    error::{Operation, Result},
    heartbeat::{self, Heartbeat},
    rpc::methods,
};

/// A volume without a name that the server deletes a while after this is dropped. Used as a [`Volume`].
#[derive(Debug)]
pub struct EphemeralVolume {
    volume: Volume,
    _heartbeat: Heartbeat,
}

impl Deref for EphemeralVolume {
    type Target = Volume;

    fn deref(&self) -> &Volume {
        &self.volume
    }
}

/// Creates an ephemeral volume; see [`Client::ephemeral_volume`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct EphemeralVolumeCreate {
    client: Client,
    version: VolumeVersion,
}

impl Client {
    /// A volume without a name, for as long as it is held: `client.ephemeral_volume().await?`. One RPC, and
    /// a heartbeat every five minutes.
    pub fn ephemeral_volume(&self) -> EphemeralVolumeCreate {
        EphemeralVolumeCreate { client: self.clone(), version: VolumeVersion::V2 }
    }
}

impl EphemeralVolumeCreate {
    /// How it stores its files; version 2 unless this is called.
    pub fn version(mut self, version: VolumeVersion) -> Self {
        self.version = version;
        self
    }

    async fn send(self) -> Result<EphemeralVolume> {
        let query = request(self.client.environment_name(), self.version);
        let operation = || Operation::new("create", "an ephemeral volume");
        let client = self.client;
        let answer = client.call(&methods::VOLUME_GET_OR_CREATE, &query, operation()).await?;
        let metadata = answer.metadata.unwrap_or_default();
        let volume = volume_of(&client, answer.volume_id, metadata, operation)?;
        let beat = api::VolumeHeartbeatRequest { volume_id: volume.id().to_string() };
        let heartbeat = Heartbeat::start(heartbeat::EPHEMERAL, "an ephemeral volume", move || {
            let (client, beat) = (client.clone(), beat.clone());
            async move {
                let operation = Operation::new("keep", format!("volume `{}`", beat.volume_id));
                client.call(&methods::VOLUME_HEARTBEAT, &beat, operation).await
            }
        });
        Ok(EphemeralVolume { volume, _heartbeat: heartbeat })
    }
}

impl IntoFuture for EphemeralVolumeCreate {
    type Output = Result<EphemeralVolume>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

fn request(environment_name: String, version: VolumeVersion) -> api::VolumeGetOrCreateRequest {
    api::VolumeGetOrCreateRequest {
        environment_name,
        object_creation_type: api::ObjectCreationType::Ephemeral.into(),
        version: version.wire().into(),
        create_options: Some(api::VolumeCreateOptions::default()),
        ..Default::default()
    }
}
