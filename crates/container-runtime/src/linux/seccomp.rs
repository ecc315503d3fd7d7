//! The system calls a program in a container may not make, as a BPF program.
//!
//! A deny-list behind a user namespace: what reaches kernel subsystems a task never needs is refused, all else is
//! allowed. The program is a binary tree over the call's number, so a call costs about seven comparisons.
//!
//! `clone3` answers `ENOSYS`, not `EPERM`: its flags lie behind a pointer that BPF cannot follow, and libc falls back
//! to `clone` only on `ENOSYS`.

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long,
    sock_filter,
};

const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// Low half of argument `n` on a little-endian machine.
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

#[cfg(target_arch = "x86_64")]
const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const THIS_ARCHITECTURE: u32 = 0xc000_00b7;
/// Numbers from here on are x32's on x86-64, and nobody's elsewhere.
const FIRST_X32: u32 = 0x4000_0000;

/// Every `CLONE_NEW*` that `clone` takes.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// What happens to a call.
#[derive(Clone, Copy)]
enum Rule {
    /// It fails with this error.
    Fail(i32),
    /// It fails with `EPERM` if this argument has one of these bits.
    FailOnBits(u32, u32),
    /// It fails with `EPERM` if this argument is one of these.
    FailOn(u32, &'static [u32]),
    /// It fails with the error unless this argument is one of these.
    FailUnless(u32, &'static [u32], i32),
    /// Sockets: local, IPv4, IPv6 and route netlink.
    Socket,
}

/// Calls refused with `EPERM` whatever their arguments.
const REFUSED: &[c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_acct,
    libc::SYS_fanotify_init,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_move_pages,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// `open_tree_attr`, newer than libc's list; calls of this age have one number everywhere.
const OPEN_TREE_ATTR: c_long = 467;

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib, libc::SYS_ustat, libc::SYS_sysfs];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Linux, Linux with 32-bit addresses or no randomisation, and the question what is set.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Typing into another's terminal.
const TERMINAL_TRICKS: &[u32] = &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// The filter, ready for the kernel.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut rules: Vec<(u32, Rule)> = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|number| (*number as u32, Rule::Fail(libc::EPERM)))
        .chain([
            (libc::SYS_clone3 as u32, Rule::Fail(libc::ENOSYS)),
            (libc::SYS_clone as u32, Rule::FailOnBits(0, NEW_NAMESPACES)),
            (libc::SYS_personality as u32, Rule::FailUnless(0, PERSONALITIES, libc::EPERM)),
            (libc::SYS_ioctl as u32, Rule::FailOn(1, TERMINAL_TRICKS)),
            (libc::SYS_socket as u32, Rule::Socket),
            (
                libc::SYS_socketpair as u32,
                Rule::FailUnless(0, &[libc::AF_UNIX as u32], libc::EAFNOSUPPORT),
            ),
        ])
        .collect();
    rules.sort_by_key(|(number, _)| *number);
    let mut program = vec![
        load(ARCHITECTURE),
        jump(BPF_JEQ, THIS_ARCHITECTURE, 1, 0),
        ret(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(BPF_JGE, FIRST_X32, 0, 1),
        fail(libc::ENOSYS),
    ];
    program.extend(tree(&rules));
    program
}

/// A binary search for the call's number, ending in verdicts.
fn tree(rules: &[(u32, Rule)]) -> Vec<sock_filter> {
    if rules.len() <= 2 {
        let mut code = Vec::new();
        for (number, rule) in rules {
            let verdict = verdict(*rule);
            code.push(jump(BPF_JEQ, *number, 0, verdict.len() as u8));
            code.extend(verdict);
        }
        code.push(allow());
        return code;
    }
    let (low, high) = rules.split_at(rules.len() / 2);
    let low_code = tree(low);
    // From the first of the upper half on: jump over the lower half, by a jump without the 255 limit.
    let mut code = vec![
        jump(BPF_JGE, high[0].0, 0, 1),
        sock_filter { code: (BPF_JMP | BPF_JA) as u16, jt: 0, jf: 0, k: low_code.len() as u32 },
    ];
    code.extend(low_code);
    code.extend(tree(high));
    code
}

/// What to do with a call whose number matched; every path ends in a return.
fn verdict(rule: Rule) -> Vec<sock_filter> {
    match rule {
        Rule::Fail(errno) => vec![fail(errno)],
        Rule::FailOnBits(n, bits) => {
            vec![load(argument(n)), jump(BPF_JSET, bits, 0, 1), fail(libc::EPERM), allow()]
        }
        Rule::FailOn(n, values) => one_of(n, values, fail(libc::EPERM), allow()),
        Rule::FailUnless(n, values, errno) => one_of(n, values, allow(), fail(errno)),
        Rule::Socket => {
            let plain = [libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32];
            let mut code = vec![load(argument(0))];
            for family in plain {
                code.extend([jump(BPF_JEQ, family, 0, 1), allow()]);
            }
            code.extend([
                jump(BPF_JEQ, libc::AF_NETLINK as u32, 0, 3),
                load(argument(2)),
                jump(BPF_JEQ, libc::NETLINK_ROUTE as u32, 0, 1),
                allow(),
                fail(libc::EAFNOSUPPORT),
            ]);
            code
        }
    }
}

fn one_of(n: u32, values: &[u32], then: sock_filter, otherwise: sock_filter) -> Vec<sock_filter> {
    let mut code = vec![load(argument(n))];
    for value in values {
        code.extend([jump(BPF_JEQ, *value, 0, 1), then]);
    }
    code.push(otherwise);
    code
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | condition | BPF_K) as u16, jt, jf, k }
}

