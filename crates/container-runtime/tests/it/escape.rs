//! What a program in a container tries in order to get out, to see more, or to harm the machine.
//!
//! Every attempt is a script that exits with 0 if it got what it wanted. The comments group them by what they are after.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::support::{Bench, command, finish, marker, run, sh, spec, start};
use container_runtime::{Container, Exit, Mode, Mount, PtySize};

/// Runs all attempts and reports every one that succeeded, by what it did.
async fn assert_all_held(container: &Container, attempts: &[(&str, String)]) {
    let mut escaped = Vec::new();
    for (what, script) in attempts {
        let ran = sh(container, script).await;
        if ran.status.how == Exit::Code(0) {
            escaped.push(format!("{what}: `{script}` printed {:?} {:?}", ran.stdout, ran.stderr));
        }
    }
    assert!(escaped.is_empty(), "{} attempts succeeded:\n{}", escaped.len(), escaped.join("\n"));
}

fn attempts<const N: usize>(list: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    list.into_iter().map(|(what, script)| (what, script.to_owned())).collect()
}

/// A script that succeeds if this system call does anything but fail with `EPERM` (or one of `others`).
#[cfg(target_arch = "x86_64")]
fn call(number: u32, arguments: &str, others: &[i32]) -> String {
    let mut expected = vec!["1".to_owned()];
    expected.extend(others.iter().map(ToString::to_string));
    let expected = expected.join("|");
    format!(
        "perl -e 'my $r = syscall({number}, {arguments}); my $e = $!+0; \
         print \"$r $e\"; exit($r == -1 && $e =~ /^({expected})$/ ? 1 : 0)'"
    )
}

#[tokio::test]
async fn secrets_of_the_machine_stay_out_of_sight() {
    let bench = Bench::new().await;
    let mark = marker();
    let places = ["/tmp", "/var/tmp", "/dev/shm"];
    let plant = |place: &&str| {
        let file = tempfile::Builder::new().prefix(&format!("planted-{mark}-")).tempfile_in(place);
        file.unwrap()
    };
    let files: Vec<tempfile::NamedTempFile> = places.iter().map(plant).collect();
    let planted: Vec<String> = files.iter().map(|file| file.path().display().to_string()).collect();
    let container = bench.container().await;
    let state = bench.state.path().display();
    let mut list = attempts([
        ("read /proc/1/root", "ls /proc/1/root/"),
        ("enter /proc/1/cwd", "ls /proc/1/cwd/"),
        ("list init's descriptors", "ls /proc/1/fd/ | grep ."),
        ("read init's environment", "cat /proc/1/environ | grep ."),
        ("read init's memory map", "cat /proc/1/maps | grep ."),
        ("see the machine's processes", "test $(ls -d /proc/[0-9]* | wc -l) -gt 12"),
        (
            "inherit a descriptor",
            "perl -e 'opendir D, \"/proc/self/fd\"; exit((grep {/^\\d+$/ && $_ > 3} readdir D) ? 0 : 1)'",
        ),
        ("read password hashes", "grep -q '\\$' /etc/shadow"),
        ("find ssh keys", "ls /root/.ssh /etc/ssh/ssh_host_* /home/*/.ssh"),
        (
            "find the container engine's socket",
            "ls /run/docker.sock /var/run/docker.sock /run/containerd",
        ),
        ("read kernel keys", "grep . /proc/keys"),
        ("read the kernel's memory", "head -c 1 /proc/kcore | grep ."),
        ("read timers", "grep . /proc/timer_list"),
        ("see sysfs", "ls -A /sys | grep ."),
        ("read the kernel's log", "dmesg | grep ."),
        ("read another's command lines", "cat /proc/[0-9]*/cmdline | grep -a [c]argo"),
    ]);
    list.push(("see the state directory", format!("grep -q {state} /proc/self/mountinfo")));
    list.push(("find planted files", format!("ls -d {} 2>/dev/null | grep .", planted.join(" "))));
    let breakout = format!(
        "mkdir -p /tmp/jail; perl -e 'opendir D, \"/\"; chroot \"/tmp/jail\"; chdir D; \
         chdir \"..\" for 1..64; chroot \".\"; exit(-e \"{}\" ? 0 : 1)'",
        planted[0]
    );
    list.push(("break out of a chroot", breakout));
    assert_all_held(&container, &list).await;
    bench.finish().await;
}

