//! The head of an HTTP/1.1 request: what it says of its token, and what of it is passed on.

use std::fmt::Write as _;

/// The query parameter and the cookie that carry a token.
const NAME: &str = "_modal_connect_token";
/// More headers are no request of a browser or an HTTP library.
const MAX_HEADERS: usize = 128;
/// What tells the program inside about the caller.
const USER_DATA: &str = "X-Verified-User-Data";

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

/// Where the token of a request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'h> {
    Header(&'h str),
    Query(&'h str),
    Cookie(&'h str),
    None,
}

impl<'h> Credential<'h> {
    pub(super) fn token(&self) -> Option<&'h str> {
        match self {
            Self::Header(token) | Self::Query(token) | Self::Cookie(token) => Some(token),
            Self::None => None,
        }
    }
}

impl Head {
    /// From the bytes up to and with the empty line; `None` if they are no HTTP/1.1 request for a path.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        if !request.parse(bytes).ok()?.is_complete() || request.version != Some(1) {
            return None;
        }
        let header = |it: &httparse::Header<'_>| {
            Some((it.name.to_owned(), std::str::from_utf8(it.value).ok()?.to_owned()))
        };
        let head = Self {
            method: request.method?.to_owned(),
            target: request.path?.to_owned(),
            headers: request.headers.iter().map(header).collect::<Option<_>>()?,
        };
        head.target.starts_with('/').then_some(head)
    }

    /// The only header of this name; of several, none.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value.as_str())
    }

    pub(super) fn credential(&self) -> Credential<'_> {
        if let Some(token) = self.bearer() {
            return Credential::Header(token);
        }
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        if let Some(token) = query.split('&').find_map(own_pair) {
            return Credential::Query(token);
        }
        let cookies = self.header("cookie").unwrap_or_default();
        cookies
            .split(';')
            .map(str::trim)
            .find_map(own_pair)
            .map_or(Credential::None, Credential::Cookie)
    }

    fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// For a page that was opened with the token in its address: the answer that keeps it as a cookie
    /// and leads to the address without it.
    pub(super) fn without_token_in_query(&self) -> Option<String> {
        let Credential::Query(token) = self.credential() else { return None };
        if self.method != "GET" || self.is_upgrade() {
            return None;
        }
        let target = self.clean_target();
        Some(format!(
            "HTTP/1.1 303 See Other\r\nlocation: {target}\r\n\
             set-cookie: {NAME}={token}; Path=/; HttpOnly; SameSite=Strict\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        ))
    }

    /// The head as the program inside gets it.
    pub(super) fn forwarded(&self, user_data: &str) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.clean_target());
        for (name, value) in &self.headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let is_ours = is("authorization") && self.bearer().is_some();
            let is_hop = is("connection") || is("keep-alive") || is("proxy-connection");
            if is_ours || is_hop || is(USER_DATA) {
                continue;
            }
            let value = if is("cookie") { other_cookies(value) } else { value.clone() };
            if !(is("cookie") && value.is_empty()) {
                // Writing to a string cannot fail.
                let _ = write!(text, "{name}: {value}\r\n");
            }
        }
        if !user_data.is_empty() {
            let _ = write!(text, "{USER_DATA}: {user_data}\r\n");
        }
        let connection = if self.is_upgrade() { "Upgrade" } else { "close" };
        let _ = write!(text, "Connection: {connection}\r\n\r\n");
        text
    }

    fn is_upgrade(&self) -> bool {
        let connection = self.header("connection").unwrap_or_default();
        let asks = connection.split(',').any(|it| it.trim().eq_ignore_ascii_case("upgrade"));
        asks && self.header("upgrade").is_some()
    }

    /// The path, not to be taken for another machine's address, and the query without the token.
    fn clean_target(&self) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let path = format!("/{}", path.trim_start_matches('/'));
        let kept: Vec<&str> = query.split('&').filter(|it| own_pair(it).is_none()).collect();
        match kept.join("&") {
            query if query.is_empty() => path,
            query => format!("{path}?{query}"),
        }
    }
}

fn own_pair(pair: &str) -> Option<&str> {
    pair.strip_prefix(NAME)?.strip_prefix('=')
}

fn other_cookies(value: &str) -> String {
    let cookies = value.split(';').map(str::trim);
    cookies.filter(|it| own_pair(it).is_none()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn the_token_goes_no_further_and_user_data_cannot_be_forged() {
        let head = head(
            "POST //evil.example/x?a=1&_modal_connect_token=t&b=2 HTTP/1.1\nHost: 127.0.0.1:1\n\
             Authorization: Bearer tok\nCookie: x=1; _modal_connect_token=t; y=2\n\
             X-Verified-User-Data: forged\nConnection: keep-alive\nContent-Length: 2\n\n",
        );
        insta::assert_snapshot!(head.forwarded("{\"user\":1}").replace('\r', ""), @r#"
        POST /evil.example/x?a=1&b=2 HTTP/1.1
        Host: 127.0.0.1:1
        Cookie: x=1; y=2
        Content-Length: 2
        X-Verified-User-Data: {"user":1}
        Connection: close
        "#);
    }

    #[test]
    fn where_the_token_may_be() {
        let cases = [
            ("GET / HTTP/1.1\nAuthorization: Bearer a\n\n", Credential::Header("a")),
            ("GET /?_modal_connect_token=b HTTP/1.1\n\n", Credential::Query("b")),
            ("GET / HTTP/1.1\nCookie: _modal_connect_token=c\n\n", Credential::Cookie("c")),
            (
                "GET /?x_modal_connect_token=b HTTP/1.1\nAuthorization: Basic a\n\n",
                Credential::None,
            ),
        ];
        for (text, credential) in cases {
            assert_eq!(head(text).credential(), credential, "{text}");
        }
        let redirect = head("GET /p?_modal_connect_token=b HTTP/1.1\n\n").without_token_in_query();
        assert!(redirect.unwrap().contains("location: /p\r\n"));
    }

    #[test]
    fn an_upgrade_stays_one_and_nonsense_is_no_request() {
        let upgrade = head("GET /ws HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\n\n");
        assert!(upgrade.forwarded("").contains("Connection: Upgrade\r\n"));
        for text in ["GET http://x/ HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "x\r\n\r\n"] {
            assert!(Head::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
