//! A sandbox's side of the network on a thread, and a dialer that keeps everything on this machine.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

use container_network::{Dialer, Gateway, Policy};
use tokio::net::{TcpStream, UdpSocket};

/// Runs closures on a thread that lives in its own network namespace.
pub(crate) struct Inside {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Inside {
    /// The namespace and the TUN device that leads out of it.
    pub(crate) fn new() -> (Self, OwnedFd) {
        let (jobs, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (device, made) = mpsc::channel();
        std::thread::spawn(move || {
            device.send(network()).unwrap();
            while let Ok(job) = queue.recv() {
                job();
            }
        });
        let tun = made.recv().unwrap().expect("a network namespace and a TUN device need root");
        (Self { jobs }, tun)
    }

    /// Runs `job` inside and waits for it without blocking the runtime.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (done, result) = tokio::sync::oneshot::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.await.expect("the job ran to its end")
    }
}

#[expect(
    unsafe_code,
    reason = "namespaces and TUN devices are made by raw system calls; only tests of this crate make them"
)]
fn network() -> io::Result<OwnedFd> {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    // SAFETY: takes no pointers; changes this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let tun =
        OwnedFd::from(std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?);
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes one `ifreq`, which lives across the call.
    if unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for arguments in [
        "link set lo up",
        "addr add 10.0.2.100/24 dev tun0",
        "link set tun0 up mtu 1500",
        "route add default via 10.0.2.2",
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status()?;
        assert!(status.success(), "ip {arguments}");
    }
    Ok(tun)
}

/// Leads the outside addresses it knows to servers of the test, and notes every address it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    servers: HashMap<SocketAddr, SocketAddr>,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Outside {
    pub(crate) fn new<const N: usize>(servers: [(&str, SocketAddr); N]) -> Arc<Self> {
        let servers = servers.map(|(outside, server)| (outside.parse().unwrap(), server));
        Arc::new(Self { servers: HashMap::from(servers), dialled: Mutex::default() })
    }

    pub(crate) fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap().clone()
    }

    fn server(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        self.dialled.lock().unwrap().push(to);
        self.servers.get(&to).copied().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

#[async_trait::async_trait]
impl Dialer for Outside {
    async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.server(to)?).await
    }

    async fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.server(to)?).await?;
        Ok(socket)
    }
}

/// A namespace whose gateway has this policy, way out and resolver.
pub(crate) fn sandbox(
    policy: Policy,
    outside: &Arc<Outside>,
    resolvers: Vec<SocketAddr>,
) -> (Inside, Gateway) {
    let (inside, tun) = Inside::new();
    let dialer: Arc<dyn Dialer> = outside.clone();
    let gateway = Gateway::start_with(tun, policy, resolvers, dialer).unwrap();
    (inside, gateway)
}
