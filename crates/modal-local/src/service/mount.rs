//! RPCs of mounts.

use std::time::Duration;

use modal_proto::client::mount_put_file_request::DataOneof;
use modal_proto::client::{
    MountBatchedCheckExistenceRequest, MountBatchedCheckExistenceResponse, MountGetOrCreateRequest,
    MountGetOrCreateResponse, MountHandleMetadata, MountPutFileRequest, MountPutFileResponse,
};
use tonic::Status;

use crate::blocking;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::package;
use crate::ids::BlobId;
use crate::state::cas::Sha256Hash;
use crate::state::creation::Creation;
use crate::state::mounts::MountFile;

/// Clients that ask again at once while a content is missing are slowed down to this.
const MISSING_DELAY: Duration = Duration::from_millis(20);

pub(crate) async fn mount_batched_check_existence(
    ctx: &Ctx,
    request: MountBatchedCheckExistenceRequest,
) -> Result<MountBatchedCheckExistenceResponse, Status> {
    let cas = ctx.cas.clone();
    let missing = blocking::run(move || {
        let mut missing = Vec::new();
        for text in request.sha256_hex_hashes {
            if !cas.contains(&Sha256Hash::from_hex(&text)?) {
                missing.push(text);
            }
        }
        Ok(missing)
    })
    .await?;
    Ok(MountBatchedCheckExistenceResponse {
        missing_sha256_hex_hashes: missing,
        checked_at: Some(clock::timestamp(clock::now())),
    })
}

/// Takes a content in the message or as a blob; without either, says whether it is here.
pub(crate) async fn mount_put_file(
    ctx: &Ctx,
    request: MountPutFileRequest,
) -> Result<MountPutFileResponse, Status> {
    let hash = Sha256Hash::from_hex(&request.sha256_hex)?;
    let came = match request.data_oneof {
        Some(DataOneof::Data(data)) => {
            let cas = ctx.cas.clone();
            Some(blocking::run(move || cas.put_bytes(&data)).await?)
        }
        Some(DataOneof::DataBlobId(blob)) => {
            let blob = BlobId::parse(&blob).map_err(Error::from)?;
            Some(ctx.blobs.get(&blob).await?.hash()?)
        }
        None => None,
    };
    if came.is_some_and(|came| came != hash) {
        return Err(Error::invalid(format!("the contents sent do not have the hash {hash}")).into());
    }
    let exists = contains(ctx, hash).await?;
    if !exists {
        tokio::time::sleep(MISSING_DELAY).await;
    }
    Ok(MountPutFileResponse { exists, checked_at: Some(clock::timestamp(clock::now())) })
}

pub(crate) async fn mount_get_or_create(
    ctx: &Ctx,
    request: MountGetOrCreateRequest,
) -> Result<MountGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    package::provide_mount(ctx, &request).await?;
    let creation = Creation::from_request(
        request.object_creation_type,
        &request.deployment_name,
        &request.app_id,
    )?;
    let namespace = request.namespace();
    let files = request
        .files
        .iter()
        .map(|file| MountFile::new(&file.filename, &file.sha256_hex, file.mode))
        .collect();
    let record = ctx.mounts.get_or_create(&environment, namespace, &creation, files).await?;
    Ok(MountGetOrCreateResponse {
        mount_id: record.mount_id,
        handle_metadata: Some(MountHandleMetadata { content_checksum_sha256_hex: record.checksum }),
    })
}

async fn contains(ctx: &Ctx, hash: Sha256Hash) -> Result<bool> {
    let cas = ctx.cas.clone();
    blocking::run(move || Ok(cas.contains(&hash))).await
}
