//! The containers of one sandbox as they see each other: the main one and its sidecars.
//!
//! Each has a network of its own, and an address in [`plan::NEIGHBOURS`] under which the others know it. What goes there reaches the
//! gateway of the sender like everything else; its dialer opens the other end inside the other container, at the address that this
//! one knows itself by. Names are in `/etc/hosts` of each. Other sandboxes are nobody's neighbours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use container_network::{Dialer, HostDialer, Transport, plan};
use container_runtime::Container;
use serde_json::json;
use tokio::net::{TcpStream, UdpSocket};

use super::environment::Environment;
use super::process::{Command, OutputTo, RunningProcess};
use super::sockets;
use crate::error::{Error, Result};
use crate::fs_tools;

/// What the main container is called.
pub(crate) const MAIN: &str = "main";
const HOSTS: &str = "/etc/hosts";
const HTTPS: u16 = 443;

/// The containers of one sandbox.
#[derive(Default)]
pub(crate) struct Neighbours {
    members: Mutex<Vec<Member>>,
    /// The sidecar that gets the main container's connections to port 443, wherever they lead.
    https_via: OnceLock<String>,
    /// Held while names are written, so that the newest are written last.
    naming: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Member {
    name: String,
    address: Ipv4Addr,
    container: Container,
    /// Where output of a program would go that is too long for memory.
    spill_dir: PathBuf,
}

impl Neighbours {
    /// From now on the main container's connections to port 443 go to this sidecar, and to nobody while there is none.
    pub(super) fn lead_https_via(&self, sidecar: &str) {
        // Set once, when the sandbox is made.
        let _ = self.https_via.set(sidecar.to_owned());
    }

    /// Takes a container in.
    ///
    /// # Errors
    ///
    /// `Precondition` if there are as many as there are addresses.
    pub(super) fn join(&self, name: &str, container: &Container, spill_dir: &Path) -> Result<()> {
        let mut members = self.lock();
        let is_free = |address: &Ipv4Addr| members.iter().all(|it| it.address != *address);
        let address = plan::NEIGHBOURS.hosts().find(is_free).ok_or_else(|| {
            Error::Precondition("the sandbox has no address left for a sidecar".to_owned())
        })?;
        let (name, container) = (name.to_owned(), container.clone());
        members.push(Member { name, address, container, spill_dir: spill_dir.to_owned() });
        Ok(())
    }

    /// Forgets a container.
    pub(super) fn leave(&self, name: &str) {
        self.lock().retain(|member| member.name != name);
    }

    /// Writes into each container how it finds itself and the others.
    pub(super) async fn write_names(&self) {
        let _turn = self.naming.lock().await;
        let members = self.lock().clone();
        for member in &members {
            let seen = |it: &Member| {
                let is_itself = it.name == member.name;
                let address = if is_itself { plan::SANDBOX } else { it.address };
                (address, it.name.clone())
            };
            let names: Vec<_> = members.iter().map(seen).collect();
            if let Err(error) = set_names(member, &names).await {
                tracing::warn!(error, container = member.name, "its neighbours were not named");
            }
        }
    }

    /// Where the main container's or a sidecar's packets to `to` go, if that is one of these.
    fn at(&self, to: SocketAddr) -> Option<Container> {
        let members = self.lock();
        let member = members.iter().find(|member| to.ip() == member.address);
        member.map(|member| member.container.clone())
    }

    fn named(&self, name: &str) -> Option<Container> {
        let members = self.lock();
        members.iter().find(|it| it.name == name).map(|it| it.container.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the program for files, inside, rewrite the names that are the sandbox's.
async fn set_names(member: &Member, names: &[(Ipv4Addr, String)]) -> Result<(), String> {
    let json = json!({"SetNames": {"path": HOSTS, "names": names}}).to_string();
    let command = Command {
        argv: vec![fs_tools::PATH.to_owned(), json],
        env: Environment::with_defaults(),
        workdir: PathBuf::from("/"),
        stdout: OutputTo::Null,
        stderr: OutputTo::Null,
        terminal: None,
        timeout: None,
    };
    let process = RunningProcess::start(&member.container, command, &member.spill_dir, None).await;
    match process.map_err(|error| error.to_string())?.wait().await.shell_code() {
        0 => Ok(()),
        code => Err(format!("{HOSTS} could not be written ({code})")),
    }
}

/// Leads a container's flows to its neighbours, and all others outside.
pub(super) struct NeighbourDialer {
    neighbours: Arc<Neighbours>,
    is_main: bool,
}

/// Where a flow leads that stays in the sandbox.
enum Own {
    Container(Container),
    /// The sidecar that should take it is not there.
    Nobody,
}

impl NeighbourDialer {
    pub(super) fn new(neighbours: &Arc<Neighbours>, name: &str) -> Self {
        Self { neighbours: Arc::clone(neighbours), is_main: name == MAIN }
    }

    fn own(&self, transport: Transport, to: SocketAddr) -> Option<Own> {
        if let Some(container) = self.neighbours.at(to) {
            return Some(Own::Container(container));
        }
        let is_https = self.is_main && transport == Transport::Tcp && to.port() == HTTPS;
        let sidecar = self.neighbours.https_via.get().filter(|_| is_https)?;
        Some(self.neighbours.named(sidecar).map_or(Own::Nobody, Own::Container))
    }
}

#[tonic::async_trait]
impl Dialer for NeighbourDialer {
    async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match self.own(Transport::Tcp, to) {
            None => HostDialer.tcp(to).await,
            Some(Own::Nobody) => Err(io::ErrorKind::ConnectionRefused.into()),
            Some(Own::Container(container)) => {
                let stream = sockets::connect_own(&container, to.port()).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        }
    }

    async fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        match self.own(Transport::Udp, to) {
            Some(Own::Container(container)) => sockets::udp_own(&container, to.port()).await,
            _ => HostDialer.udp(to).await,
        }
    }

    fn is_own(&self, transport: Transport, to: SocketAddr) -> bool {
        self.own(transport, to).is_some()
    }
}