#[tokio::test]
async fn init_and_the_machines_processes_are_out_of_reach() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mut list = attempts([
        ("write init's memory", "dd if=/dev/zero of=/proc/1/mem bs=1 count=1"),
        ("read init's memory", "dd if=/proc/1/mem bs=1 count=1 | grep ."),
        ("overwrite the runtime's binary", "true > /proc/1/exe"),
        ("copy the runtime's binary", "cat /proc/1/exe > /tmp/exe"),
        ("score itself unkillable", "echo -1000 > /proc/self/oom_score_adj"),
        ("score init", "echo 1000 > /proc/1/oom_score_adj"),
        (
            "raise its priority",
            "perl -e '$was = getpriority(0, 0); setpriority(0, 0, $was - 5); exit(getpriority(0, 0) < $was ? 0 : 1)'",
        ),
        ("run in real time", "chrt -f 1 true"),
        ("raise a hard limit", "bash -c 'ulimit -Hn 1000000'"),
    ]);
    list.push(("signal the test", format!("kill -0 {}", std::process::id())));
    #[cfg(target_arch = "x86_64")]
    list.extend([
        ("attach to init", call(101, "16, 1, 0, 0", &[])),
        ("seize init", call(101, "0x4206, 1, 0, 0", &[])),
        ("read across processes", call(310, "1, 0, 0, 0, 0, 0", &[])),
        ("take a descriptor of init", call(438, "0, 0, 0", &[])),
    ]);
    if bench.runtime.capabilities().mode == Mode::Full {
        list.push(("signal init", "kill -0 1".to_owned()));
        // For an ordinary user's container this is possible and harms that container alone.
        list.push(("write limits of init", "prlimit --pid 1 --nofile=5".to_owned()));
    }
    assert_all_held(&container, &list).await;
    // As the caller's own user init may be signalled, but as pid 1 it ignores what it does not ask for.
    sh(&container, "kill -KILL 1; kill -STOP 1; kill -TERM 1; true").await.ok();
    assert_eq!(sh(&container, "echo alive").await.ok(), "alive");
    let everyone = sh(&container, "kill -KILL -1").await;
    assert!(matches!(everyone.status.how, Exit::Signal(9) | Exit::Code(_)), "{everyone:?}");
    assert_eq!(sh(&container, "echo alive").await.ok(), "alive");
    bench.finish().await;
}

#[tokio::test]
async fn mounts_and_namespaces_cannot_be_changed() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let mut list = attempts([
        ("mount a tmpfs", "mkdir -p /tmp/m; mount -t tmpfs none /tmp/m"),
        ("bind", "mount --bind / /tmp"),
        ("lift a mask", "umount /proc/sys"),
        ("lift a mask lazily", "umount -l /proc/keys"),
        ("make a mask writable", "mount -o remount,rw /proc/sys"),
        ("mount a new proc", "mount -t proc none /tmp"),
        ("mount sysfs", "mount -t sysfs none /tmp"),
        ("mount cgroups", "mount -t cgroup -o memory none /tmp"),
        ("mount cgroup2", "mount -t cgroup2 none /tmp"),
        ("make a user namespace", "unshare -U true"),
        ("make a mount namespace", "unshare -m true"),
        ("make a network namespace", "unshare -n true"),
        ("enter init's namespaces", "nsenter -t 1 -m -p true"),
        ("set the host name", "hostname evil"),
        ("write the core pattern", "echo '|/bin/true' > /proc/sys/kernel/core_pattern"),
        ("write a sysctl", "echo 1 > /proc/sys/vm/drop_caches"),
        ("reach a control group", "ls /sys/fs/cgroup/* | grep ."),
        ("move a mount away", "mv /proc /tmp/proc"),
        ("remove a mount", "rm -rf /proc/sys/kernel/ns_last_pid"),
    ]);
    #[cfg(target_arch = "x86_64")]
    list.extend([
        ("mount(2)", call(165, "0, 0, 0, 0, 0", &[])),
        ("umount2", call(166, "\"/proc\", 2", &[])),
        ("pivot_root", call(155, "\"/\", \"/\"", &[])),
        ("fsopen", call(430, "\"tmpfs\", 0", &[])),
        ("open_tree", call(428, "-100, \"/\", 1", &[])),
        ("move_mount", call(429, "-100, \"/\", -100, \"/\", 0", &[])),
        ("mount_setattr", call(442, "-100, \"/\", 0, 0, 0", &[])),
        ("clone into a user namespace", call(56, "0x10000011, 0, 0, 0, 0", &[])),
        ("clone3", call(435, "0, 0", &[38])),
        ("unshare everything", call(272, "0x7e020000", &[])),
        ("setns", call(308, "0, 0", &[])),
    ]);
    assert_all_held(&container, &list).await;
    bench.finish().await;
}

