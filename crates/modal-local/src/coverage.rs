//! Which of Modal's RPCs this server answers: the text of `docs/coverage.md`.
//!
//! What is served is what `modal-proto` declares and `unserved.txt` does not name; a test calls each
//! and fails if one is not there.
//! What exists is a list taken from the descriptors of the pinned SDK.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Every RPC of the pinned SDK, one a line, as `package.Service/Method`.
const KNOWN: &str = include_str!("coverage/rpcs.txt");

/// What is declared for clients alone.
const UNSERVED: &str = include_str!("coverage/unserved.txt");

/// Served for older clients; the pinned SDK knows it and never calls it.
const OLDER: &str = "ContainerFilesystemExec";

/// What a reader must know of an RPC beyond that it does what Modal's does.
const REMARKS: &[(&str, &str)] = &[
    (
        "AppClientDisconnect",
        "stops ephemeral and initializing apps; detached ones whose client is done once their inputs have ended",
    ),
    ("AppCreate", "ephemeral, detached and initializing apps"),
    ("AppGetLogs", "output of sandboxes, functions and image builds"),
    ("AppHeartbeat", "an app that lives by heartbeats is stopped 90 seconds after the last"),
    ("AppPublish", "nothing changed is no new version"),
    ("AppRollback", "by version, or by distance from the current one"),
    ("AuthTokenGet", "a JWT for an hour"),
    ("BlobCreate", "in parts of 64 MiB from 1 GiB on; contents go over HTTP to this server"),
    ("ClientHello", "says the image builder version"),
    ("DictUpdate", "at most 10,000 entries of 100 MiB; entries go after a week without use"),
    ("ContainerHeartbeat", "held until there is an input to give up"),
    (
        "ContainerStop",
        "unfinished inputs are begun anew in another container; a sandbox is terminated",
    ),
    ("EnvironmentDelete", "ends what runs in it; `main` cannot be deleted"),
    ("EnvironmentUpdate", "limits are stored and not enforced"),
    ("EnvironmentGetRoles", "the one user may do everything"),
    ("EnvironmentRoleSet", "kept and shown; the one user owns the workspace, whom no role limits"),
    ("WorkspaceBillingReport", "empty: nothing that runs on this machine costs anything"),
    ("WorkspaceBillingSummary", "0, likewise"),
    ("WorkspaceBillingRates", "0, likewise"),
    ("EnvironmentBillingSummary", "0: nothing that runs on this machine costs anything"),
    ("FunctionGetMetrics", "of calls and containers; usage of CPU, memory and network is not kept"),
    ("ServerGetMetrics", "of requests and containers, likewise"),
    (
        "ImageGetOrCreate",
        "real builds, layer by layer; bases are those of this machine, see substitutions",
    ),
    (
        "ImageDelete",
        "nothing new can use it; its layers go with the next `gc` after the last sandbox or deployed function that does",
    ),
    ("ImagePublish", "names of this server; `allow_public` is refused"),
    ("ObjectSuggest", "apps; nothing for functions and servers"),
    (
        "PersistentSandboxCreate",
        "paused, its files are kept for 30 days; after a kill of the server it goes on from its last pause",
    ),
    ("ProxyGet", "there are no proxies: NOT_FOUND"),
    ("QueueGet", "a client that goes away while it waits takes nothing"),
    (
        "QueuePut",
        "RESOURCE_EXHAUSTED beyond 5,000 items or 64 MiB of a partition; items of 1 MiB at most",
    ),
    ("ContainerExec", "commands of Python's SDK before 1.2, which knows no command router"),
    ("ContainerExecGetOutput", "a position is a number of bytes"),
    (
        "ContainerExecPutInput",
        "of such a command; and what is typed at a breakpoint of `modal run -i`",
    ),
    ("FunctionStartPtyShell", "for functions of `modal run -i`"),
    ("FunctionCreate", "a GPU is refused, unless the image is a registered substitute"),
    ("FunctionGet", "of the deployed version; earlier ones can be gone back to"),
    (
        "FunctionMap",
        "recorded before it is answered; attempts after a failure as the client's SDK has it",
    ),
    ("ServerRequestFetch", "the latest 20,000 of each server, since this server started"),
    ("ServerCountRequests", "of the requests that `ServerRequestFetch` knows"),
    ("ServerGetTimeRangeStats", "likewise; nothing of inference engines"),
    ("FunctionUpdateSchedulingParams", "until the next deployment"),
    (
        "MountGetOrCreate",
        "also for the global namespace; Modal's own package comes from PyPI when it is asked for",
    ),
    ("SandboxCreateV2", "real isolation; what cannot be had on this machine is refused by name"),
    ("SecretGetOrCreate", "values in files that only their owner can read, never in the database"),
    ("SharedVolumeGetOrCreate", "kept like a volume, and named among them"),
    ("SharedVolumeGetFile", "up to 128 MiB in one answer"),
    ("TaskList", "containers of functions and of sandboxes"),
    (
        "TaskMountDirectory",
        "an overlay of its own; needs the right to mount, so a server run by root",
    ),
    ("TaskSnapshotDirectory", "an image of one directory, of volumes excepted"),
    ("TunnelStart", "TLS with a certificate of this server, as tunnels of sandboxes"),
    ("ImageBuildChainGet", "steps whose log is still kept"),
    ("FunctionGetTimeRangeStats", "of inputs and containers that are still in the records"),
    (
        "SandboxCreateConnectToken",
        "HTTP and WebSockets through a loopback port; the token is good for a day",
    ),
    (
        "SandboxContainerCreateV2",
        "a sidecar: a container with a network of its own, which the others know by its name",
    ),
    ("TaskContainerCreate", "as `SandboxContainerCreateV2`, for sandboxes of version 1"),
    ("SandboxGetFromName", "answers for sandboxes of both versions"),
    ("SandboxGetExitSnapshot", "for sandboxes made with `enable_exit_snapshot`"),
    ("SandboxSetOutboundPolicy", "routes by address range and name; all else is refused by name"),
    (
        "SandboxSnapshotFs",
        "a copy of what was changed, on top of the sandbox's image; ends in 30 days",
    ),
    ("TaskSnapshotFilesystem", "as `SandboxSnapshotFs`, with the life that the client asks for"),
    (
        "TaskSetNetworkAccess",
        "a sandbox made with a blocked network stays blocked: it has no device to the outside",
    ),
    ("TaskSetOutboundPolicy", "header replacements are refused by name"),
    (
        "TokenFlowCreate",
        "the page asks for a code that lies in the state directory: whoever can read that gets the token",
    ),
    ("TokenInfoGet", "the one token, workspace `local`"),
    ("VolumeGetFile", "up to 128 MiB in one answer"),
    ("VolumeCommit", "checks that the volume exists: writes are seen by everybody at once"),
    ("VolumeReload", "checks that the volume exists, as for a commit"),
    ("VolumeGetOrCreate", "versions 1 and 2; both are a plain directory"),
    (
        "WebhookTokenCreate",
        "a proxy token, for web functions and servers with proxy authentication",
    ),
    ("WorkspaceDashboardUrlGet", "this server's address: there are no pages about objects"),
    ("WorkspaceMembersList", "the one user, `local`"),
    ("WorkspaceNameLookup", "always `local`"),
    ("WorkspaceSettings", "what the server was started with"),
];

