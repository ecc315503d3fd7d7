//! HTTP into sandboxes with connect tokens: the token decides, and nothing else.

use modal_proto::client::SandboxCreateConnectTokenRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Live, Local};

/// Answers each request with its own head.
const ECHO: &str = "import http.server
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.requestline + '\\n' + str(self.headers)).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(('127.0.0.1', 8080), Echo).serve_forever()
";

struct Credentials {
    authority: String,
    token: String,
}

async fn credentials(sandbox: &Live, user_metadata: &str) -> Credentials {
    let request = SandboxCreateConnectTokenRequest {
        sandbox_id: sandbox.id.clone(),
        user_metadata: user_metadata.to_owned(),
        port: None,
    };
    let answer = sandbox.client.clone().sandbox_create_connect_token_v2(request).await.unwrap();
    let answer = answer.into_inner();
    let authority = answer.url.strip_prefix("http://").unwrap().to_owned();
    Credentials { authority, token: answer.token }
}

async fn get(authority: &str, target: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_sandbox_and_no_other_way_does() {
    let local = Local::start().await;
    let sandbox = local.create(local.definition(&["python3", "-c", ECHO])).await;
    let other = local.sleeping().await;
    let own = credentials(&sandbox, r#"{"user":"u1"}"#).await;
    let bearer = format!("Authorization: Bearer {}\r\nX-Verified-User-Data: forged\r\n", own.token);
    let answer = loop {
        let answer = get(&own.authority, "/path?a=1", &bearer).await;
        // Until the program inside listens.
        if !answer.starts_with("HTTP/1.1 502") {
            break answer;
        }
    };
    assert!(answer.contains("GET /path?a=1 HTTP/1.1"), "{answer}");
    assert!(answer.contains(r#"X-Verified-User-Data: {"user":"u1"}"#), "{answer}");
    assert!(!answer.contains("forged") && !answer.contains(&own.token), "{answer}");
    let by_query = format!("/p?_modal_connect_token={}", own.token);
    let redirect = get(&own.authority, &by_query, "").await;
    assert!(redirect.starts_with("HTTP/1.1 303") && redirect.contains("location: /p\r\n"));
    let cookie = format!("Cookie: _modal_connect_token={}\r\n", own.token);
    assert!(get(&own.authority, "/", &cookie).await.starts_with("HTTP/1.0 200"));
    let foreign = format!("{cookie}Origin: http://evil.example\r\n");
    assert!(get(&own.authority, "/", &foreign).await.starts_with("HTTP/1.1 403"));
    assert!(get(&own.authority, "/", "").await.starts_with("HTTP/1.1 401"));
    let forged = format!("Authorization: Bearer {}x\r\n", own.token);
    assert!(get(&own.authority, "/", &forged).await.starts_with("HTTP/1.1 401"));
    // The token of another sandbox leads to that one alone, where nothing listens.
    let others = credentials(&other, "").await;
    let bearer_of_other = format!("Authorization: Bearer {}\r\n", others.token);
    assert!(get(&own.authority, "/", &bearer_of_other).await.starts_with("HTTP/1.1 502"));
    sandbox.terminate().await;
    assert!(get(&own.authority, "/", &bearer).await.starts_with("HTTP/1.1 410"));
}
