//! Containers and programs from their start to their end.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use crate::support::{
    Bench, command, eventually, feed, finish, marker, processes_with, run, sh, spec, start,
};
use container_runtime::{
    Ended, Error, ExecSpec, Exit, GeneratedFile, LimitsBackend, Mode, Mount, NetworkSpec, PtySize,
    Stdio,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn exit_codes_signals_and_streams_come_out_as_they_are() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let ran = sh(&container, "echo out; echo err >&2; exit 7").await;
    assert_eq!((ran.status.how, ran.stdout.as_str()), (Exit::Code(7), "out\n"));
    assert_eq!(ran.stderr, "err\n");
    let ran = sh(&container, "kill -TERM $$").await;
    assert_eq!(ran.status.how, Exit::Signal(15));
    assert_eq!(ran.status.shell_code(), 143);
    assert_eq!(run(&container, &["hostname"]).await.ok(), "box");
    bench.finish().await;
}

#[tokio::test]
async fn input_is_a_pipe_whose_end_the_program_sees() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mut spec = command(&["cat"]);
    spec.stdin = Stdio::Pipe;
    let mut process = container.exec(spec).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    let body = vec![b'x'; 1 << 20];
    let writing = tokio::spawn(async move { stdin.write_all(&body).await });
    let ran = finish(process).await;
    writing.await.unwrap().unwrap();
    assert_eq!(ran.ok().len(), 1 << 20);
    // Without a pipe there is nothing to read.
    assert_eq!(run(&container, &["cat"]).await.ok(), "");
    bench.finish().await;
}

#[tokio::test]
async fn programs_see_exactly_their_environment_directory_and_user() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let ran = finish(
        container.exec(ExecSpec::new(["/usr/bin/env"]).env("ONLY", "this one")).await.unwrap(),
    );
    assert_eq!(ran.await.stdout, "ONLY=this one\n");
    if bench.runtime.capabilities().mode != Mode::Full {
        // Only root exists inside.
        return bench.finish().await;
    }
    let mut spec = command(&["sh", "-c", "pwd; id -u; id -g; id -G; touch /tmp/mine; umask"]);
    spec.cwd = "/var/tmp".into();
    (spec.uid, spec.gid) = (33, 34);
    let ran = finish(container.exec(spec).await.unwrap()).await;
    assert_eq!(ran.ok(), "/var/tmp\n33\n34\n34\n0022");
    assert_eq!(run(&container, &["stat", "-c", "%u:%g", "/tmp/mine"]).await.ok(), "33:34");
    bench.finish().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    for missing in ["no-such-program", "/no/such/program"] {
        let error = container.exec(command(&[missing])).await.unwrap_err();
        assert!(error.is_program_not_found(), "{error:?}");
        assert_eq!(error.to_string(), format!("program `{missing}` not found in container `box`"));
    }
    let error = container.exec(command(&["/etc/passwd"])).await.unwrap_err();
    assert!(matches!(error, Error::ProgramNotExecutable { .. }), "{error:?}");
    sh(&container, "printf '#!/no/interpreter\\n' > /tmp/s; chmod +x /tmp/s").await.ok();
    let error = container.exec(command(&["/tmp/s"])).await.unwrap_err();
    assert!(matches!(error, Error::ProgramNotExecutable { .. }), "{error:?}");
    let mut spec = command(&["true"]);
    spec.cwd = "/no/such/directory".into();
    let error = container.exec(spec).await.unwrap_err();
    assert!(matches!(error, Error::Workdir { .. }), "{error:?}");
    let error = container.exec(command(&["true", &"x".repeat(3 << 20)])).await.unwrap_err();
    assert!(matches!(error, Error::Exec { .. }), "{error:?}");
    // A script without a first line is the shell's.
    sh(&container, "printf 'echo by sh $1' > /tmp/plain; chmod +x /tmp/plain").await.ok();
    assert_eq!(run(&container, &["/tmp/plain", "it"]).await.ok(), "by sh it");
    bench.finish().await;
}

#[tokio::test]
async fn large_arguments_and_environments_arrive_whole() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let big = "y".repeat(100_000);
    let mut spec = command(&["sh", "-c", "echo ${#BIG} ${#1}", "sh", &big]).env("BIG", &big);
    for number in 0..8 {
        spec = spec.env(format!("MORE{number}"), &big);
    }
    assert_eq!(finish(container.exec(spec).await.unwrap()).await.ok(), "100000 100000");
    bench.finish().await;
}

