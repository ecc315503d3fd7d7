//! Looks at a service until it is ready.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::Result;
use crate::plan::Health;
use crate::process::Launch;

/// No single look takes longer.
const LOOK: Duration = Duration::from_secs(4);
/// Between two looks, at first; each time half as long again, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Looks again and again until the service is ready. `last` keeps what the latest look said.
pub(crate) async fn ready(health: &Health, launch: &Launch, last: &mut String) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        let looked = tokio::time::timeout(LOOK, look(health, launch)).await;
        match looked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Look::Broken(error))) => return Err(error),
            Ok(Err(Look::NotYet(why))) => *last = why,
            Err(_) => *last = format!("{} took longer than {} s", name(health), LOOK.as_secs()),
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5).min(LAST_PAUSE);
    }
}

/// Why a look did not find it ready.
enum Look {
    NotYet(String),
    Broken(crate::Error),
}

async fn look(health: &Health, launch: &Launch) -> std::result::Result<(), Look> {
    let not_yet =
        |error: &dyn std::fmt::Display| Look::NotYet(format!("{}: {error}", name(health)));
    match health {
        Health::Started => Ok(()),
        Health::Tcp { port } => connect(*port).await.map(drop).map_err(|error| not_yet(&error)),
        Health::Http { port, path } => match get(*port, path).await {
            Ok(status) if status.as_u16() < 400 => Ok(()),
            Ok(status) => Err(Look::NotYet(format!("{} answers {status}", name(health)))),
            Err(error) => Err(not_yet(&error)),
        },
        Health::Command(command) => {
            let mut process = launch.start_quietly(command).map_err(Look::Broken)?;
            match process.wait().await.map_err(Look::Broken)? {
                status if status.success() => Ok(()),
                status => Err(Look::NotYet(format!("{} ends with {status}", name(health)))),
            }
        }
    }
}

fn name(health: &Health) -> String {
    match health {
        Health::Started => "its start".to_owned(),
        Health::Tcp { port } => format!("port {port}"),
        Health::Http { port, path } => format!("`{path}` of port {port}"),
        Health::Command(command) => format!("`{}`", command.join(" ")),
    }
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// The status of a `GET`.
async fn get(port: u16, path: &str) -> std::result::Result<http::StatusCode, BoxError> {
    let stream = connect(port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let request = http::Request::get(path)
        .header(http::header::HOST, format!("127.0.0.1:{port}"))
        .body(Empty::new())?;
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status()),
        ended = connection => Err(match ended {
            Ok(()) => "the connection was closed".into(),
            Err(error) => error.into(),
        }),
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
