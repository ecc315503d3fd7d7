//! UDP through the gateway.

use container_network::Policy;

use crate::support::{Outside, sandbox};

const CLOCK: &str = "198.51.100.9:123";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_pass_both_ways_whole() {
    let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut buffer = [0; 2000];
        for _ in 0..2 {
            let (size, from) = server.recv_from(&mut buffer).await.unwrap();
            buffer[..size].reverse();
            server.send_to(&buffer[..size], from).await.unwrap();
        }
    });
    let (inside, gateway) = sandbox(Policy::Open, &Outside::new([(CLOCK, address)]), vec![]);
    let answers = inside
        .run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let mut buffer = [0; 2000];
            [&b"abc"[..], &[b'z'; 1400]].map(|question| {
                socket.send_to(question, CLOCK).unwrap();
                let (size, from) = socket.recv_from(&mut buffer).unwrap();
                (from.to_string(), buffer[..size].to_vec())
            })
        })
        .await;
    assert_eq!(
        answers,
        [(CLOCK.to_owned(), b"cba".to_vec()), (CLOCK.to_owned(), vec![b'z'; 1400])]
    );
    serving.await.unwrap();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_datagram_is_answered_with_an_error() {
    let outside = Outside::new([]);
    let (inside, gateway) = sandbox(Policy::Closed, &outside, vec![]);
    let refused = inside
        .run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(CLOCK).unwrap();
            socket.send(b"what time is it").unwrap();
            socket.recv(&mut [0; 10]).is_err()
        })
        .await;
    assert!(refused);
    assert_eq!(outside.dialled(), []);
    gateway.stop().await;
}
