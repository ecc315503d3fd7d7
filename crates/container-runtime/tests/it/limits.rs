//! Bombs that must stay in their box.

use crate::support::{Bench, command, run, sh, spec, start};
use container_runtime::{Ended, Exit, LimitsBackend, Upper};

#[tokio::test]
async fn a_fork_bomb_hits_its_limit_and_goes() {
    let bench = Bench::new().await;
    let mut spec = spec("box");
    spec.limits.pids = Some(64);
    let container = bench.runtime.create(spec).await.unwrap();
    let script = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done";
    let ran = sh(&container, script);
    let bomb = tokio::time::timeout(std::time::Duration::from_secs(20), ran).await;
    // The shell gives up at its limit; the sleepers keep its output open only if it could not start them.
    if let Ok(ran) = bomb {
        assert!(ran.stderr.contains("fork"), "{ran:?}");
    }
    if bench.runtime.capabilities().limits != LimitsBackend::Rlimits {
        assert!(container.usage().pids.unwrap() <= 64);
    }
    container.terminate().await.unwrap();
    bench.finish().await;
}

#[tokio::test]
async fn a_memory_bomb_is_killed_and_the_exit_says_so() {
    let bench = Bench::new().await;
    if bench.runtime.capabilities().limits == LimitsBackend::Rlimits {
        return bench.finish().await;
    }
    let mut spec = spec("box");
    spec.limits.memory = Some(48 << 20);
    spec.root.upper = Upper::Tmpfs { bytes: 16 << 20, inodes: 1000 };
    let container = bench.runtime.create(spec).await.unwrap();
    assert!(!container.oom_killed());
    let ran = run(&container, &["perl", "-e", "my @a; push @a, 'x' x 1048576 while 1"]).await;
    assert_eq!(ran.status.how, Exit::Signal(9), "{ran:?}");
    assert!(ran.status.oom, "{ran:?}");
    assert!(container.oom_killed());
    let ran = sh(&container, "kill -9 $$").await;
    assert!(!ran.status.oom, "an ordinary kill is none for lack of memory");
    assert_eq!(sh(&container, "echo alive").await.ok(), "alive");
    assert!(container.usage().memory_peak.unwrap() <= 48 << 20);
    bench.finish().await;
}

#[tokio::test]
async fn a_shell_whose_program_ran_out_of_memory_is_flagged_too() {
    let bench = Bench::new().await;
    if bench.runtime.capabilities().limits == LimitsBackend::Rlimits {
        return bench.finish().await;
    }
    let mut spec = spec("box");
    spec.limits.memory = Some(48 << 20);
    let container = bench.runtime.create(spec).await.unwrap();
    let ran = sh(&container, "perl -e 'my @a; push @a, \"x\" x 1048576 while 1'; exit $?").await;
    assert_eq!((ran.status.how, ran.status.oom), (Exit::Code(137), true));
    bench.finish().await;
}

#[tokio::test]
async fn files_and_shared_memory_have_an_end() {
    let bench = Bench::new().await;
    let mut spec = spec("box");
    spec.root.upper = Upper::Tmpfs { bytes: 8 << 20, inodes: 200 };
    spec.limits.memory = Some(64 << 20);
    let container = bench.runtime.create(spec).await.unwrap();
    let ran = sh(&container, "head -c 20000000 /dev/zero > /tmp/big").await;
    assert!(ran.stderr.contains("No space left"), "{ran:?}");
    sh(&container, "rm /tmp/big").await.ok();
    let ran = sh(&container, "cd /tmp; for i in $(seq 300); do : > f$i || exit 9; done").await;
    assert_ne!(ran.status.how, Exit::Code(0));
    let ran = sh(&container, "head -c 100000000 /dev/zero > /dev/shm/big").await;
    assert_ne!(ran.status.how, Exit::Code(0));
    bench.finish().await;
}

#[tokio::test]
async fn one_file_has_an_end() {
    let bench = Bench::new().await;
    let mut spec = spec("box");
    spec.limits.file_size = Some(1 << 20);
    let container = bench.runtime.create(spec).await.unwrap();
    let script = "cd /tmp; head -c 2000000 /dev/zero > big; echo $?; wc -c < big; \
                  head -c 1000000 /dev/zero > a && cat a a a | wc -c";
    let ran = sh(&container, script).await;
    assert_eq!(ran.ok().split_whitespace().collect::<Vec<_>>(), ["153", "1048576", "3000000"]);
    bench.finish().await;
}

#[tokio::test]
async fn the_memory_for_all_is_known() {
    let bench = Bench::new().await;
    let memory = bench.runtime.memory().unwrap();
    assert!(memory > 64 << 20, "{memory}");
    bench.finish().await;
}

#[tokio::test]
async fn a_busy_loop_gets_its_share_and_is_counted() {
    let bench = Bench::new().await;
    if bench.runtime.capabilities().limits == LimitsBackend::Rlimits {
        return bench.finish().await;
    }
    let mut spec = spec("box");
    spec.limits.cpu = Some(0.2);
    let container = bench.runtime.create(spec).await.unwrap();
    let started = std::time::Instant::now();
    let before = container.usage().cpu.unwrap();
    sh(&container, "perl -e '$i++ while $i < 15000000'").await.ok();
    let used = container.usage().cpu.unwrap() - before;
    let share = used.as_secs_f64() / started.elapsed().as_secs_f64();
    println!("share {share}");
    assert!(share < 0.5, "{share}");
    bench.finish().await;
}

#[tokio::test]
async fn output_that_nobody_reads_holds_only_its_writer() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let process = container.exec(command(&["sh", "-c", "yes"])).await.unwrap();
    assert_eq!(sh(&container, "echo others go on").await.ok(), "others go on");
    process.kill(9).await.unwrap();
    assert_eq!(process.wait().await.unwrap().how, Exit::Signal(9));
    bench.finish().await;
}

#[tokio::test]
async fn a_million_lines_and_a_line_of_a_hundred_megabytes_pass() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let ran = sh(&container, "yes | head -n 1000000").await;
    assert_eq!(ran.ok().len(), 1_999_999);
    let ran = sh(&container, "head -c 100000000 /dev/zero").await;
    assert_eq!(ran.stdout.len(), 100_000_000);
    bench.finish().await;
}

#[tokio::test]
async fn an_init_killed_by_lack_of_memory_is_told_apart() {
    let bench = Bench::new().await;
    if bench.runtime.capabilities().limits == LimitsBackend::Rlimits {
        return bench.finish().await;
    }
    let mut spec = spec("box");
    spec.limits.memory = Some(32 << 20);
    spec.root.upper = Upper::Tmpfs { bytes: 256 << 20, inodes: 1000 };
    let container = bench.runtime.create(spec).await.unwrap();
    let process =
        start(&container, "echo ready; head -c 200000000 /dev/zero > /tmp/fill; sleep 1000").await;
    let status = process.wait().await.unwrap();
    assert!(container.oom_killed() || status.how != Exit::Code(0), "{status:?}");
    container.terminate().await.unwrap();
    let ended = container.ended().await;
    assert!(matches!(ended, Ended::Terminated | Ended::OutOfMemory), "{ended:?}");
    bench.finish().await;
}
