//! Output: complete, resumable, and never held up by who does not read.

use modal_proto::client::FileDescriptor;

use crate::harness::Local;

#[tokio::test(flavor = "multi_thread")]
async fn output_can_be_read_again_from_any_offset_after_the_exit() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["sh", "-c", "seq 1 200000"]).await;
    exec.wait().await;
    let all = exec.output(false, 0).await;
    assert_eq!(all.len(), 1_288_895);
    assert!(all.starts_with(b"1\n2\n") && all.ends_with(b"199999\n200000\n"));
    assert_eq!(exec.output(false, 1_000_000).await, all[1_000_000..]);
    assert!(exec.output(false, 1_288_895).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_unchanged() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["printf", r"\000\377\n"]).await;
    assert_eq!(exec.output(false, 0).await, b"\0\xff\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_is_known_though_a_child_holds_the_output_open() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["sh", "-c", "sleep 600 & echo hi"]).await;
    assert_eq!(exec.wait().await, 0);
    assert_eq!(exec.text(false).await, "hi\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_entrypoint_prints_is_in_the_log_of_the_app() {
    let local = Local::start().await;
    let sandbox =
        local.create(local.definition(&["sh", "-c", "echo one; echo two; echo e >&2"])).await;
    sandbox.wait().await;
    // The log is complete before anybody is told of the end.
    let lines = local.log_lines(&sandbox).await;
    let printed = lines.iter().filter(|line| line.file_descriptor() != FileDescriptor::Info);
    let mut data: Vec<&str> = printed.map(|line| line.data.as_str()).collect();
    data.sort_unstable();
    assert_eq!(data, ["e\n", "one\n", "two\n"]);
}
