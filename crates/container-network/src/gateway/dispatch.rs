//! From packets to flows: one task per flow, found by the two ends of its packets.

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::dns::{self, Carrier};
use crate::packet::{self, Datagram, Packet, Segment};
use crate::policy::{Denial, Transport, Verdict};
use crate::{plan, tcp, udp};

/// Flows of one sandbox at a time. Each TCP flow has 128 KiB of buffers.
const TCP_FLOWS: usize = 512;
const UDP_FLOWS: usize = 256;
/// Questions that wait for a resolver at a time.
const QUESTIONS: usize = 64;
/// Packets that wait for a flow's task; more are lost, as on any wire.
const QUEUE: usize = 128;
const DNS_PORT: u16 = 53;

type Ends = (SocketAddrV4, SocketAddrV4);

/// Owns the flows' tasks; dropping it ends them.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    tcp: Flows,
    udp: Flows,
    questions: JoinSet<()>,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            tcp: Flows::new(TCP_FLOWS),
            udp: Flows::new(UDP_FLOWS),
            questions: JoinSet::new(),
        }
    }

    /// Runs until `stop` or until the device is gone, which is what happens when the sandbox ends.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let mut buffer = Vec::new();
        loop {
            let packet = tokio::select! {
                () = stop.cancelled() => break,
                packet = shared.tun().receive(&mut buffer) => packet,
            };
            match packet {
                Ok(bytes) => self.dispatch(bytes),
                Err(error) => {
                    tracing::debug!(%error, "the sandbox's device is gone");
                    break;
                }
            }
        }
        self.tcp.tasks.shutdown().await;
        self.udp.tasks.shutdown().await;
        self.questions.shutdown().await;
    }

    fn dispatch(&mut self, bytes: &[u8]) {
        let Some(packet) = Packet::parse(bytes) else { return };
        if let Some(segment) = packet.segment() {
            self.segment(&segment, bytes);
        } else if let Some(datagram) = packet.datagram() {
            self.datagram(&datagram, &packet, bytes);
        }
    }

    fn segment(&mut self, segment: &Segment, bytes: &[u8]) {
        let ends = (segment.client, segment.server);
        if self.tcp.pass_on(ends, bytes) {
            return;
        }
        if !segment.syn || segment.ack {
            return self.refuse(segment);
        }
        let service = match is_resolver(segment.server) {
            true => tcp::Service::Resolver,
            false => match self.shared.decide(Transport::Tcp, segment.server.into()) {
                Verdict::Allow => tcp::Service::Outside { inspect: false },
                Verdict::AllowIfNamed => tcp::Service::Outside { inspect: true },
                Verdict::Deny(denial) => {
                    log_denial(segment.server, denial);
                    return self.refuse(segment);
                }
            },
        };
        let (shared, syn) = (Arc::clone(&self.shared), bytes.to_vec());
        let server = segment.server;
        let started =
            self.tcp.start(ends, |packets| tcp::run(shared, server, service, syn, packets));
        if !started {
            self.refuse(segment);
        }
    }

    fn datagram(&mut self, datagram: &Datagram<'_>, packet: &Packet<'_>, bytes: &[u8]) {
        if is_resolver(datagram.server) {
            return self.question(datagram);
        }
        let ends = (datagram.client, datagram.server);
        if self.udp.pass_on(ends, datagram.payload) {
            return;
        }
        if let Verdict::Deny(denial) = self.shared.decide(Transport::Udp, datagram.server.into()) {
            log_denial(datagram.server, denial);
            return self.shared.tun().send(&packet::prohibited(packet, bytes));
        }
        let (shared, first) = (Arc::clone(&self.shared), datagram.payload.to_vec());
        self.udp.start(ends, |payloads| udp::run(shared, ends.0, ends.1, first, payloads));
    }

    fn question(&mut self, datagram: &Datagram<'_>) {
        while self.questions.try_join_next().is_some() {}
        if self.questions.len() >= QUESTIONS {
            return;
        }
        let (client, server, question) =
            (datagram.client, datagram.server, datagram.payload.to_vec());
        let shared = Arc::clone(&self.shared);
        self.questions.spawn(async move {
            let reply = dns::answer(&shared, &question, Carrier::Udp).await;
            if let Some(packet) = reply.and_then(|reply| packet::datagram(server, client, &reply)) {
                shared.tun().send(&packet);
            }
        });
    }

    fn refuse(&self, segment: &Segment) {
        if !segment.rst {
            self.shared.tun().send(&packet::reset(segment));
        }
    }
}

/// The flows of one transport.
struct Flows {
    queues: HashMap<Ends, mpsc::Sender<Vec<u8>>>,
    tasks: JoinSet<()>,
    limit: usize,
}

impl Flows {
    fn new(limit: usize) -> Self {
        Self { queues: HashMap::new(), tasks: JoinSet::new(), limit }
    }

    /// Hands `data` to the flow between `ends`; false if there is none.
    fn pass_on(&mut self, ends: Ends, data: &[u8]) -> bool {
        let Some(queue) = self.queues.get(&ends) else { return false };
        match queue.try_send(data.to_vec()) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.queues.remove(&ends);
                false
            }
        }
    }

    /// Starts a flow; false if there are too many.
    fn start<F>(&mut self, ends: Ends, flow: impl FnOnce(mpsc::Receiver<Vec<u8>>) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a flow failed");
            }
        }
        if self.queues.len() > self.tasks.len() + self.limit {
            self.queues.retain(|_, queue| !queue.is_closed());
        }
        if self.tasks.len() >= self.limit {
            tracing::debug!(limit = self.limit, "too many flows");
            return false;
        }
        let (queue, data) = mpsc::channel(QUEUE);
        self.queues.insert(ends, queue);
        self.tasks.spawn(flow(data));
        true
    }
}

fn is_resolver(server: SocketAddrV4) -> bool {
    *server.ip() == plan::DNS && server.port() == DNS_PORT
}

fn log_denial(to: SocketAddrV4, denial: Denial) {
    tracing::debug!(to = %SocketAddr::from(to), reason = %denial, "flow refused");
}
