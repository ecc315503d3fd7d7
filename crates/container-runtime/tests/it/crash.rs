//! SIGKILL of the server and of the spawner, and what the next start finds.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Bench, config, eventually, marker, processes_with, run, spec, start};
use container_runtime::{Ended, Runtime};

/// Control groups of instances of this server, by its pid.
fn groups_of(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("goat-") && name.contains(&format!("-{pid}-")) {
                found.push(entry.path().display().to_string());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
        }
    }
    found
}

/// The spawners among the children of a process.
fn spawner_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut all = children.unwrap_or_default();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        all.push_str(&std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    }
    let is_spawner = |child: &&str| {
        let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        command.starts_with("container-spawner")
    };
    all.split_ascii_whitespace().find(is_spawner).unwrap().parse().unwrap()
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// The server of the tests below: this very test binary, in a process of its own.
///
/// Makes containers with a sleeping daemon each, says so, and goes on making more until it is killed.
#[tokio::test]
#[ignore = "it is the process that other tests kill"]
async fn server_process() {
    let Ok(state) = std::env::var("CRASH_TEST_STATE") else { return };
    let mark = std::env::var("CRASH_TEST_MARK").unwrap();
    let runtime = Runtime::start(config(Path::new(&state))).await.unwrap();
    let mut kept = Vec::new();
    for number in 0.. {
        let container = runtime.create(spec(&format!("c{number}"))).await.unwrap();
        let script = format!("setsid sh -c 'trap \"\" TERM; sleep {mark}' & echo ready; wait");
        kept.push((start(&container, &script).await, container));
        std::fs::create_dir(runtime.instance_dir().join(format!("upper{number}"))).unwrap();
        println!("made {number}");
        if number % 4 == 3 {
            kept.clear();
        }
    }
}

fn start_server(state: &Path, mark: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::server_process", "--nocapture"])
        .env("CRASH_TEST_STATE", state)
        .env("CRASH_TEST_MARK", mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for_containers(server: &mut Child, count: usize) {
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let made = lines.map_while(Result::ok).filter(|line| line.contains("made")).take(count).count();
    assert_eq!(made, count, "the server ended early");
}

#[tokio::test]
async fn killing_the_server_takes_everything_and_the_next_start_cleans_up() {
    let state = tempfile::tempdir().unwrap();
    for count in 1..=6 {
        let mark = marker();
        let mut server = start_server(state.path(), &mark);
        wait_for_containers(&mut server, count);
        let spawner = spawner_of(server.id());
        server.kill().unwrap();
        server.wait().unwrap();
        eventually("daemons", || processes_with(&mark), |left| *left == 0).await;
        let alive = || Path::new(&format!("/proc/{spawner}")).exists();
        eventually("spawner", alive, |alive| !alive).await;

        let runtime = Runtime::start(config(state.path())).await.unwrap();
        assert_eq!(groups_of(server.id()), Vec::<String>::new());
        runtime.shutdown().await.unwrap();
        let left: Vec<_> = std::fs::read_dir(state.path().join("instances")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let trash: Vec<_> = std::fs::read_dir(state.path().join("trash")).unwrap().collect();
        assert_eq!(trash.len(), 0, "{trash:?}");
    }
}

#[tokio::test]
async fn killing_the_spawner_ends_every_container_and_says_so() {
    let bench = Bench::new().await;
    let mark = marker();
    let container = bench.container().await;
    let process = start(&container, &format!("setsid sleep {mark} & echo ready; wait")).await;
    kill(spawner_of(std::process::id()));
    assert_eq!(container.ended().await, Ended::RuntimeGone);
    assert_eq!(processes_with(&mark), 0);
    assert!(process.wait().await.unwrap_err().is_gone());
    assert!(!bench.runtime.is_running());
    assert!(bench.runtime.create(spec("late")).await.unwrap_err().is_gone());
    bench.finish().await;
}

#[tokio::test]
async fn killing_an_init_is_a_failure_of_the_machine_not_of_the_program() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mark = marker();
    let process = start(&container, &format!("sleep {mark} & echo ready; wait")).await;
    let spawner = spawner_of(std::process::id());
    let inits =
        std::fs::read_to_string(format!("/proc/{spawner}/task/{spawner}/children")).unwrap();
    kill(inits.trim().parse().unwrap());
    let ended = container.ended().await;
    assert_eq!(ended, Ended::Failed("its init was killed by signal 9".to_owned()));
    // Whatever it was, it was no exit of the program.
    assert!(process.wait().await.unwrap_err().is_gone());
    assert_eq!(process.poll(), None);
    assert_eq!(processes_with(&mark), 0);
    // The name and the ids are free again.
    assert_eq!(run(&bench.container().await, &["echo", "next"]).await.ok(), "next");
    bench.finish().await;
}

#[tokio::test]
async fn two_servers_over_one_state_directory_do_not_touch_each_other() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let second = Runtime::start(config(bench.state.path())).await.unwrap();
    let other = second.create(spec("box")).await.unwrap();
    assert_eq!(run(&container, &["echo", "first"]).await.ok(), "first");
    assert_eq!(run(&other, &["echo", "second"]).await.ok(), "second");
    second.shutdown().await.unwrap();
    assert_eq!(run(&container, &["echo", "still"]).await.ok(), "still");
    bench.finish().await;
}

#[tokio::test]
async fn a_dropped_runtime_leaves_no_process_and_no_group() {
    let state = tempfile::tempdir().unwrap();
    let mark = marker();
    let runtime = Runtime::start(config(state.path())).await.unwrap();
    let container = runtime.create(spec("box")).await.unwrap();
    start(&container, &format!("sleep {mark} & echo ready; wait")).await;
    drop(runtime);
    eventually("processes", || processes_with(&mark), |left| *left == 0).await;
    let groups = || groups_of(std::process::id());
    eventually("groups", groups, |left| left.is_empty()).await;
    assert!(container.exec(crate::support::command(&["true"])).await.is_err());
}
