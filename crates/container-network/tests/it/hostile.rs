//! Packets that no kernel would send. The device is a socket pair here, so these tests need no privilege.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use container_network::{Gateway, Policy};

use crate::support::Outside;

/// A SYN from 10.0.2.100:4000 to 198.51.100.7:80, with checksums that may be wrong.
const SYN: [u8; 40] = [
    0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 100, 198, 51, 100, 7, // IP
    0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, // TCP
];
/// A question for the root.
const QUESTION: [u8; 45] = [
    0x45, 0, 0, 45, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 100, 10, 0, 2, 3, // IP
    0x0f, 0xa0, 0, 53, 0, 25, 0, 0, // UDP
    0xca, 0xfe, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, // DNS
];

/// Numbers without pattern, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_and_mangled_packets_leave_the_gateway_answering() {
    let (device, wire) = UnixDatagram::pair().unwrap();
    let outside = Outside::new([]);
    let gateway =
        Gateway::start_with(OwnedFd::from(device), Policy::Open, vec![], outside).unwrap();
    wire.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let answered = tokio::task::spawn_blocking(move || {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        wire.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2000];
        for round in 0..20_000 {
            let mut packet = if round % 3 == 0 { QUESTION.to_vec() } else { SYN.to_vec() };
            for _ in 0..1 + noise.next() % 4 {
                let at = noise.next() % packet.len();
                packet[at] = noise.next() as u8;
            }
            packet.truncate(packet.len() - noise.next() % 3);
            // A full queue loses packets, as a device does.
            let _ = wire.send(&packet);
            while wire.recv(&mut buffer).is_ok() {}
        }
        wire.set_nonblocking(false).unwrap();
        // Another id, so that late answers to mangled questions are not taken for this one's.
        let mut question = QUESTION;
        question[28..30].copy_from_slice(&[0xbe, 0xef]);
        loop {
            wire.send(&question).unwrap();
            let size = wire.recv(&mut buffer).unwrap();
            let is_reply = size >= 40 && buffer[9] == 17 && buffer[28..30] == [0xbe, 0xef];
            if is_reply {
                return buffer[31] & 15;
            }
        }
    });
    assert_eq!(answered.await.unwrap(), 2, "no resolver: server failure");
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_no_device_is_refused() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = Gateway::start(OwnedFd::from(file), Policy::Open, vec![]).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the file descriptor as a TUN device");
}