/// Every RPC that this server answers, as `package.Service/Method`.
pub fn served() -> BTreeSet<String> {
    let is_served = |rpc: &String| UNSERVED.lines().all(|name| !rpc.ends_with(&format!("/{name}")));
    modal_proto::rpcs().into_iter().filter(is_served).collect()
}

/// Whether this server answers an RPC, as `package.Service/Method`.
pub(crate) fn is_served(rpc: &str) -> bool {
    static SERVED: LazyLock<BTreeSet<String>> = LazyLock::new(served);
    SERVED.contains(rpc)
}

/// The page about what is served, in Markdown.
pub fn render() -> String {
    let served = served();
    let known: Vec<&str> = KNOWN.lines().filter(|line| !line.starts_with('#')).collect();
    let mut page = format!(
        "# What modal-local serves\n\n\
         Written by `modal_local::coverage`; a test compares it with the code.\n\n\
         Of the {} RPCs of the `modal` package 1.6.4, {} are served. Any other answers \
         UNIMPLEMENTED with its name, but those of memory snapshots say why there are none. `{OLDER}` and `{OLDER}GetOutput` are served besides, for `Sandbox.open`, \
         `ls`, `mkdir` and `rm` of clients before 1.6.\n",
        known.len(),
        known.iter().filter(|rpc| served.contains(**rpc)).count(),
    );
    for (service, title) in [
        ("modal.client.ModalClient/", "Control plane: `ModalClient`"),
        ("modal.task_command_router.TaskCommandRouter/", "Command router: `TaskCommandRouter`"),
    ] {
        let names = known.iter().filter_map(|rpc| Some((*rpc, rpc.strip_prefix(service)?)));
        let (here, absent): (Vec<_>, Vec<_>) = names.partition(|(rpc, _)| served.contains(*rpc));
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {title}\n\n| RPC | Remarks |\n|---|---|\n");
        for (_, name) in here {
            let _ = writeln!(page, "| `{name}` | {} |", remark(name));
        }
        let absent = absent.iter().map(|(_, name)| *name);
        let absent = absent.filter(|name| *name != OLDER);
        let _ = write!(page, "\nNot served:\n\n{}", by_object(absent));
    }
    page
}

fn remark(rpc: &str) -> &'static str {
    REMARKS.iter().find(|(name, _)| *name == rpc).map_or("", |(_, remark)| remark)
}

/// A list with a line for each first word of a name.
fn by_object<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        groups.entry(first_word(name)).or_default().push(name);
    }
    groups.iter().map(|(object, names)| format!("- {object}: `{}`\n", names.join("`, `"))).collect()
}

/// `Sandbox` of `SandboxCreateV2`.
fn first_word(name: &str) -> &str {
    let end = name.char_indices().skip(1).find(|(_, letter)| letter.is_ascii_uppercase());
    end.map_or(name, |(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/coverage.md");

    /// `UPDATE_DOCS=1 cargo nextest run -p modal-local coverage` writes the page anew.
    #[test]
    fn the_page_is_fresh() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, render()).unwrap();
        }
        let page = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(page == render(), "docs/coverage.md is old; write it anew with UPDATE_DOCS=1");
    }

    #[test]
    fn what_is_served_exists_and_remarks_are_about_what_is_served() {
        let known: BTreeSet<&str> = KNOWN.lines().collect();
        let served = served();
        for rpc in &served {
            assert!(known.contains(rpc.as_str()), "{rpc}");
        }
        for (name, _) in REMARKS {
            assert!(served.iter().any(|rpc| rpc.ends_with(&format!("/{name}"))), "{name}");
        }
    }
}
