//! Commands: started once, waited for, killed in time.

use std::collections::HashMap;

use modal_proto::client::PtyInfo;
use modal_proto::client::generic_result::GenericStatus;
use modal_proto::task_command_router::task_exec_poll_response::ExitStatus;
use modal_proto::task_command_router::{TaskExecStartRequest, TaskExecStderrConfig};
use tonic::Code;

use crate::harness::{Local, variables};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_its_exit_its_output_and_its_errors() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let (code, stdout, stderr) = sandbox.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (3, "out\n", "err\n"));
    let killed = sandbox.exec(&["sh", "-c", "kill -TERM $$"]).await;
    assert_eq!(killed.wait().await, 128 + 15);
    assert_eq!(killed.poll().await, Some(ExitStatus::Signal(15)));
    assert_eq!(sandbox.poll().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_starts_once() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let request = sandbox.command(&["sh", "-c", "echo started >> /tmp/starts; cat"]);
    let starts = (0..8).map(|_| sandbox.start(request.clone()));
    let execs = futures::future::try_join_all(starts).await.unwrap();
    execs[0].write(0, b"", true).await.unwrap();
    assert_eq!(execs[0].wait().await, 0);
    assert_eq!(sandbox.sh("cat /tmp/starts").await.1, "started\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_inherits_the_sandbox_and_adds_its_own() {
    let local = Local::start().await;
    let mut request = local.request(local.definition(&["sleep", "600"]));
    request.secret_sources = vec![variables(&[("A", "sandbox"), ("B", "sandbox")])];
    let sandbox = local.try_create(request).await.unwrap();
    let command = TaskExecStartRequest {
        workdir: Some("/usr".into()),
        secret_sources: vec![variables(&[("B", "command")])],
        ..sandbox.command(&["sh", "-c", "echo $A $B $PWD"])
    };
    let exec = sandbox.start(command).await.unwrap();
    assert_eq!(exec.text(false).await, "sandbox command /usr\n");
    let env = HashMap::from([("B".to_owned(), "old client".to_owned())]);
    let command = TaskExecStartRequest { env, ..sandbox.command(&["sh", "-c", "echo $A $B"]) };
    let exec = sandbox.start(command).await.unwrap();
    assert_eq!(exec.text(false).await, "sandbox old client\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_refused_with_a_reason() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let refused = async |request| sandbox.start(request).await.err().unwrap();
    let missing = refused(sandbox.command(&["/definitely/not/here"])).await;
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("/definitely/not/here"));
    let workdir = Some("/not/a/dir".to_owned());
    let workdir = refused(TaskExecStartRequest { workdir, ..sandbox.command(&["true"]) }).await;
    assert_eq!(workdir.code(), Code::FailedPrecondition);
    assert!(workdir.message().contains("/not/a/dir"));
    assert_eq!(refused(sandbox.command(&[])).await.code(), Code::InvalidArgument);
    let denied = refused(sandbox.command(&["/etc/passwd"])).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_over_its_time_is_killed_with_all_it_started() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let script = "setsid sleep 500 & sleep 500";
    let command =
        TaskExecStartRequest { timeout_secs: Some(1), ..sandbox.command(&["sh", "-c", script]) };
    let exec = sandbox.start(command).await.unwrap();
    assert_eq!(exec.wait().await, 137);
    assert_eq!(exec.poll().await, Some(ExitStatus::Signal(9)));
    let count = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 500'";
    assert_eq!(sandbox.sh(count).await.1, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_merges_output_and_says_its_kind() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let pty = PtyInfo {
        enabled: true,
        winsz_rows: 30,
        winsz_cols: 100,
        env_term: "xterm-256color".into(),
        ..Default::default()
    };
    let script = "test -t 0 && test -t 1 && echo $TERM; stty size; echo err >&2";
    let command =
        TaskExecStartRequest { pty_info: Some(pty), ..sandbox.command(&["sh", "-c", script]) };
    let exec = sandbox.start(command).await.unwrap();
    assert_eq!(exec.text(false).await, "xterm-256color\r\n30 100\r\nerr\r\n");
    assert_eq!(exec.text(true).await, "");
    assert_eq!(exec.wait().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_can_go_where_the_output_goes() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let command = TaskExecStartRequest {
        stderr_config: TaskExecStderrConfig::Stdout.into(),
        ..sandbox.command(&["sh", "-c", "echo err >&2"])
    };
    let exec = sandbox.start(command).await.unwrap();
    assert_eq!((exec.text(false).await, exec.text(true).await), ("err\n".into(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_sandbox_that_ended_are_killed_and_none_can_be_started() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["sh", "-c", "echo before; sleep 600"]).await;
    assert_eq!(exec.first_output().await, b"before\n");
    sandbox.terminate().await;
    assert_eq!(sandbox.wait().await.status(), GenericStatus::Terminated);
    assert_eq!(exec.wait().await, 137);
    assert_eq!(exec.text(false).await, "before\n");
    let late = sandbox.start(sandbox.command(&["true"])).await.err().unwrap();
    assert_eq!(late.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_no_other_sandbox() {
    let local = Local::start().await;
    let (one, two) = (local.sleeping().await, local.sleeping().await);
    let mut router = one.router.clone();
    let error = router.task_exec_start(two.command(&["true"])).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}