#[tokio::test]
async fn builtin_programs_run_inside_without_a_file() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mut spec = ExecSpec::new(["/.container-spawner/hello", "5"]).env("A", "1");
    spec.cwd = "/usr".into();
    let ran = finish(container.exec(spec).await.unwrap()).await;
    assert_eq!((ran.status.how, ran.stdout.as_str()), (Exit::Code(5), "hello from /usr with A\n"));
    bench.finish().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_an_end() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mut spec = command(&["sh", "-c", "stty size; read line; echo got $line; stty size; tty"]);
    spec.pty = Some(PtySize { rows: 30, cols: 100 });
    let mut process = container.exec(spec).await.unwrap();
    let (mut input, mut output) = (process.take_stdin().unwrap(), process.take_stdout().unwrap());
    let mut seen = Vec::new();
    while !seen.ends_with(b"30 100\r\n") {
        assert_ne!(output.read_buf(&mut seen).await.unwrap(), 0);
    }
    process.resize(PtySize { rows: 40, cols: 50 }).unwrap();
    input.write_all(b"hello\n").await.unwrap();
    output.read_to_end(&mut seen).await.unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert_eq!(seen, "30 100\r\ngot hello\r\n40 50\r\n/dev/pts/0\r\n");
    assert_eq!(process.wait().await.unwrap().how, Exit::Code(0));
    bench.finish().await;
}

#[tokio::test]
async fn killing_a_program_reaches_what_it_started_and_nothing_else() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let (mine, other) = (marker(), marker());
    let script =
        format!("setsid sh -c 'trap \"\" TERM; sleep {mine} & sleep {mine}' & echo ready; wait");
    let process = start(&container, &script).await;
    let bystander = start(&container, &format!("sleep {other} & echo ready; wait")).await;
    eventually("sleepers", || processes_with(&format!("sleep\0{mine}")), |count| *count == 2).await;
    process.kill(9).await.unwrap();
    assert_eq!(process.wait().await.unwrap().how, Exit::Signal(9));
    eventually("killed", || processes_with(&mine), |count| *count == 0).await;
    assert!(processes_with(&other) > 0);
    bystander.kill(15).await.unwrap();
    assert_eq!(bystander.wait().await.unwrap().how, Exit::Signal(15));
    bench.finish().await;
}

#[tokio::test]
async fn a_daemon_outlives_its_program_and_can_still_be_killed() {
    let bench = Bench::new().await;
    if !bench.runtime.capabilities().exec_groups {
        return bench.finish().await;
    }
    let container = bench.container().await;
    let mark = marker();
    let script = format!("setsid sleep {mark} >/dev/null 2>&1 & echo ready");
    let process = start(&container, &script).await;
    assert_eq!(process.wait().await.unwrap().how, Exit::Code(0));
    assert!(processes_with(&mark) > 0);
    process.kill(9).await.unwrap();
    eventually("killed", || processes_with(&mark), |count| *count == 0).await;
    assert!(process.kill(15).await.is_err(), "there is nobody to signal");
    bench.finish().await;
}

#[tokio::test]
async fn terminating_leaves_nothing_of_zombies_daemons_and_stopped_processes() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mark = marker();
    let script = format!(
        "for i in 1 2 3 4 5; do setsid sh -c 'trap \"\" TERM HUP; sleep {mark}' & done; \
         sleep {mark} & kill -STOP $!; \
         for i in $(seq 200); do (sh -c 'exit 0' &) ; done; echo ready; wait"
    );
    let process = start(&container, &script).await;
    eventually("orphans are reaped", || container.usage().pids, |pids| pids.is_none_or(|n| n < 40))
        .await;
    container.terminate().await.unwrap();
    assert_eq!(processes_with(&mark), 0, "when terminate returns, all are gone");
    assert_eq!(process.wait().await.unwrap().how, Exit::Signal(9));
    assert_eq!(container.ended().await, Ended::Terminated);
    assert!(container.exec(command(&["true"])).await.unwrap_err().is_gone());
    container.terminate().await.unwrap();
    bench.finish().await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_container() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mark = marker();
    let process = start(&container, &format!("sleep {mark} & echo ready; wait")).await;
    let clone = container.clone();
    drop(container);
    assert_eq!(sh(&clone, "echo alive").await.ok(), "alive");
    drop(clone);
    assert_eq!(process.wait().await.unwrap().how, Exit::Signal(9));
    eventually("killed", || processes_with(&mark), |count| *count == 0).await;
    bench.finish().await;
}

