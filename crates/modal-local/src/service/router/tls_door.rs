//! The command router over TLS, for SDKs that take no other: Python's before 1.5. Today's speak to this machine in
//! plaintext. A port of its own, opened when the first of them asks; what comes in goes on to the server's port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// The port, once somebody needs it.
#[derive(Default)]
pub(crate) struct TlsDoor(OnceCell<u16>);

impl TlsDoor {
    /// `HOST:PORT`.
    pub(crate) async fn authority(&self, ctx: &Ctx) -> Result<String> {
        let port = self.0.get_or_try_init(|| open(ctx)).await?;
        Ok(format!("{}:{port}", Ipv4Addr::LOCALHOST))
    }
}

async fn open(ctx: &Ctx) -> Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let tls = ctx.certificates.acceptor(Ipv4Addr::LOCALHOST, true)?;
    let inside = ctx.authority().to_owned();
    tokio::spawn(serve(listener, tls, inside, ctx.stop.clone()));
    Ok(port)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, inside: String, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((outside, _)) => {
                let (tls, inside) = (tls.clone(), inside.clone());
                tokio::spawn(async move {
                    if let Err(error) = carry(outside, &tls, &inside).await {
                        tracing::debug!(%error, "a connection over TLS broke off");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the TLS port cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn carry(outside: TcpStream, tls: &TlsAcceptor, inside: &str) -> io::Result<()> {
    let mut outside = tls.accept(outside).await?;
    let mut inside = TcpStream::connect(inside).await?;
    // Without delay for small writes where the kernel allows it; it works either way.
    let _ = inside.set_nodelay(true);
    copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}
