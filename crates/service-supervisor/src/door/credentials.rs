//! What a request shows to be let in.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

/// What a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// Nothing.
    None,
    /// A key: `Authorization: Bearer …`, or the headers that Anthropic's and Azure's clients send.
    Key(&'a [u8]),
    /// Something that only the service understands: a name and password, a session.
    Other,
}

/// What the headers show. Where a request shows several keys the first counts, as for the service.
pub(crate) fn of(headers: &HeaderMap) -> Credentials<'_> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        return bearer(value.as_bytes()).map_or(Credentials::Other, Credentials::Key);
    }
    if let Some(value) = ["x-api-key", "api-key"].iter().find_map(|name| headers.get(*name)) {
        return Credentials::Key(value.as_bytes());
    }
    if headers.contains_key(COOKIE) { Credentials::Other } else { Credentials::None }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pairs: &[(&'static str, &'static str)]) -> String {
        let header = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        match of(&pairs.iter().map(header).collect()) {
            Credentials::Key(key) => String::from_utf8_lossy(key).into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_client_s_way_to_show_a_key() {
        assert_eq!(shown(&[("authorization", "Bearer sk-1")]), "sk-1");
        assert_eq!(shown(&[("authorization", "bearer  sk-1 ")]), "sk-1");
        assert_eq!(shown(&[("x-api-key", "sk-2")]), "sk-2");
        assert_eq!(shown(&[("api-key", "sk-3")]), "sk-3");
        assert_eq!(shown(&[("authorization", "Basic eA=="), ("x-api-key", "sk-2")]), "Other");
        assert_eq!(shown(&[("cookie", "a=b")]), "Other");
        assert_eq!(shown(&[]), "None");
    }
}