fn ret(value: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: value }
}

fn fail(errno: i32) -> sock_filter {
    ret(libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn allow() -> sock_filter {
    ret(libc::SECCOMP_RET_ALLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(number: c_long, arguments: [u32; 3], architecture: u32) -> u32 {
        let program = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match u32::from(step.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    accumulator = match step.k {
                        NUMBER => number as u32,
                        ARCHITECTURE => architecture,
                        offset => arguments[(offset as usize - 16) / 8],
                    }
                }
                code if code == BPF_JMP | BPF_JA => at += step.k as usize,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += jump(accumulator == step.k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += jump(accumulator >= step.k),
                code if code == BPF_JMP | BPF_JSET | BPF_K => at += jump(accumulator & step.k != 0),
                code if code == BPF_RET | BPF_K => return step.k,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn call(number: c_long, arguments: [u32; 3]) -> u32 {
        run(number, arguments, THIS_ARCHITECTURE)
    }

    fn errno(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    #[test]
    fn refused_calls_fail_and_all_others_pass() {
        let refused: Vec<c_long> = REFUSED.iter().chain(REFUSED_HERE).copied().collect();
        let special = [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_personality,
            libc::SYS_ioctl,
            libc::SYS_socket,
            libc::SYS_socketpair,
        ];
        for number in 0..600 {
            if special.contains(&number) {
                continue;
            }
            let expected = if refused.contains(&number) {
                errno(libc::EPERM)
            } else {
                libc::SECCOMP_RET_ALLOW
            };
            assert_eq!(call(number, [0; 3]), expected, "call {number}");
        }
    }

    #[test]
    fn namespaces_are_refused_and_threads_are_not() {
        assert_eq!(call(libc::SYS_clone3, [0; 3]), errno(libc::ENOSYS));
        let user = libc::CLONE_NEWUSER as u32;
        assert_eq!(call(libc::SYS_clone, [user | 17, 0, 0]), errno(libc::EPERM));
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u32;
        assert_eq!(call(libc::SYS_clone, [thread, 0, 0]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn only_common_sockets_can_be_made() {
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            assert_eq!(call(libc::SYS_socket, [family as u32, 1, 0]), libc::SECCOMP_RET_ALLOW);
        }
        let refused = errno(libc::EAFNOSUPPORT);
        for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET, libc::AF_XDP] {
            assert_eq!(call(libc::SYS_socket, [family as u32, 1, 0]), refused);
        }
        let netlink = libc::AF_NETLINK as u32;
        assert_eq!(call(libc::SYS_socket, [netlink, 3, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_socket, [netlink, 3, 9]), refused);
        assert_eq!(call(libc::SYS_socketpair, [netlink, 3, 0]), refused);
    }

    #[test]
    fn terminals_personalities_and_foreign_entries_are_guarded() {
        let sti = libc::TIOCSTI as u32;
        assert_eq!(call(libc::SYS_ioctl, [0, sti, 0]), errno(libc::EPERM));
        let window = libc::TIOCGWINSZ as u32;
        assert_eq!(call(libc::SYS_ioctl, [0, window, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_personality, [0x40_0000, 0, 0]), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_personality, [8, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(0, [0; 3], 0x4000_0003), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(call(0x4000_0000 + 1, [0; 3]), errno(libc::ENOSYS));
    }
}
