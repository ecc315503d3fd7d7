//! Tunnels into a sandbox, and relays out of it.

use modal_proto::client::{PortSpec, PortSpecs, Sandbox, sandbox::OpenPortsOneof};
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
    assert_eq!(tunnel.unencrypted_port, Some(tunnel.port));
    let address = (tunnel.host.as_str(), u16::try_from(tunnel.port).unwrap());
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
