//! HTTP into sandboxes for whoever holds a connect token: one loopback port for all of them.
//!
//! A token names one sandbox and one port of it. It comes as `Authorization: Bearer`, as the query
//! parameter `_modal_connect_token` (answered by a cookie and the address without it), or as that
//! cookie. It is taken out of what is passed on; the program inside gets the token's user data as
//! `X-Verified-User-Data`, and never such a header of the client's own.
//! A connection carries one request, or what that was upgraded to.

mod head;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use self::head::{Credential, Head};
use crate::auth::Auth;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::SandboxId;
use crate::sandbox;
use crate::server::is_own_authority;

/// Longest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// How long a client may take to send it.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// After a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) sandbox: String,
    pub(crate) port: u16,
    /// What the program inside is told of the caller; may be empty.
    pub(crate) user_data: String,
}

/// The port, once a token was asked for.
#[derive(Default)]
pub(crate) struct Connect {
    port: OnceCell<u16>,
    stop: CancellationToken,
}

impl Connect {
    /// The address for a token's holder, and the token.
    pub(crate) async fn credentials(&self, ctx: &Ctx, claim: &Claim) -> Result<(String, String)> {
        if claim.user_data.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(Error::invalid("the user data of a connect token must be one line"));
        }
        let port = self.port.get_or_try_init(|| self.listen(ctx)).await?;
        Ok((format!("http://127.0.0.1:{port}"), ctx.auth.issue_connect_token(claim)?))
    }

    /// Ends the listener.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    async fn listen(&self, ctx: &Ctx) -> Result<u16> {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let (ctx, stop) = (ctx.clone(), self.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(serve(listener, ctx)).await });
        Ok(port)
    }
}

async fn serve(listener: TcpListener, ctx: Ctx) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let ctx = ctx.clone();
                connections.spawn(async move {
                    let _call = ctx.activity.begin();
                    if let Err(error) = carry(stream, &ctx).await {
                        tracing::debug!(%error, "a connection into a sandbox broke off");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept connections into sandboxes");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, ctx: &Ctx) -> io::Result<()> {
    let Ok(Some((head, rest))) = tokio::time::timeout(HEAD_LIMIT, read_head(&mut client)).await?
    else {
        return refuse(&mut client, "400 Bad Request", "this is no HTTP request").await;
    };
    let claim = match admit(&head, &ctx.auth) {
        Ok(claim) => claim,
        Err((status, reason)) => return refuse(&mut client, status, reason).await,
    };
    if let Some(redirect) = head.without_token_in_query() {
        return client.write_all(redirect.as_bytes()).await;
    }
    let sandbox = SandboxId::parse(&claim.sandbox).ok().and_then(|id| ctx.sandboxes.find(&id));
    let Some((sandbox, container)) = sandbox.and_then(|it| it.container().ok().map(|c| (it, c)))
    else {
        return refuse(&mut client, "410 Gone", "the sandbox has ended").await;
    };
    let peer = client.peer_addr()?.ip();
    if !sandbox.running().is_ok_and(|running| running.inbound.allows(peer)) {
        return refuse(&mut client, "403 Forbidden", "kept out by the inbound allow-list").await;
    }
    let _in_use = sandbox.activity.begin();
    let Ok(mut inside) = sandbox::connect(&container, claim.port).await else {
        return refuse(&mut client, "502 Bad Gateway", "nothing listens in the sandbox").await;
    };
    inside.write_all(head.forwarded(&claim.user_data).as_bytes()).await?;
    inside.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut inside).await.map(drop)
}

/// The head of a request, and what was read of its body.
async fn read_head(client: &mut TcpStream) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Head::parse(&bytes).map(|head| (head, rest)));
        }
        if bytes.len() > MAX_HEAD || client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// What the request may do, or why it may not.
fn admit(head: &Head, auth: &Auth) -> Result<Claim, (&'static str, &'static str)> {
    if !head.header("host").is_some_and(is_own_authority) {
        return Err(("421 Misdirected Request", "unknown host name"));
    }
    let credential = head.credential();
    let token = credential.token();
    let claim = token.and_then(|token| auth.verify_connect_token(token));
    let Some(claim) = claim else {
        return Err((
            "401 Unauthorized",
            "a connect token is needed, and this is none that is good",
        ));
    };
    // A browser sends the cookie for every page that asks it to; only our own pages may.
    let is_foreign = |origin: &str| {
        origin.split_once("://").is_none_or(|(_, authority)| Some(authority) != head.header("host"))
    };
    if matches!(credential, Credential::Cookie(_)) && head.header("origin").is_some_and(is_foreign)
    {
        return Err(("403 Forbidden", "another site's page may not use this connection"));
    }
    Ok(claim)
}

async fn refuse(client: &mut TcpStream, status: &str, reason: &str) -> io::Result<()> {
    let length = reason.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{reason}\n"
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
