//! TCP through the gateway.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use container_network::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Outside, sandbox};

const WEB: &str = "198.51.100.7:80";

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_pass_both_ways_and_a_half_closed_client_still_gets_its_answer() {
    let (listener, address) = listener().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        request.reverse();
        stream.write_all(&request).await.unwrap();
    });
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(WEB, address)]), vec![]);
    let answer = inside
        .run(|| {
            let mut stream = TcpStream::connect(WEB).unwrap();
            stream.write_all(&pattern(3 << 20)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        })
        .await;
    serving.await.unwrap();
    let mut expected = pattern(3 << 20);
    expected.reverse();
    assert!(answer == expected, "{} bytes came back", answer.len());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_do_not_mix() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            });
        }
    });
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(WEB, address)]), vec![]);
    inside
        .run(|| {
            let mut streams: Vec<TcpStream> =
                (0..100).map(|_| TcpStream::connect(WEB).unwrap()).collect();
            for (index, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&[index as u8; 3000]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            }
            for (index, stream) in streams.iter_mut().enumerate() {
                let mut echoed = Vec::new();
                stream.read_to_end(&mut echoed).unwrap();
                assert_eq!(echoed, [index as u8; 3000]);
            }
        })
        .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_refused_at_once_and_never_dialled() {
    let outside = Outside::new([]);
    let (inside, gateway) = sandbox(Policy::Open, &outside, vec![]);
    for to in ["169.254.169.254:80", "10.0.2.2:80", "10.0.2.3:80", "10.0.2.55:22", "0.1.2.3:80"] {
        let error = inside.run(move || TcpStream::connect(to).unwrap_err()).await;
        assert!(
            matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::HostUnreachable
            ),
            "{to}: {error}"
        );
    }
    assert_eq!(outside.dialled(), []);
    gateway.set_policy(Policy::Closed);
    let error = inside.run(|| TcpStream::connect(WEB).unwrap_err()).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(outside.dialled(), []);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_refuses_is_seen_to_refuse() {
    let outside = Outside::new([]);
    let (inside, gateway) = sandbox(Policy::Open, &outside, vec![]);
    let error = inside.run(|| TcpStream::connect(WEB).unwrap_err()).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(outside.dialled(), [WEB.parse().unwrap()]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrower_policy_cuts_flows_that_are_open() {
    let (listener, address) = listener().await;
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(WEB, address)]), vec![]);
    let stream = inside.run(|| TcpStream::connect(WEB).unwrap()).await;
    let (mut server, _) = listener.accept().await.unwrap();
    gateway.set_policy(Policy::allow_list(["198.51.100.0/24"], [""; 0]).unwrap());
    server.write_all(b"x").await.unwrap();
    let mut stream =
        inside.run(move || (&stream).read_exact(&mut [0]).map(|()| stream).unwrap()).await;
    gateway.set_policy(Policy::Closed);
    let error = inside.run(move || stream.read(&mut [0]).unwrap_err()).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_read_stops_the_client_not_the_gateway() {
    let (listener, address) = listener().await;
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(WEB, address)]), vec![]);
    let (stopped, has_stopped) = tokio::sync::oneshot::channel();
    let writing = inside.run(move || {
        let mut stream = TcpStream::connect(WEB).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut sent = 0;
        while let Ok(size) = stream.write(&[b'a'; 64 << 10]) {
            sent += size;
            assert!(sent < 64 << 20, "nothing holds the client back");
        }
        stopped.send(()).unwrap();
        stream.set_write_timeout(None).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (sent, answer)
    });
    let serving = async {
        let (mut server, _) = listener.accept().await.unwrap();
        has_stopped.await.unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        server.write_all(b"done").await.unwrap();
        drop(server);
        all.len()
    };
    let ((sent, answer), received) = tokio::join!(writing, serving);
    assert_eq!((sent, answer.as_str()), (received, "done"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_pass_through_both_ways() {
    let (listener, address) = listener().await;
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(WEB, address)]), vec![]);
    let linger = |stream: &TcpStream| {
        rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap()
    };

    let mut stream = inside.run(|| TcpStream::connect(WEB).unwrap()).await;
    let server = listener.accept().await.unwrap().0.into_std().unwrap();
    linger(&server);
    drop(server);
    assert_eq!(
        inside.run(move || stream.read(&mut [0]).unwrap_err().kind()).await,
        ErrorKind::ConnectionReset
    );

    let stream = inside.run(|| TcpStream::connect(WEB).unwrap()).await;
    let (mut server, _) = listener.accept().await.unwrap();
    linger(&stream);
    inside.run(move || drop(stream)).await;
    assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_and_closes_at_once_is_heard() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 ready\n").await.unwrap();
        }
    });
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(WEB, address)]), vec![]);
    for _ in 0..20 {
        let greeting = inside
            .run(|| {
                let mut greeting = String::new();
                TcpStream::connect(WEB).unwrap().read_to_string(&mut greeting).unwrap();
                greeting
            })
            .await;
        assert_eq!(greeting, "220 ready\n");
    }
    gateway.stop().await;
}