#[tokio::test]
async fn no_namespace_is_shared_with_the_machine() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let theirs = run(&container, &["readlink", &format!("/proc/self/ns/{kind}")]).await;
        assert_ne!(theirs.ok(), ours.display().to_string(), "{kind}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn devices_and_the_kernel_are_out_of_reach() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let known = "null|zero|full|random|urandom|tty|pts/ptmx";
    let mut list = attempts([
        ("make a disk in /tmp", "mknod /tmp/disk b 254 0"),
        ("make a disk in /dev", "mknod /dev/disk b 254 0"),
        ("make kernel memory in /dev/shm", "mknod /dev/shm/mem c 1 1"),
        ("make a whiteout", "mknod /tmp/white c 0 0"),
        (
            "reboot by sysrq",
            "test -s /proc/sysrq-trigger -o ! -c /proc/sysrq-trigger && echo h > /proc/sysrq-trigger",
        ),
        ("load a module", "modprobe dummy"),
        ("set the clock", "date -s 2000-01-01"),
    ]);
    let others = format!("find /dev -type c -o -type b | grep -Ev '^/dev/({known})$' | grep .");
    list.push(("find another device", others));
    #[cfg(target_arch = "x86_64")]
    list.extend([
        ("bpf", call(321, "0, 0, 0", &[])),
        ("perf_event_open", call(298, "0, 0, 0, 0, 0", &[])),
        ("userfaultfd", call(323, "0", &[])),
        ("io_uring_setup", call(425, "1, 0", &[])),
        ("init_module", call(175, "0, 0, 0", &[])),
        ("finit_module", call(313, "0, 0, 0", &[])),
        ("kexec_load", call(246, "0, 0, 0, 0", &[])),
        ("reboot", call(169, "0, 0, 0, 0", &[])),
        ("clock_settime", call(227, "0, 0", &[])),
        ("settimeofday", call(164, "0, 0", &[])),
        ("adjtimex", call(159, "0", &[])),
        ("swapon", call(167, "0, 0", &[])),
        ("quotactl", call(179, "0, 0, 0, 0", &[])),
        ("syslog", call(103, "3, 0, 0", &[])),
        ("iopl", call(172, "3", &[])),
        ("ioperm", call(173, "0, 1, 1", &[])),
        ("acct", call(163, "0", &[])),
        ("fanotify_init", call(300, "0, 0", &[])),
        ("open_by_handle_at", call(304, "0, 0, 0", &[])),
        ("name_to_handle_at", call(303, "0, 0, 0, 0, 0", &[])),
        ("keyctl", call(250, "0, -3, 0", &[])),
        ("add_key", call(248, "0, 0, 0, 0, 0", &[])),
        ("kcmp", call(312, "1, 1, 0, 0, 0", &[])),
        ("enter by x32", call(0x4000_0000 + 39, "0", &[38])),
        ("an odd personality", call(135, "0x0400000", &[])),
        (
            "plant an overlay attribute",
            "touch /tmp/f; ".to_owned()
                + &call(188, "\"/tmp/f\", \"trusted.overlay.opaque\", \"y\", 1, 0", &[95]),
        ),
    ]);
    assert_all_held(&container, &list).await;
    bench.finish().await;
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn the_32_bit_entry_is_death() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    // A program of 30 bytes after its header: `int 0x80` for getpid, then a 64-bit exit(0).
    let script = r#"perl -e '
        my $code = "\xb8\x14\x00\x00\x00\xcd\x80\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05";
        my $header = "\x7fELF\x02\x01\x01" . "\0" x 9 . pack("SSLQQQLSSSSSS", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0);
        my $segment = pack("LLQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + length $code, 120 + length $code, 0x1000);
        open F, ">/tmp/p"; binmode F; print F $header . $segment . $code; close F; chmod 0755, "/tmp/p"'"#;
    sh(&container, script).await.ok();
    let ran = run(&container, &["/tmp/p"]).await;
    assert_eq!(ran.status.how, Exit::Signal(31), "{ran:?}");
    bench.finish().await;
}

#[tokio::test]
async fn a_terminal_takes_no_typing_by_programs() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let script = "my $c = \"x\"; exit(ioctl(STDIN, 0x5412, $c) ? 0 : $!+0)";
    let mut spec = command(&["perl", "-e", script]);
    spec.pty = Some(PtySize { rows: 24, cols: 80 });
    assert_eq!(finish(container.exec(spec).await.unwrap()).await.status.how, Exit::Code(1));
    bench.finish().await;
}

