//! The sandbox's end of a flow: one `smoltcp` interface with one socket, fed packet by packet.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::plan;
use crate::tun::Tun;

/// Bytes that each direction holds.
const BUFFER: usize = 64 << 10;
/// A client whose kernel does not acknowledge for so long is gone.
const UNANSWERED: Duration = Duration::from_secs(60);

/// Plays the server that the client called.
pub(super) struct Endpoint {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    started: Instant,
}

impl Endpoint {
    /// An endpoint that listens as `server` and has received `syn`.
    pub(super) fn accept(server: SocketAddrV4, syn: Vec<u8>) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        // Sequence numbers start from it; without randomness they are merely easier to guess for the sandbox,
        // which sees them anyway.
        config.random_seed = getrandom::u64().unwrap_or_default();
        let mut interface = Interface::new(config, &mut wire, StackInstant::ZERO);
        // A prefix of zero makes every client a neighbour, so no route is needed.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(*server.ip()), 0));
        });
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(UNANSWERED.into()));
        // Fails for port 0, to which nobody answers.
        let _ = socket.listen((IpAddress::Ipv4(*server.ip()), server.port()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        wire.inbound.push_back(syn);
        Self { interface, sockets, handle, wire, started: Instant::now() }
    }

    /// Takes a packet of the client's.
    pub(super) fn take(&mut self, packet: Vec<u8>) {
        self.wire.inbound.push_back(packet);
    }

    /// Processes what came, and sends what is due.
    pub(super) fn poll(&mut self, tun: &Tun) {
        let now = self.now();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        for packet in self.wire.outbound.drain(..) {
            tun.send(&packet);
        }
    }

    /// After how long [`poll`](Self::poll) has something to do though nothing came.
    pub(super) fn delay(&mut self) -> Option<Duration> {
        let now = self.now();
        self.interface.poll_delay(now, &self.sockets).map(Duration::from)
    }

    /// Whether bytes for the client can be taken.
    pub(super) fn has_room(&mut self) -> bool {
        self.socket().can_send()
    }

    /// Whether bytes of the client wait.
    pub(super) fn has_data(&mut self) -> bool {
        self.socket().can_recv()
    }

    /// Lets `read` fill free room; `None` if the connection broke off.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let filled = self.socket().send(|room| {
            let read = read(room);
            (*read.as_ref().unwrap_or(&0), read)
        });
        filled.ok()
    }

    /// Lets `write` take bytes of the client; `None` if the connection broke off.
    pub(super) fn drain(
        &mut self,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let drained = self.socket().recv(|data| {
            let written = write(data);
            (*written.as_ref().unwrap_or(&0), written)
        });
        drained.ok()
    }

    /// The first bytes of the client, which stay.
    pub(super) fn peek(&mut self, size: usize) -> &[u8] {
        self.socket().peek(size).unwrap_or_default()
    }

    /// The server will send no more; what is buffered still goes out.
    pub(super) fn close(&mut self) {
        self.socket().close();
    }

    /// Ends the connection with a reset.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    /// Whether the client said that it will send no more, and all it sent was taken.
    pub(super) fn client_ended(&mut self) -> bool {
        let socket = self.socket();
        let fin = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        fin && socket.recv_queue() == 0
    }

    /// Whether nothing more can pass. The wait for stray packets (`TimeWait`) is left out: a repeated FIN of the
    /// client's is answered with a reset, which ends it as well.
    pub(super) fn is_over(&mut self) -> bool {
        let socket = self.socket();
        matches!(socket.state(), State::Closed | State::TimeWait) && !socket.can_recv()
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(
            i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX),
        )
    }
}

/// The device of an interface: two queues.
#[derive(Debug, Default)]
struct Wire {
    inbound: VecDeque<Vec<u8>>,
    outbound: Vec<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Received, Sending<'_>)> {
        let packet = self.inbound.pop_front()?;
        Some((Received(packet), Sending(&mut self.outbound)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outbound))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = plan::MTU;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        process(&self.0)
    }
}

struct Sending<'w>(&'w mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, build: F) -> R {
        let mut packet = vec![0; length];
        let built = build(&mut packet);
        self.0.push(packet);
        built
    }
}
