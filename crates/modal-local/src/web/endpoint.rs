//! One listening port: the requests of one function.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::front;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{AppId, FunctionId};

/// A port at work; dropping it closes it and cuts its connections.
pub(super) struct Endpoint {
    pub(super) app: AppId,
    pub(super) port: u16,
    _serving: JoinSet<()>,
}

/// Whose requests come in here.
pub(super) struct Target {
    pub(super) ctx: Ctx,
    pub(super) function: FunctionId,
    /// Of a class; empty for a function.
    pub(super) method: String,
    pub(super) port: u16,
}

impl Endpoint {
    pub(super) fn serve(
        ctx: &Ctx,
        app: AppId,
        function: FunctionId,
        method: &str,
        listener: TcpListener,
    ) -> Result<Self> {
        let address = listener.local_addr().map_err(|source| Error::Listen {
            address: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            source,
        })?;
        let port = address.port();
        let target = Target { ctx: ctx.clone(), function, method: method.to_owned(), port };
        let router = Router::new().fallback(answer).with_state(Arc::new(target));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                tracing::warn!(%error, port, "a web function's port is no longer served");
            }
        });
        Ok(Self { app, port, _serving: serving })
    }
}

async fn answer(
    State(target): State<Arc<Target>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let _call = target.ctx.activity.begin();
    front::answer(target, client, request).await
}
