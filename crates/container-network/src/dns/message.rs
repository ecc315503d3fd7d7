//! As much of DNS's message format (RFC 1035, 4.1) as a forwarder needs. Takes arbitrary bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
/// Answers looked at in one reply.
const RECORDS: usize = 256;

/// The response codes that the gateway itself gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    Malformed = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    Refused = 5,
}

/// A question for one name, as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query<'b> {
    bytes: &'b [u8],
    name: String,
    /// Where the question ends and additional records begin.
    end: usize,
}

/// An address out of a reply, and how long it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) address: IpAddr,
    pub(crate) time_to_live: Duration,
}

impl<'b> Query<'b> {
    /// The question, or the reply to what is none (nothing, if it is itself a reply or too short to answer).
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, Option<Vec<u8>>> {
        let header =
            bytes.first_chunk::<HEADER>().filter(|header| header[2] & 0x80 == 0).ok_or(None)?;
        let malformed = || Some(reply(bytes, HEADER, Rcode::Malformed));
        let standard = header[2] & 0x78 == 0 && header[4..6] == [0, 1];
        let (name, end) = read_name(bytes).filter(|_| standard).ok_or_else(malformed)?;
        if bytes.len() < end + 4 {
            return Err(malformed());
        }
        Ok(Self { bytes, name, end: end + 4 })
    }

    /// Lower case, without a final dot.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// A reply without records.
    pub(super) fn reply(&self, code: Rcode) -> Vec<u8> {
        reply(self.bytes, self.end, code)
    }

    /// Whether `reply` answers this very question.
    pub(super) fn is_answered_by(&self, reply: &[u8]) -> bool {
        let header_fits =
            reply.len() >= HEADER && reply[..2] == self.bytes[..2] && reply[2] & 0x80 != 0;
        header_fits
            && (reply[4..6] != [0, 1]
                || read_name(reply).is_some_and(|(name, _)| name == self.name))
    }
}

/// The addresses in the answer section, whatever names own them: the chain of aliases started at the question.
pub(super) fn addresses(reply: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    let mut records = Records { bytes: reply, at: HEADER };
    if reply.len() < HEADER {
        return found;
    }
    for _ in 0..number(reply, 4).min(1) {
        if records.skip_name().and_then(|()| records.take(4)).is_none() {
            return found;
        }
    }
    for _ in 0..usize::from(number(reply, 6)).min(RECORDS) {
        match records.next() {
            Some(Some(answer)) => found.push(answer),
            Some(None) => {}
            None => break,
        }
    }
    found
}

/// `message` with its length before it, as TCP carries it.
pub(super) fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes()[..], message].concat())
}

fn reply(query: &[u8], end: usize, code: Rcode) -> Vec<u8> {
    let questions = u8::from(end > HEADER);
    let recursion = query[2] & 0x01;
    let mut reply =
        vec![query[0], query[1], 0x80 | (query[2] & 0x78) | recursion, 0x80 | code as u8];
    reply.extend([0, questions, 0, 0, 0, 0, 0, 0]);
    reply.extend(&query[HEADER..end]);
    reply
}

/// The name that starts after the header, and where it ends. Only letters that a host name may have, so that
/// the text means exactly these labels.
fn read_name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = bytes.get(at..at + length).filter(|_| length < 64 && name.len() < 254)?;
        if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += length;
    }
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

struct Records<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Records<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Some(()),
                length @ 1..64 => self.take(usize::from(length))?,
                192.. => return self.take(1).map(|_| ()),
                64..192 => return None,
            };
        }
    }

    /// The next record: an address, or something else; nothing at the end.
    fn next(&mut self) -> Option<Option<Answer>> {
        self.skip_name()?;
        let fixed = self.take(10)?;
        let data = self.take(usize::from(number(fixed, 8)))?;
        let seconds = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let address = match (number(fixed, 0), data.len()) {
            (A, 4) => Ipv4Addr::from(*data.first_chunk::<4>()?).into(),
            (AAAA, 16) => Ipv6Addr::from(*data.first_chunk::<16>()?).into(),
            _ => return Some(None),
        };
        Some(Some(Answer { address, time_to_live: Duration::from_secs(seconds.into()) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(name: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> = name
            .split('.')
            .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
            .collect();
        bytes.push(0);
        bytes
    }

    fn question(name: &str) -> Vec<u8> {
        [&[0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels(name), &[0, 1, 0, 1]].concat()
    }

    fn answered(name: &str) -> Vec<u8> {
        let mut reply = question(name);
        reply[2] |= 0x80;
        reply[7] = 3;
        let alias = labels("real.example.net");
        reply.extend(
            [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, alias.len() as u8][..], &alias].concat(),
        );
        reply.extend([&alias[..], &[0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 198, 51, 100, 7]].concat());
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        reply.extend([&[0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16][..], &v6.octets()].concat());
        reply
    }

    #[test]
    fn a_question_is_read_and_refused_in_kind() {
        let bytes = question("API.Example.com");
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(query.name(), "api.example.com");
        let reply = query.reply(Rcode::NoSuchName);
        assert_eq!(reply[..12], [0xab, 0xcd, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply[12..], bytes[12..]);
        assert!(query.is_answered_by(&reply));
        assert!(!query.is_answered_by(&answered("other.example.com")));
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let found = addresses(&answered("api.example.com"));
        let expected = [("198.51.100.7", 300), ("2001:db8::7", 9)].map(|(address, seconds)| {
            Answer { address: address.parse().unwrap(), time_to_live: Duration::from_secs(seconds) }
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_question_is_answered_as_malformed_or_not_at_all() {
        assert_eq!(Query::parse(b"short"), Err(None));
        assert_eq!(Query::parse(&answered("a.b")), Err(None));
        let mut two = question("a.b");
        two[5] = 2;
        let dotted = [&question("x")[..12], &[3, b'a', b'.', b'b', 0, 0, 1, 0, 1]].concat();
        for malformed in [two, dotted, question("a.b")[..16].to_vec()] {
            assert_eq!(Query::parse(&malformed).unwrap_err().unwrap()[3], 0x81);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..90), at in 0_usize..90) {
            addresses(&bytes);
            if let Ok(query) = Query::parse(&bytes) {
                query.is_answered_by(&query.reply(Rcode::Refused));
            }
            let mut changed = answered("api.example.com");
            let at = at % changed.len();
            changed[at] = bytes.pop().unwrap_or(255);
            addresses(&changed);
            prop_assert!(addresses(&changed).len() <= 3 + RECORDS);
        }
    }
}
