//! RPCs of blobs: where to upload one, where to download it.

use modal_proto::client::blob_create_response::{UploadTypeOneof, UploadTypesOneof};
use modal_proto::client::{
    BlobCreateRequest, BlobCreateResponse, BlobGetRequest, BlobGetResponse, MultiPartUpload,
    MultiPartUploadList, UploadUrlList,
};
use tonic::Status;

use crate::auth::Grant;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::BlobId;
use crate::state::blobs::BlobRecord;

/// Fills both forms of the answer: Python reads the lists, JavaScript and Go the single fields.
pub(crate) async fn blob_create(
    ctx: &Ctx,
    request: BlobCreateRequest,
) -> Result<BlobCreateResponse, Status> {
    let blob = ctx.blobs.create(request.content_length).await?;
    let (single, list) = if blob.parts == 0 {
        let url = ctx.grant_url(&Grant::PutBlob { blob: blob.blob_id.clone() });
        let list = UploadUrlList { items: vec![url.clone()] };
        (UploadTypeOneof::UploadUrl(url), UploadTypesOneof::UploadUrls(list))
    } else {
        let upload = multipart(ctx, &blob);
        let list = MultiPartUploadList { items: vec![upload.clone()] };
        (UploadTypeOneof::Multipart(upload), UploadTypesOneof::Multiparts(list))
    };
    Ok(BlobCreateResponse {
        blob_ids: vec![blob.blob_id.clone()],
        blob_id: blob.blob_id,
        upload_type_oneof: Some(single),
        upload_types_oneof: Some(list),
    })
}

pub(crate) async fn blob_get(
    ctx: &Ctx,
    request: BlobGetRequest,
) -> Result<BlobGetResponse, Status> {
    let id = BlobId::parse(&request.blob_id).map_err(Error::from)?;
    ctx.blobs.get(&id).await?.hash()?;
    Ok(BlobGetResponse { download_url: ctx.grant_url(&Grant::GetBlob { blob: id.to_string() }) })
}

fn multipart(ctx: &Ctx, blob: &BlobRecord) -> MultiPartUpload {
    let parts = u32::try_from(blob.parts).unwrap_or(0);
    let url = |part| ctx.grant_url(&Grant::PutPart { blob: blob.blob_id.clone(), part });
    MultiPartUpload {
        part_length: i64::try_from(ctx.blobs.part_size()).unwrap_or(i64::MAX),
        upload_urls: (1..=parts).map(url).collect(),
        completion_url: ctx.grant_url(&Grant::CompleteBlob { blob: blob.blob_id.clone() }),
    }
}