#[tokio::test]
async fn names_are_taken_until_their_container_is_gone() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let error = bench.runtime.create(spec("box")).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { .. }), "{error:?}");
    container.terminate().await.unwrap();
    assert_eq!(sh(&bench.container().await, "echo again").await.ok(), "again");
    bench.finish().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_made_says_at_which_step() {
    let bench = Bench::new().await;
    let mut broken = spec("broken");
    broken.root.layers.push("/no/such/layer".into());
    let error = bench.runtime.create(broken).await.unwrap_err();
    let Error::Setup { stage, .. } = &error else { panic!("{error:?}") };
    assert_eq!(stage, "show layer `/no/such/layer`");
    let error = bench.runtime.create({
        let mut broken = spec("broken");
        broken.mounts.push(Mount::new("/no/such", "/x"));
        broken
    });
    assert!(matches!(error.await.unwrap_err(), Error::Setup { .. }));
    bench.finish().await;
}

#[tokio::test]
async fn mounts_show_root_owned_files_as_roots_and_respect_read_only() {
    let bench = Bench::new().await;
    let shared = tempfile::tempdir().unwrap();
    std::fs::write(shared.path().join("old"), "from outside").unwrap();
    let tool = shared.path().join("tool");
    std::fs::write(&tool, "just a file").unwrap();
    let mut spec = spec("box");
    let mount = |source: &std::path::Path, target: &str, read_only| Mount {
        read_only,
        ..Mount::new(source, target)
    };
    spec.mounts = vec![
        mount(shared.path(), "/deep/in/rw", false),
        mount(shared.path(), "/ro", true),
        mount(&tool, "/opt/tool", true),
    ];
    let container = bench.runtime.create(spec).await.unwrap();
    assert_eq!(sh(&container, "stat -c %u /ro/old; cat /opt/tool").await.ok(), "0\njust a file");
    assert_eq!(sh(&container, "echo hi > /deep/in/rw/new; cat /ro/new").await.ok(), "hi");
    assert!(sh(&container, "echo x > /ro/new").await.stderr.contains("Read-only"));
    assert!(sh(&container, "echo x > /opt/tool").await.stderr.contains("Read-only"));
    let owner = |path: &std::path::Path| path.metadata().unwrap().uid();
    assert_eq!(owner(&shared.path().join("new")), owner(&tool), "on disk it is the server's");
    bench.finish().await;
}

#[tokio::test]
async fn a_sub_path_swapped_for_a_link_is_not_followed() {
    let bench = Bench::new().await;
    let (shared, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(shared.path().join("a/b")).unwrap();
    std::fs::write(shared.path().join("a/b/mine"), "mine").unwrap();
    std::fs::create_dir(outside.path().join("b")).unwrap();
    let create = async |sub_path: &str| {
        let mut spec = spec("box");
        let sub_path = sub_path.into();
        spec.mounts = vec![Mount { sub_path, ..Mount::new(shared.path(), "/m") }];
        bench.runtime.create(spec).await
    };
    let container = create("a/b").await.unwrap();
    assert_eq!(sh(&container, "cat /m/mine; echo x > /m/new").await.ok(), "mine");
    assert!(shared.path().join("a/b/new").exists());
    container.terminate().await.unwrap();
    let link = shared.path().join("last");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    std::os::unix::fs::symlink("a", shared.path().join("inner")).unwrap();
    for swapped in ["last", "last/b", "inner/b"] {
        let error = create(swapped).await.unwrap_err();
        let Error::Setup { stage, .. } = &error else { panic!("{swapped}: {error:?}") };
        assert_eq!(*stage, format!("show `{}`", shared.path().join(swapped).display()));
    }
    assert_eq!(outside.path().read_dir().unwrap().count(), 1);
    bench.finish().await;
}

#[tokio::test]
async fn generated_files_replace_what_the_layers_have() {
    let bench = Bench::new().await;
    let mut spec = spec("box");
    let file = |path: &str, contents: &str, mode| GeneratedFile {
        path: path.into(),
        contents: contents.into(),
        mode,
    };
    spec.files = vec![file("/etc/hosts", "1.2.3.4 there\n", 0o644), file("/a/b/c", "x", 0o600)];
    let container = bench.runtime.create(spec).await.unwrap();
    assert_eq!(
        sh(&container, "cat /etc/hosts; stat -c %a:%u /a/b/c").await.ok(),
        "1.2.3.4 there\n600:0"
    );
    bench.finish().await;
}

#[tokio::test]
async fn sockets_made_inside_listen_inside() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let socket = container.tcp_socket(false).await.unwrap();
    let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(5).unwrap();
    let script = "exec 3<>/dev/tcp/127.0.0.1/80; echo ping >&3; cat <&3";
    let client = container.exec(command(&["bash", "-c", script])).await.unwrap();
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut ping = [0; 5];
    connection.read_exact(&mut ping).await.unwrap();
    connection.write_all(b"pong").await.unwrap();
    drop(connection);
    assert_eq!(finish(client).await.ok(), "pong");
    bench.finish().await;
}

