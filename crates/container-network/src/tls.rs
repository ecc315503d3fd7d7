//! The server name in a TLS client hello (RFC 8446, 4.1.2; RFC 6066, 3), read without a TLS library.

/// What the first bytes of a connection say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// Looks like a client hello so far; more bytes are needed.
    Incomplete,
    /// A client hello that names this server, in lower case.
    Server(String),
    /// A client hello that names nobody, or no client hello.
    Nameless,
}

/// No real client hello is longer; one that claims to be is not waited for.
const LONGEST: usize = 16 << 10;

/// Looks into the first bytes that a client sent.
pub(crate) fn client_hello(bytes: &[u8]) -> Hello {
    match handshake(bytes) {
        Ok(hello) => server_name(&hello).map_or(Hello::Nameless, Hello::Server),
        Err(ended) => ended,
    }
}

/// The body of the client hello, put together from its records.
fn handshake(mut bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut message = Vec::new();
    loop {
        if let Some(body) = whole(&message)? {
            return Ok(body);
        }
        let record = bytes;
        match record {
            [22, 3, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length == 0 {
                    return Err(Hello::Nameless);
                }
                let here = length.min(rest.len());
                message.extend_from_slice(&rest[..here]);
                if here < length {
                    return whole(&message)?.ok_or(Hello::Incomplete);
                }
                bytes = &rest[here..];
            }
            [] | [22] | [22, 3] | [22, 3, _] | [22, 3, _, _] => return Err(Hello::Incomplete),
            _ => return Err(Hello::Nameless),
        }
    }
}

/// The body of a client hello if `message` holds all of it.
fn whole(message: &[u8]) -> Result<Option<Vec<u8>>, Hello> {
    match message {
        [1, a, b, c, body @ ..] => {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > LONGEST {
                Err(Hello::Nameless)
            } else {
                Ok(body.get(..length).map(<[u8]>::to_vec))
            }
        }
        [] | [1] | [1, _] | [1, _, _] => Ok(None),
        _ => Err(Hello::Nameless),
    }
}

fn server_name(hello: &[u8]) -> Option<String> {
    let mut rest = Fields(hello);
    rest.take(2 + 32)?;
    rest.sized(1)?;
    rest.sized(2)?;
    rest.sized(1)?;
    let mut extensions = Fields(rest.sized(2)?);
    loop {
        let kind = extensions.number(2)?;
        let data = extensions.sized(2)?;
        if kind == 0 {
            let mut names = Fields(Fields(data).sized(2)?);
            return match names.number(1)? {
                0 => std::str::from_utf8(names.sized(2)?).ok().map(str::to_ascii_lowercase),
                _ => None,
            };
        }
    }
}

/// Bytes that are taken from the front; `None` when there are too few.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A field preceded by its length in `width` bytes.
    fn sized(&mut self, width: usize) -> Option<&'b [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized(width: usize, body: &[u8]) -> Vec<u8> {
        let length = body.len().to_be_bytes();
        [&length[length.len() - width..], body].concat()
    }

    /// A client hello, split into records of at most `record` bytes.
    pub(crate) fn hello(name: Option<&str>, record: usize) -> Vec<u8> {
        let sni = name.map(|name| {
            let entry = [&[0][..], &sized(2, name.as_bytes())].concat();
            [&[0, 0][..], &sized(2, &sized(2, &entry))].concat()
        });
        let extensions = [&[0, 43, 0, 3, 2, 3, 4][..], &sni.unwrap_or_default()].concat();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &sized(1, &[9; 32]),
            &sized(2, &[0x13, 1]),
            &[1, 0],
            &sized(2, &extensions),
        ]
        .concat();
        let message = [&[1][..], &sized(3, &body)].concat();
        message
            .chunks(record)
            .flat_map(|part| [&[22, 3, 1][..], &sized(2, part)].concat())
            .collect()
    }

    #[test]
    fn the_name_is_found_whatever_the_records() {
        for record in [1, 7, 50, 16_000] {
            assert_eq!(
                client_hello(&hello(Some("API.example.com"), record)),
                Hello::Server("api.example.com".into())
            );
            assert_eq!(client_hello(&hello(None, record)), Hello::Nameless);
        }
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let whole = hello(Some("example.com"), 40);
        for end in 0..whole.len() {
            assert_eq!(client_hello(&whole[..end]), Hello::Incomplete, "{end} bytes");
        }
    }

    #[test]
    fn other_protocols_are_nameless_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"SSH-2.0",
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 9, 2],
            &[22, 3, 1, 0, 9, 1, 9, 0, 0],
        ] {
            assert_eq!(client_hello(bytes), Hello::Nameless);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..120, record in 1_usize..80) {
            client_hello(&bytes);
            let mut changed = hello(Some("example.com"), record);
            let at = at % changed.len();
            changed[at] = bytes.first().copied().unwrap_or(255);
            client_hello(&changed);
        }
    }
}
