//! Tunnels into a sandbox, and relays out of it.

use modal_proto::client::network_access::NetworkAccessType;
use modal_proto::client::{NetworkAccess, PortSpec, PortSpecs, Sandbox, sandbox::OpenPortsOneof};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::Local;

const SERVER: &str = "import socket
server = socket.create_server(('0.0.0.0', 8080))
while True:
    connection, _ = server.accept()
    connection.sendall(connection.recv(100)[::-1])
    connection.close()
";

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_reaches_a_port_inside() {
    let local = Local::start().await;
    let ports = vec![PortSpec { port: 8080, unencrypted: true, ..Default::default() }];
    let definition = Sandbox {
        open_ports_oneof: Some(OpenPortsOneof::OpenPorts(PortSpecs { ports })),
        network_access: None,
        ..local.definition(&["python3", "-c", SERVER])
    };
    let sandbox = local.create(definition).await;
    let tunnel = &sandbox.created.tunnels[0];
    assert_eq!(tunnel.container_port, 8080);
    assert_ne!(tunnel.unencrypted_port, Some(tunnel.port), "the other one is encrypted");
    let plain = tunnel.unencrypted_port.unwrap();
    let address = (tunnel.unencrypted_host(), u16::try_from(plain).unwrap());
    let answer = loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"abc").await.unwrap();
        let mut answer = String::new();
        // Until the program inside listens, the tunnel closes the connection.
        if matches!(stream.read_to_string(&mut answer).await, Ok(size) if size > 0) {
            break answer;
        }
    };
    assert_eq!(answer, "cba");
    sandbox.terminate().await;
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_sandbox_has_its_loopback_and_nothing_else() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let (_, stdout, _) = sandbox
        .sh("cat /proc/net/dev | tail -n +3 | cut -d: -f1; hostname; grep -c . /etc/hosts")
        .await;
    assert_eq!(stdout.split_whitespace().collect::<Vec<_>>(), ["lo", "modal", "3"]);
}

/// Registers a relay to a port of this machine; the host to call it by.
async fn relay(local: &Local, target: std::net::SocketAddr) -> String {
    let body = format!(r#"{{"target":"{target}"}}"#);
    let relay = local.administer("POST", "/_local/relays", &body).await;
    relay["host"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_sandbox_that_names_a_relay_reaches_its_port() {
    let local = Local::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let host = relay(&local, target).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"from the machine").await.unwrap();
        }
    });
    let port = target.port();
    let script = |host: &str| {
        format!("import socket; print(socket.create_connection(('{host}', {port}), 5).recv(99))")
    };
    let run = async |network: NetworkAccess, name: &str| {
        let definition = Sandbox {
            network_access: Some(network),
            ..local.definition(&["python3", "-c", &script(name)])
        };
        let sandbox = local.create(definition).await;
        (sandbox.wait().await.exitcode, sandbox.stdout().await)
    };
    let blocked = NetworkAccess {
        network_access_type: NetworkAccessType::Blocked.into(),
        ..Default::default()
    };
    let named = NetworkAccess {
        network_access_type: NetworkAccessType::Allowlist.into(),
        allowed_domains: vec![host.clone()],
        ..Default::default()
    };
    let (code, output) = run(named.clone(), &host).await;
    assert_eq!((code, output.as_str()), (0, "b'from the machine'\n"));
    assert_ne!(run(blocked, &host).await.0, 0, "its definition does not name the relay");
    let unnamed = NetworkAccess { allowed_domains: Vec::new(), ..named };
    assert_ne!(run(unnamed, "127.0.0.1").await.0, 0, "the sandbox's own loopback");
}
