//! The resolver, and policies by name.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use container_network::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::support::{Outside, sandbox};

const HTTPS: &str = "198.51.100.7:443";
const RESOLVER: &str = "10.0.2.3:53";

fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// The response code and the last four bytes, which are the address if there is one.
fn outcome(reply: &[u8]) -> (u8, [u8; 4]) {
    assert_eq!(reply[..2], [0x12, 0x34]);
    (reply[3] & 15, *reply.last_chunk().unwrap())
}

fn answered(question: &[u8]) -> Vec<u8> {
    let mut reply = question.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
    reply
}

/// A resolver on loopback for which every name is 198.51.100.7, and the questions it got.
async fn resolver() -> (SocketAddr, Arc<Mutex<usize>>) {
    let asked = Arc::new(Mutex::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).await.unwrap();
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 600];
        loop {
            let (size, from) = socket.recv_from(&mut buffer).await.unwrap();
            *count.lock().unwrap() += 1;
            socket.send_to(&answered(&buffer[..size]), from).await.unwrap();
        }
    });
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut question).await.unwrap();
            *count.lock().unwrap() += 1;
            let reply = answered(&question);
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    (address, asked)
}

fn ask_over_udp(name: &str) -> Vec<u8> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(&question(name), RESOLVER).unwrap();
    let mut reply = vec![0; 600];
    let (size, from) = socket.recv_from(&mut reply).unwrap();
    assert_eq!(from.to_string(), RESOLVER);
    reply.truncate(size);
    reply
}

fn ask_over_tcp(name: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(RESOLVER).unwrap();
    let question = question(name);
    stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], &question].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).unwrap();
    reply
}

/// A client hello that names `server`, without anything a real one would need.
fn client_hello(server: &str) -> Vec<u8> {
    let sized = |body: &[u8]| [&(body.len() as u16).to_be_bytes()[..], body].concat();
    let names = sized(&sized(server.as_bytes()).into_iter().collect::<Vec<u8>>());
    let names = [&((names.len() - 2 + 1) as u16).to_be_bytes()[..], &[0], &names[2..]].concat();
    let extensions = sized(&[&[0, 0][..], &sized(&names)].concat());
    let body = [&[3, 3][..], &[0; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &extensions].concat();
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_sandbox_resolves_over_udp_and_tcp() {
    let (upstream, _) = resolver().await;
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([]), vec![upstream]);
    for ask in [ask_over_udp, ask_over_tcp] {
        let reply = inside.run(move || ask("any.example.org")).await;
        assert_eq!(outcome(&reply), (0, [198, 51, 100, 7]));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_listed_do_not_resolve_and_are_not_asked_for() {
    let (upstream, asked) = resolver().await;
    let policy = Policy::allow_list([""; 0], ["*.example.com"]).unwrap();
    let (inside, gateway) = sandbox(policy, &Outside::new([]), vec![upstream]);
    for ask in [ask_over_udp, ask_over_tcp] {
        assert_eq!(outcome(&inside.run(move || ask("c2VjcmV0.evil.org")).await).0, 3);
    }
    assert_eq!(*asked.lock().unwrap(), 0);
    assert_eq!(outcome(&inside.run(|| ask_over_udp("api.example.com")).await).0, 0);
    gateway.set_policy(Policy::Closed);
    assert_eq!(outcome(&inside.run(|| ask_over_udp("api.example.com")).await).0, 5);
    assert_eq!(*asked.lock().unwrap(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_name_opens_its_address_for_client_hellos_that_name_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                // A connection that is cut while it echoes is what some cases are about.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    let (upstream, _) = resolver().await;
    let outside = Outside::new([(HTTPS, server)]);
    let policy = Policy::allow_list([""; 0], ["api.example.com"]).unwrap();
    let (inside, gateway) = sandbox(policy, &outside, vec![upstream]);
    let exchange = |first: Vec<u8>| {
        move || {
            let mut stream = TcpStream::connect(HTTPS)?;
            stream.write_all(&first)?;
            let mut echoed = vec![0; first.len()];
            stream.read_exact(&mut echoed)?;
            Ok::<bool, std::io::Error>(echoed == first)
        }
    };

    let unresolved = inside.run(exchange(client_hello("api.example.com"))).await.unwrap_err();
    assert_eq!(unresolved.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(outside.dialled(), []);

    inside.run(|| ask_over_udp("api.example.com")).await;
    assert!(inside.run(exchange(client_hello("api.example.com"))).await.unwrap());
    for wrong in [
        client_hello("other.example.com"),
        b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_vec(),
    ] {
        let error = inside.run(exchange(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    gateway.stop().await;
}
