//! The network interfaces of a new network namespace, by ioctl.

use std::fs::OpenOptions;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::check;

/// Any socket takes interface ioctls.
fn control_socket() -> io::Result<OwnedFd> {
    let kind = SocketType::DGRAM;
    Ok(rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request
}

fn address(ip: Ipv4Addr) -> libc::sockaddr {
    let inet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of 16 bytes; the kernel reads the second as the first when the family says so.
    unsafe { std::mem::transmute(inet) }
}

fn ioctl<T>(fd: RawFd, number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: every caller passes the structure that `number` is defined for, and it outlives the call.
    check(unsafe { libc::ioctl(fd, number as _, &raw mut *argument) }.into())?;
    Ok(())
}

fn set_up(socket: RawFd, name: &str) -> io::Result<()> {
    let mut flags = request(name);
    flags.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(socket, libc::SIOCSIFFLAGS as _, &mut flags)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    set_up(control_socket()?.as_raw_fd(), "lo")
}

/// Makes `eth0` in this network namespace; the descriptor carries its packets.
pub(crate) fn open_tun() -> io::Result<OwnedFd> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut named = request("eth0");
    named.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &mut named)?;
    Ok(tun.into())
}

/// Gives `eth0` its address, its size of packets and the default route.
pub(crate) fn configure_tun(ip: Ipv4Addr, mask: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<()> {
    let socket = control_socket()?;
    let socket = socket.as_raw_fd();
    for (number, value) in [(libc::SIOCSIFADDR, ip), (libc::SIOCSIFNETMASK, mask)] {
        let mut named = request("eth0");
        named.ifr_ifru.ifru_addr = address(value);
        ioctl(socket, number as _, &mut named)?;
    }
    let mut size = request("eth0");
    size.ifr_ifru.ifru_mtu = 1500;
    ioctl(socket, libc::SIOCSIFMTU as _, &mut size)?;
    set_up(socket, "eth0")?;
    // SAFETY: `rtentry` is plain data for which all zeros (null pointers too) is a valid value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    ioctl(socket, libc::SIOCADDRT as _, &mut route)
}
