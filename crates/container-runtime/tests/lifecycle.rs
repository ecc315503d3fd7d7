//! Containers from their making to their end.

mod support;

#[tokio::test]
async fn hello() {
    let bench = support::Bench::new().await;
    println!("{}", bench.runtime.capabilities());
    let container = bench.container().await;
    let out = support::run(
        &container,
        &["sh", "-c", "id; cat /proc/mounts; ls -la / /dev; ps ax; exit 3"],
    )
    .await;
    println!("{out:#?}");
    println!("{}", out.stdout);
    panic!()
}
