//! One TCP flow: the sandbox's end is a `smoltcp` socket that plays the server, the other an ordinary socket.
//!
//! The SYN waits until the other side answered, so a refused connection is refused inside too. Half-closes are
//! passed on in both directions. What one side does not read stays in the other side's kernel: each direction
//! holds 64 KiB here and then closes its window.

mod endpoint;
mod far_end;

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dns;
use crate::gateway::Shared;
use crate::packet::{self, Packet};
use crate::policy::{Policy, Transport};
use crate::tls::{self, Hello};
use endpoint::Endpoint;
use far_end::FarEnd;

/// Without a byte in either direction. Long, because a model may think for minutes before it answers.
const IDLE: Duration = Duration::from_secs(3600);
/// The most the client may send before the name in its client hello is known.
const HELLO: usize = 32 << 10;
/// Packets taken from the queue before data is moved.
const BATCH: usize = 64;

/// Where a connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The gateway's own resolver.
    Resolver,
    /// The destination itself; with `inspect`, only if the client hello carries a permitted name.
    Outside {
        /// Look at the client hello first.
        inspect: bool,
    },
}

/// Carries one connection from its SYN to its end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    server: SocketAddrV4,
    service: Service,
    syn: Vec<u8>,
    mut packets: mpsc::Receiver<Vec<u8>>,
) {
    let Some(far_end) = open(&shared, server, service).await else {
        return refuse(&shared, &syn);
    };
    // Repetitions of the SYN; the client cannot have sent anything else.
    while packets.try_recv().is_ok() {}
    let inspecting = service == Service::Outside { inspect: true };
    let endpoint = Endpoint::accept(server, syn);
    let mut flow =
        Flow { shared, server, service, endpoint, far_end, inspecting, moved: Instant::now() };
    flow.carry(packets).await;
}

async fn open(shared: &Arc<Shared>, server: SocketAddrV4, service: Service) -> Option<FarEnd> {
    match service {
        Service::Resolver => {
            let (ours, theirs) = UnixStream::pair().ok()?;
            tokio::spawn(dns::serve(Arc::clone(shared), theirs));
            Some(FarEnd::from(ours))
        }
        Service::Outside { .. } => match shared.dial_tcp(server.into()).await {
            Ok(stream) => Some(FarEnd::from(stream)),
            Err(error) => {
                tracing::debug!(%server, %error, "destination does not answer");
                None
            }
        },
    }
}

fn refuse(shared: &Shared, syn: &[u8]) {
    if let Some(segment) = Packet::parse(syn).and_then(|packet| packet.segment()) {
        shared.tun().send(&packet::reset(&segment));
    }
}

struct Flow {
    shared: Arc<Shared>,
    server: SocketAddrV4,
    service: Service,
    endpoint: Endpoint,
    far_end: FarEnd,
    /// The client hello has not been seen yet; nothing passes towards the server.
    inspecting: bool,
    /// When a byte last moved.
    moved: Instant,
}

/// The flow is over, and its remaining half is to be cut.
struct Cut;

impl Flow {
    async fn carry(&mut self, mut packets: mpsc::Receiver<Vec<u8>>) {
        let mut policy = self.shared.policy_changes();
        loop {
            self.endpoint.poll(self.shared.tun());
            match self.move_data() {
                Err(Cut) => return self.cut(),
                Ok(true) => {
                    self.moved = Instant::now();
                    self.endpoint.poll(self.shared.tun());
                }
                Ok(false) => {}
            }
            if self.endpoint.is_over() {
                return self.finish();
            }
            if self.wait(&mut packets, &mut policy).await.is_err() {
                return self.cut();
            }
        }
    }

    /// Waits for anything that may let data move.
    async fn wait(
        &mut self,
        packets: &mut mpsc::Receiver<Vec<u8>>,
        policy: &mut watch::Receiver<Arc<Policy>>,
    ) -> Result<(), Cut> {
        let (reading, writing) = (self.wants_read(), self.wants_write());
        let retransmit = self.endpoint.delay();
        tokio::select! {
            packet = packets.recv() => {
                self.endpoint.take(packet.ok_or(Cut)?);
                for _ in 1..BATCH {
                    let Ok(packet) = packets.try_recv() else { break };
                    self.endpoint.take(packet);
                }
            }
            // An error shows again when the data is moved.
            _ = self.far_end.readable(), if reading => {}
            _ = self.far_end.writable(), if writing => {}
            () = sleep(retransmit.unwrap_or_default()), if retransmit.is_some() => {}
            changed = policy.changed() => {
                let permitted = match self.service {
                    Service::Resolver => true,
                    Service::Outside { .. } => self.shared.still_permits(Transport::Tcp, self.server.into()),
                };
                changed.map_err(|_| Cut)?;
                return if permitted { Ok(()) } else { Err(Cut) };
            }
            () = sleep_until(self.moved + IDLE) => return Err(Cut),
        }
        Ok(())
    }

    fn wants_read(&mut self) -> bool {
        !self.far_end.ended() && self.endpoint.has_room()
    }

    fn wants_write(&mut self) -> bool {
        !self.inspecting && self.endpoint.has_data()
    }

    /// Moves what can be moved now; whether anything was.
    fn move_data(&mut self) -> Result<bool, Cut> {
        let mut moved = self.inspecting && self.inspect()?;
        while !self.far_end.ended() && self.endpoint.has_room() {
            match self.endpoint.fill(|room| self.far_end.read(room)) {
                Some(Ok(0)) => {
                    self.endpoint.close();
                    moved = true;
                }
                Some(Ok(_)) => moved = true,
                Some(Err(error)) if is_not_now(&error) => break,
                Some(Err(_)) | None => return Err(Cut),
            }
        }
        while self.wants_write() {
            match self.endpoint.drain(|data| self.far_end.write(data)) {
                Some(Ok(_)) => moved = true,
                Some(Err(error)) if is_not_now(&error) => break,
                Some(Err(_)) | None => return Err(Cut),
            }
        }
        if self.endpoint.client_ended() && !self.inspecting {
            self.far_end.shutdown();
        }
        Ok(moved)
    }

    /// Looks whether the client said which server it means; whether that settled it.
    fn inspect(&mut self) -> Result<bool, Cut> {
        let seen = self.endpoint.peek(HELLO);
        match tls::client_hello(seen) {
            Hello::Server(name) if self.shared.policy().names(&name) => {
                self.inspecting = false;
                Ok(true)
            }
            Hello::Incomplete if seen.len() < HELLO && !self.endpoint.client_ended() => Ok(false),
            hello => {
                tracing::debug!(server = %self.server, ?hello, "flow refused: its client hello names no listed server");
                Err(Cut)
            }
        }
    }

    /// Both sides are told that this was no orderly end.
    fn cut(&mut self) {
        self.endpoint.abort();
        self.endpoint.poll(self.shared.tun());
        self.far_end.abort();
    }

    /// The sandbox's side is closed: orderly, or by a reset that the other side should see too.
    fn finish(&mut self) {
        if !(self.far_end.ended() && self.far_end.is_shut()) {
            self.far_end.abort();
        }
    }
}

fn is_not_now(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}