#[tokio::test]
async fn set_user_id_programs_gain_nothing() {
    let bench = Bench::new().await;
    if bench.runtime.capabilities().mode != Mode::Full {
        return bench.finish().await;
    }
    let shared = tempfile::tempdir().unwrap();
    let mut spec = spec("box");
    spec.mounts.push(Mount::new(shared.path(), "/shared"));
    let container = bench.runtime.create(spec).await.unwrap();
    let script = "for d in /tmp /shared /dev/shm; do cp /usr/bin/perl $d/p; chmod 4755 $d/p; done; chmod 755 /shared";
    sh(&container, script).await.ok();
    for place in ["/tmp", "/shared", "/dev/shm"] {
        let mut spec = command(&[&format!("{place}/p"), "-e", "print $>"]);
        (spec.uid, spec.gid) = (1234, 1234);
        let ran = finish(container.exec(spec).await.unwrap()).await;
        assert_eq!(ran.stdout, "1234", "{place}: {ran:?}");
    }
    let caps = sh(&container, "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status").await;
    assert_eq!(caps.ok(), "CapBnd:\t00000000800400fb\nNoNewPrivs:\t1\nSeccomp:\t2");
    bench.finish().await;
}

#[tokio::test]
async fn sockets_of_the_machine_and_odd_families_are_closed() {
    let bench = Bench::new().await;
    let container = bench.container().await;
    let server = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mark = marker();
    let address = SocketAddr::from_abstract_name(mark.as_bytes()).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let mut list: Vec<(&str, String)> = vec![
        (
            "connect to the machine's loopback",
            format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"),
        ),
        ("ask for metadata", "timeout 2 bash -c 'exec 3<>/dev/tcp/169.254.169.254/80'".to_owned()),
        (
            "connect to an abstract socket",
            format!(
                "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); \
                 exit(connect(S, pack(\"S a*\", AF_UNIX, \"\\0{mark}\")) ? 0 : 1)'"
            ),
        ),
    ];
    for (what, family, kind, protocol) in [
        ("packets of every protocol", 17, 3, 768),
        ("raw sockets", 2, 3, 1),
        ("the hypervisor", 40, 1, 0),
        ("kernel cryptography", 38, 5, 0),
        ("netfilter", 16, 3, 12),
        ("bluetooth", 31, 3, 1),
        ("xdp", 44, 3, 0),
    ] {
        list.push((
            what,
            format!("perl -e 'exit(socket(S, {family}, {kind}, {protocol}) ? 0 : 1)'"),
        ));
    }
    assert_all_held(&container, &list).await;
    // What is allowed: low ports, ping sockets, local sockets.
    let low = "perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0); \
               bind(S, sockaddr_in(80, INADDR_ANY)) or die $!; socket(P, AF_INET, SOCK_DGRAM, 1) or die $!'";
    sh(&container, low).await.ok();
    bench.finish().await;
}

#[tokio::test]
async fn containers_do_not_see_each_other() {
    let bench = Bench::new().await;
    let one = bench.container().await;
    let two = bench.runtime.create(spec("other")).await.unwrap();
    let mark = marker();
    let listener = format!(
        "echo secret > /tmp/{mark}; perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0); \
         bind(S, sockaddr_in(7777, INADDR_ANY)); listen(S, 5); $|=1; print \"ready\\n\"; sleep 1000' {mark}"
    );
    let _process = start(&one, &listener).await;
    let list = [
        ("connect to its port", "bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777'".to_owned()),
        ("read its files", format!("cat /tmp/{mark}")),
        (
            "see its processes",
            format!(
                "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -x {mark} | sort -u | sed 1d | grep ."
            ),
        ),
    ];
    assert_all_held(&two, &list).await;
    bench.finish().await;
}
