//! IPv4, TCP, UDP and ICMP headers: as much as it takes to route a packet to its flow and to refuse one.
//!
//! Everything here takes arbitrary bytes: what is malformed, fragmented or IPv6 (the sandbox has no IPv6
//! address) parses to nothing.

use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TTL: u8 = 64;

/// A whole IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) payload: &'a [u8],
    header_len: usize,
}

/// What of a TCP header decides where a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) client: SocketAddrV4,
    pub(crate) server: SocketAddrV4,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) rst: bool,
    sequence: u32,
    acknowledgment: u32,
    /// Sequence numbers that the segment uses up.
    length: u32,
}

/// A UDP datagram from the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) client: SocketAddrV4,
    pub(crate) server: SocketAddrV4,
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<IP_HEADER>()?;
        let header_len = usize::from(header[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if header[0] >> 4 != 4 || header_len < IP_HEADER || fragment {
            return None;
        }
        let payload = bytes.get(header_len..total)?;
        Some(Self {
            source: address(&header[12..]),
            destination: address(&header[16..]),
            protocol: header[9],
            payload,
            header_len,
        })
    }

    pub(crate) fn segment(&self) -> Option<Segment> {
        let header = self.payload.first_chunk::<TCP_HEADER>().filter(|_| self.protocol == TCP)?;
        let data = self.payload.get(usize::from(header[12] >> 4) * 4..)?;
        let flag = |bit: u8| header[13] & bit != 0;
        let (client, server) = self.ends(header[..4].first_chunk()?);
        let length = data.len() as u32 + u32::from(flag(2)) + u32::from(flag(1));
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        Some(Segment {
            client,
            server,
            syn: flag(2),
            ack: flag(16),
            rst: flag(4),
            sequence: number(4),
            acknowledgment: number(8),
            length,
        })
    }

    pub(crate) fn datagram(&self) -> Option<Datagram<'a>> {
        let header = self.payload.first_chunk::<UDP_HEADER>().filter(|_| self.protocol == UDP)?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let payload = self.payload.get(UDP_HEADER..length)?;
        let (client, server) = self.ends(header[..4].first_chunk()?);
        Some(Datagram { client, server, payload })
    }

    fn ends(&self, ports: &[u8; 4]) -> (SocketAddrV4, SocketAddrV4) {
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        (SocketAddrV4::new(self.source, port(0)), SocketAddrV4::new(self.destination, port(2)))
    }
}

/// The segment that refuses `segment` as a machine does on which nobody listens (RFC 9293, 3.10.7.1).
pub(crate) fn reset(segment: &Segment) -> Vec<u8> {
    let (sequence, acknowledgment, flags) = if segment.ack {
        (segment.acknowledgment, 0, 4)
    } else {
        (0, segment.sequence.wrapping_add(segment.length), 20)
    };
    let mut header = Vec::with_capacity(TCP_HEADER);
    header.extend(segment.server.port().to_be_bytes());
    header.extend(segment.client.port().to_be_bytes());
    header.extend(sequence.to_be_bytes());
    header.extend(acknowledgment.to_be_bytes());
    header.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
    transport(TCP, *segment.server.ip(), *segment.client.ip(), header, 16)
}

/// A datagram to the sandbox; `None` if it is too long for one packet.
pub(crate) fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let length =
        u16::try_from(UDP_HEADER + payload.len()).ok().filter(|length| *length <= u16::MAX - 20)?;
    let mut body = Vec::with_capacity(usize::from(length));
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(length.to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    Some(transport(UDP, *from.ip(), *to.ip(), body, 6))
}

/// "Administratively prohibited" for the packet `original`, parsed as `packet` (RFC 1812, 5.2.7.1).
pub(crate) fn prohibited(packet: &Packet<'_>, original: &[u8]) -> Vec<u8> {
    let quoted = &original[..original.len().min(packet.header_len + 8)];
    let mut body = vec![3, 13, 0, 0, 0, 0, 0, 0];
    body.extend(quoted);
    let sum = checksum(0, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(ICMP, packet.destination, packet.source, &body)
}

/// An IPv4 packet around a TCP or UDP message, whose checksum at `at` is filled in.
fn transport(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, mut body: Vec<u8>, at: usize) -> Vec<u8> {
    let pseudo =
        [&from.octets()[..], &to.octets(), &[0, protocol], &(body.len() as u16).to_be_bytes()]
            .concat();
    let sum = match checksum(sum(0, &pseudo), &body) {
        0 if protocol == UDP => 0xffff,
        sum => sum,
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ip(protocol, from, to, &body)
}

fn ip(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let total = (IP_HEADER + body.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(0, &packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

fn sum(start: u32, bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    bytes.chunks(2).map(word).fold(start, u32::wrapping_add)
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = sum(start, bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn a_datagram_survives_the_round_trip() {
        let bytes = datagram(end("198.51.100.7:53"), end("10.0.2.100:4000"), b"answer").unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        let parsed = packet.datagram().unwrap();
        assert_eq!(
            (parsed.client, parsed.server),
            (end("198.51.100.7:53"), end("10.0.2.100:4000"))
        );
        assert_eq!(parsed.payload, b"answer");
        assert_eq!(checksum(0, &bytes[..20]), 0, "the header's checksum holds");
        assert_eq!(datagram(end("1.1.1.1:1"), end("1.1.1.1:1"), &[0; 65_530]), None);
    }

    #[test]
    fn a_reset_acknowledges_the_syn_it_refuses() {
        let mut syn = vec![0x0f, 0xa0, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 5 << 4, 2, 0, 0, 0, 0, 0, 0];
        syn = ip(TCP, [10, 0, 2, 100].into(), [198, 51, 100, 7].into(), &syn);
        let refused = Packet::parse(&syn).unwrap().segment().unwrap();
        assert!(refused.syn && !refused.ack && !refused.rst);
        let bytes = reset(&refused);
        let answer = Packet::parse(&bytes).unwrap().segment().unwrap();
        assert!(answer.rst && answer.ack && !answer.syn);
        assert_eq!((answer.acknowledgment, answer.sequence), (10, 0));
        assert_eq!((answer.client, answer.server), (refused.server, refused.client));
    }

    #[test]
    fn fragments_and_ipv6_are_no_packets() {
        let mut bytes = datagram(end("1.1.1.1:1"), end("2.2.2.2:2"), b"x").unwrap();
        bytes[6] |= 0x20;
        assert_eq!(Packet::parse(&bytes), None);
        assert_eq!(Packet::parse(&[0x60; 40]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), valid: bool, protocol in 0..20_u8) {
            if valid && bytes.len() >= 20 {
                bytes[0] = 0x45 | (bytes[0] & 1);
                bytes[6..8].fill(0);
                bytes[9] = protocol;
                let total = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&total.to_be_bytes());
            }
            if let Some(packet) = Packet::parse(&bytes) {
                if let Some(segment) = packet.segment() {
                    prop_assert!(Packet::parse(&reset(&segment)).unwrap().segment().is_some());
                }
                packet.datagram();
                prop_assert!(Packet::parse(&prohibited(&packet, &bytes)).is_some());
            }
        }
    }
}
