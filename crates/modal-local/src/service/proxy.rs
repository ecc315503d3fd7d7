//! Proxies: static addresses of the outside, which Modal's dashboard makes. There are none on this machine.

use modal_proto::client::{ProxyGetRequest, ProxyGetResponse};
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::Error;

pub(crate) async fn proxy_get(
    ctx: &Ctx,
    request: ProxyGetRequest,
) -> Result<ProxyGetResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let place = ("environment", environment.name.as_str());
    Err(Error::not_found_in("proxy", request.name, place).into())
}