#[tokio::test]
async fn a_tun_device_carries_packets_out() {
    let bench = Bench::new().await;
    let mut spec = spec("box");
    spec.network = NetworkSpec::Tun;
    if !bench.runtime.capabilities().tun {
        let error = bench.runtime.create(spec).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
        return bench.finish().await;
    }
    let container = bench.runtime.create(spec).await.unwrap();
    let tun = container.take_tun().unwrap();
    assert!(container.take_tun().is_none());
    let process =
        start(&container, "echo ready; exec bash -c 'echo x > /dev/udp/192.0.2.1/53'").await;
    process.wait().await.unwrap();
    let tun = std::fs::File::from(tun);
    let mut packet = [0; 2000];
    // IPv6 may announce itself first; the packet is there, since its sender has ended.
    let packet = loop {
        let length = std::io::Read::read(&mut &tun, &mut packet).unwrap();
        if packet[0] >> 4 == 4 && packet[16..20] == [192, 0, 2, 1] {
            break &packet[..length];
        }
    };
    assert_eq!(packet[12..16], [10, 0, 2, 100], "its source is the container's address");
    bench.finish().await;
}

#[tokio::test]
async fn two_hundred_creations_at_once_are_queued_and_none_is_lost() {
    let bench = Bench::new().await;
    let started = std::time::Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..200 {
        let runtime = bench.runtime.clone();
        all.spawn(async move {
            let container = runtime.create(spec(&format!("c{number}"))).await.unwrap();
            let ran = run(&container, &["true"]).await;
            container.terminate().await.unwrap();
            ran.status.how
        });
    }
    let ended = all.join_all().await;
    println!("200 life cycles in {:?}", started.elapsed());
    assert_eq!(ended, vec![Exit::Code(0); 200]);
    bench.finish().await;
}

#[tokio::test]
async fn a_given_up_creation_leaves_nothing() {
    let bench = Bench::new().await;
    for number in 0..20 {
        let creating = bench.runtime.create(spec(&format!("c{number}")));
        let patience = std::time::Duration::from_micros(300 * number);
        // Whether it was made in time does not matter here.
        let _maybe = tokio::time::timeout(patience, creating).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn the_capabilities_line_says_what_is_in_force() {
    let bench = Bench::new().await;
    let line = bench.runtime.capabilities().to_string();
    assert!(line.contains("isolation"), "{line}");
    let container = bench.container().await;
    let shown = container.limits_line();
    match bench.runtime.capabilities().limits {
        LimitsBackend::Rlimits => assert!(shown.contains("by itself"), "{shown}"),
        _ => assert!(shown.contains("4096 processes (cgroup"), "{shown}"),
    }
    bench.finish().await;
}

#[tokio::test]
async fn feeding_and_closing_input_ends_a_reader() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mut spec = command(&["wc", "-c"]);
    spec.stdin = Stdio::Pipe;
    let mut process = container.exec(spec).await.unwrap();
    feed(&mut process, b"12345").await;
    assert_eq!(finish(process).await.ok(), "5");
    bench.finish().await;
}
