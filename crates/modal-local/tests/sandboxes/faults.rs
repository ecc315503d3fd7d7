//! What goes wrong on the machine is told apart from what programs do, and mended.

use std::fs;
use std::time::Duration;

use modal_proto::client::generic_result::GenericStatus;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use crate::harness::Local;

/// The children of a process, by all of its threads.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")));
    let children: String = children.map(Result::unwrap_or_default).collect();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// The only spawner: a test is a process of its own.
fn spawner() -> u32 {
    let spawners = children(std::process::id());
    assert_eq!(spawners.len(), 1, "{spawners:?}");
    spawners[0]
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_init_is_never_the_programs_exit() {
    let local = Local::start().await;
    // Which of the two ends is heard first is for the scheduler to say: often enough to meet both.
    for _ in 0..12 {
        let sandbox = local.sleeping().await;
        let command = sandbox.exec(&["sleep", "600"]).await;
        let inits = children(spawner());
        assert_eq!(inits.len(), 1, "{inits:?}");
        kill(inits[0]);
        let result = sandbox.wait().await;
        assert_eq!(result.status(), GenericStatus::InternalFailure, "{result:?}");
        assert!(result.exception.contains("init was killed by signal 9"), "{result:?}");
        drop(command);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_spawner_is_replaced() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let first = spawner();
    kill(first);
    let result = sandbox.wait().await;
    assert_eq!(result.status(), GenericStatus::InternalFailure, "{result:?}");
    let next = local.create(local.definition(&["echo", "again"])).await;
    assert_eq!(next.wait().await.status(), GenericStatus::Success);
    assert_eq!(next.stdout().await, "again\n");
    let spawners = children(std::process::id());
    assert!(!spawners.contains(&first) || spawners.len() == 2, "{spawners:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_fills_the_disk_is_ended_with_the_reason() {
    let local = Local::start().await;
    let fill = "head -c 40000000 /dev/zero > /tmp/a; cp /tmp/a /tmp/b; sleep 600";
    let mut definition = local.definition(&["sh", "-c", fill]);
    definition.resources =
        Some(modal_proto::client::Resources { ephemeral_disk_mb: 64, ..Default::default() });
    let sandbox = local.create(definition.clone()).await;
    let result = sandbox.wait().await;
    assert_eq!((result.status(), result.exitcode), (GenericStatus::Failure, 137));
    assert_eq!(result.exception, "out of disk: it wrote more than 64 MiB");
    definition.entrypoint_args[2] =
        "head -c 80000000 /dev/zero > /tmp/a; echo $?; wc -c < /tmp/a".into();
    let sandbox = local.create(definition).await;
    sandbox.wait().await;
    assert_eq!(
        sandbox.stdout().await,
        "153\n67108864\n",
        "one file alone is the kernel's to limit"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chatty_entrypoint_holds_nobody_up() {
    let local = Local::start().await;
    let chatty = local.create(local.definition(&["sh", "-c", "yes | head -c 6000000"])).await;
    let creating = local.create(local.definition(&["true"]));
    let quiet = tokio::time::timeout(Duration::from_secs(20), creating).await.unwrap();
    assert_eq!(quiet.wait().await.status(), GenericStatus::Success);
    assert_eq!(chatty.wait().await.status(), GenericStatus::Success);
    // The log is written beside everything else, and complete in the end.
    while local.count_stdout(&chatty).await < 3_000_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let records = local.size("records.sqlite") + local.size("records.sqlite-wal");
    let logs = local.size("logs.sqlite") + local.size("logs.sqlite-wal");
    assert!(records < 4_000_000, "{records}");
    assert!((6_000_000..40_000_000).contains(&logs), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_which_limits_are_in_force_and_programs_readers_do_not_get_it() {
    let local = Local::start().await;
    let mut definition = local.definition(&["echo", "hello"]);
    definition.resources =
        Some(modal_proto::client::Resources { memory_mb_max: 512, ..Default::default() });
    let sandbox = local.create(definition).await;
    sandbox.wait().await;
    assert_eq!(sandbox.stdout().await, "hello\n");
    let lines = local.log_lines(&sandbox).await;
    let first = &lines[0];
    assert_eq!(first.file_descriptor(), modal_proto::client::FileDescriptor::Info);
    assert!(first.data.starts_with("limits: 512 MiB of memory, 4096 processes, "), "{first:?}");
    assert!(first.data.contains("of disk in 1000000 files"), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_by_name() {
    let local = Local::start().await;
    let mut definition = local.definition(&["true"]);
    definition.experimental_options_v2 = [("enable_docker".to_owned(), "True".to_owned())].into();
    let status = local.try_create(local.request(definition)).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("enable_docker"), "{status:?}");
}
