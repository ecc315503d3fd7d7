//! Text files in other encodings than UTF-8: recognised, shown, and written back as they were.

use encoding_rs::WINDOWS_1252;

/// Bytes in which a zero makes a file binary, unless they look like UTF-16.
const SNIFFED: usize = 8 << 10;

/// How a file spells its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// With or without a byte order mark.
    Utf8 { mark: bool },
    /// Two bytes a character, the smaller one first.
    Utf16Le { mark: bool },
    /// The same the other way round.
    Utf16Be { mark: bool },
    /// One byte a character: what Latin-1 files are read as everywhere (WHATWG Encoding Standard).
    Latin1,
}

impl Encoding {
    /// For a note to the model; nothing where there is nothing to note.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Encoding::Utf8 { .. } => None,
            Encoding::Utf16Le { .. } => Some("UTF-16 (little endian)"),
            Encoding::Utf16Be { .. } => Some("UTF-16 (big endian)"),
            Encoding::Latin1 => Some("Latin-1 (windows-1252)"),
        }
    }

    /// The encoding of a file by its beginning; `None` where it is no text. Whether it is UTF-8 throughout only
    /// [`decode`] can tell.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        let start = &start[..start.len().min(SNIFFED)];
        match start {
            [0xef, 0xbb, 0xbf, ..] => return Some(Encoding::Utf8 { mark: true }),
            [0xff, 0xfe, 0, 0, ..] => return None,
            [0xff, 0xfe, rest @ ..] => return utf16(rest, Encoding::Utf16Le { mark: true }),
            [0xfe, 0xff, rest @ ..] => return utf16(rest, Encoding::Utf16Be { mark: true }),
            _ => {}
        }
        if !start.contains(&0) {
            return Some(Encoding::Utf8 { mark: false });
        }
        // Western text in UTF-16 has a zero in every other place, and in no other.
        let zeros =
            |first: usize| start.iter().skip(first).step_by(2).filter(|it| **it == 0).count();
        let half = start.len() / 2;
        match (zeros(0), zeros(1)) {
            (0, odd) if half > 1 && odd * 10 >= half * 9 => Some(Encoding::Utf16Le { mark: false }),
            (even, 0) if half > 1 && even * 10 >= half * 9 => {
                Some(Encoding::Utf16Be { mark: false })
            }
            _ => None,
        }
    }
}

/// A mark alone proves nothing: binary files begin with these bytes too.
fn utf16(rest: &[u8], encoding: Encoding) -> Option<Encoding> {
    let zeros = rest.chunks_exact(2).filter(|pair| *pair == [0, 0]).count();
    (zeros == 0).then_some(encoding)
}

/// The text of a file and how it was spelt; `None` where it is no text.
pub(crate) fn decode(bytes: &[u8]) -> Option<(String, Encoding)> {
    let encoding = Encoding::of(bytes)?;
    let units = |mark: bool, order: fn([u8; 2]) -> u16| {
        let bytes = if mark { &bytes[2..] } else { bytes };
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| order([pair[0], pair[1]])).collect();
        (bytes.len() % 2 == 0).then(|| String::from_utf16(&units).ok()).flatten()
    };
    match encoding {
        Encoding::Utf8 { mark } => {
            let bytes = if mark { &bytes[3..] } else { bytes };
            match std::str::from_utf8(bytes) {
                Ok(text) => Some((text.to_owned(), encoding)),
                Err(_) if mark => None,
                Err(_) => Some((latin1(bytes), Encoding::Latin1)),
            }
        }
        Encoding::Utf16Le { mark } => units(mark, u16::from_le_bytes).map(|text| (text, encoding)),
        Encoding::Utf16Be { mark } => units(mark, u16::from_be_bytes).map(|text| (text, encoding)),
        Encoding::Latin1 => Some((latin1(bytes), encoding)),
    }
}

fn latin1(bytes: &[u8]) -> String {
    WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned()
}

/// The bytes of a text in an encoding; `None` where that has no bytes for a character.
pub(crate) fn encode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    let units = |mark: bool, order: fn(u16) -> [u8; 2]| {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(order).collect()
    };
    match encoding {
        Encoding::Utf8 { mark } => {
            let mark: &[u8] = if mark { b"\xef\xbb\xbf" } else { b"" };
            Some([mark, text.as_bytes()].concat())
        }
        Encoding::Utf16Le { mark } => Some(units(mark, u16::to_le_bytes)),
        Encoding::Utf16Be { mark } => Some(units(mark, u16::to_be_bytes)),
        Encoding::Latin1 => {
            let (bytes, _, unmappable) = WINDOWS_1252.encode(text);
            (!unmappable).then(|| bytes.into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        let utf16: Vec<u8> = "\u{feff}grüße\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "plain text\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let cases: [(&[u8], &str, Encoding); 6] = [
            (b"plain\n", "plain\n", Encoding::Utf8 { mark: false }),
            (b"\xef\xbb\xbfmarked\n", "marked\n", Encoding::Utf8 { mark: true }),
            (&utf16, "grüße\n", Encoding::Utf16Le { mark: true }),
            (&be, "plain text\n", Encoding::Utf16Be { mark: false }),
            (b"caf\xe9 \x80\n", "café €\n", Encoding::Latin1),
            (b"", "", Encoding::Utf8 { mark: false }),
        ];
        for (bytes, text, encoding) in cases {
            assert_eq!(decode(bytes), Some((text.to_owned(), encoding)));
            assert_eq!(encode(text, encoding).unwrap(), bytes, "{text}");
        }
        assert_eq!(encode("日", Encoding::Latin1), None);
    }

    #[test]
    fn binary_files_are_no_text() {
        for bytes in [
            b"\x7fELF\0\0\x01".as_slice(),
            b"\xff\xfe\0\0a\0\0\0",
            b"a\0b",
            b"\0\0\0\0",
            b"\xff\xfe\x00\x00",
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
