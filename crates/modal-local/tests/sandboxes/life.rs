//! Creation, time-outs and the one end of every sandbox.

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{
    Probe, Resources, SandboxGetCommandRouterAccessRequest, SandboxWaitRequest, probe,
    sandbox_get_command_router_access_request::Target,
};
use modal_proto::client::{Sandbox, SandboxListRequest, SandboxTerminateRequest};
use modal_proto::task_command_router::SandboxWaitUntilReadyTcrRequest;
use tonic::Code;

use crate::harness::{Local, variables};

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_and_the_output_of_the_entrypoint_arrive() {
    let local = Local::start().await;
    let sandbox =
        local.create(local.definition(&["sh", "-c", "echo bye; echo e >&2; exit 7"])).await;
    let result = sandbox.wait().await;
    assert_eq!((result.status(), result.exitcode), (GenericStatus::Failure, 7));
    assert_eq!(sandbox.stdout().await, "bye\n");
    assert_eq!(sandbox.stderr().await, "e\n");
    assert_eq!(sandbox.output(false, 2).await, (2, b"e\n".to_vec()));
    let sandbox = local.create(local.definition(&["true"])).await;
    assert_eq!(sandbox.wait().await.status(), GenericStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_runs_there_is_no_result_and_terminate_gives_it_one() {
    let local = Local::start().await;
    let sandbox = local.create(local.definition(&[])).await;
    assert_eq!(sandbox.poll().await, None);
    sandbox.terminate().await;
    let result = sandbox.wait().await;
    assert_eq!((result.status(), result.exitcode), (GenericStatus::Terminated, 137));
    let request = SandboxTerminateRequest { sandbox_id: sandbox.id.clone() };
    let again = sandbox.client.clone().sandbox_terminate_v2(request).await.unwrap().into_inner();
    assert_eq!(again.existing_result, Some(result));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_end_a_sandbox() {
    let local = Local::start().await;
    let sleep = || local.definition(&["sleep", "600"]);
    let limited = local.create(Sandbox { timeout_secs: 1, ..sleep() }).await;
    let idle = local.create(Sandbox { idle_timeout_secs: Some(1), ..sleep() }).await;
    let result = limited.wait().await;
    assert_eq!((result.status(), result.exitcode), (GenericStatus::Timeout, 124));
    assert_eq!(idle.wait().await.status(), GenericStatus::IdleTimeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_come_from_the_definition_then_from_secrets_in_order() {
    let local = Local::start().await;
    let definition = local.definition(&[
        "sh",
        "-c",
        "echo $A $B $MODAL_IS_REMOTE $MODAL_ENVIRONMENT $PWD $HOME; echo $MODAL_TASK_ID",
    ]);
    let mut request = local.request(Sandbox { workdir: Some("/tmp".into()), ..definition });
    request.secret_sources = vec![variables(&[("A", "1"), ("B", "1")]), variables(&[("B", "2")])];
    let sandbox = local.try_create(request).await.unwrap();
    sandbox.wait().await;
    let expected = format!("1 2 1 main /tmp /root\n{}\n", sandbox.task);
    assert_eq!(sandbox.stdout().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_exist_ends_its_sandbox_with_a_reason() {
    let local = Local::start().await;
    let sandbox = local.create(local.definition(&["/no/such/program"])).await;
    let result = sandbox.wait().await;
    assert_eq!((result.status(), result.exitcode), (GenericStatus::Failure, 127));
    assert!(result.exception.contains("/no/such/program"));
    assert!(sandbox.stderr().await.contains("/no/such/program"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_every_sandbox_with_an_end() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let id = sandbox.id.clone();
    drop(sandbox);
    let local = local.restart().await;
    let request = SandboxWaitRequest { sandbox_id: id.clone(), timeout: 0.0 };
    let answer = local.client.clone().sandbox_wait_v2(request).await.unwrap().into_inner();
    let result = answer.result.unwrap();
    assert_eq!(result.status(), GenericStatus::InternalFailure);
    assert!(result.exitcode != 0 && result.exception.contains("killed"));
    let list = SandboxListRequest { app_id: local.app.clone(), ..Default::default() };
    let list = local.client.clone().sandbox_list_v2(list).await.unwrap().into_inner();
    assert_eq!(list.sandboxes, []);
    let access = SandboxGetCommandRouterAccessRequest { target: Some(Target::SandboxId(id)) };
    let gone = local.client.clone().sandbox_get_command_router_access(access).await.unwrap_err();
    assert_eq!(gone.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_what_the_probe_says() {
    let local = Local::start().await;
    let probe = |argv: &[&str]| {
        let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
        let exec = probe::ProbeOneof::ExecCommand(probe::ExecCommand { argv });
        Some(Probe { probe_oneof: Some(exec), interval_ms: Some(20) })
    };
    let ready = async |sandbox: &crate::harness::Live, timeout| {
        let task_id = sandbox.task.clone();
        let request = SandboxWaitUntilReadyTcrRequest { task_id, timeout };
        sandbox.router.clone().sandbox_wait_until_ready(request).await.map_err(|error| error.code())
    };
    let script = ["sh", "-c", "mkfifo /tmp/go; cat /tmp/go; touch /tmp/ready; sleep 600"];
    let definition = local.definition(&script);
    let sandbox = local
        .create(Sandbox { readiness_probe: probe(&["test", "-e", "/tmp/ready"]), ..definition })
        .await;
    assert_eq!(ready(&sandbox, 0.1).await.unwrap_err(), Code::DeadlineExceeded);
    sandbox.sh("until test -p /tmp/go; do :; done; echo > /tmp/go").await;
    assert!(ready(&sandbox, 30.0).await.unwrap().into_inner().ready_at > 1e9);
    let unprobed = local.sleeping().await;
    assert_eq!(ready(&unprobed, 1.0).await.unwrap_err(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sandboxes_at_once_all_come_up_and_go() {
    let local = Local::start().await;
    let creations = (0..64).map(|_| local.create(local.definition(&["sh", "-c", "echo up"])));
    let sandboxes = futures::future::join_all(creations).await;
    for sandbox in &sandboxes {
        assert_eq!(sandbox.wait().await.status(), GenericStatus::Success);
        assert_eq!(sandbox.stdout().await, "up\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_over_the_limit_is_the_end_and_a_request_is_no_limit() {
    let local = Local::start().await;
    let hog = "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c";
    let with =
        |resources| Sandbox { resources: Some(resources), ..local.definition(&["sh", "-c", hog]) };
    let request = local.create(with(Resources { memory_mb: 16, ..Default::default() })).await;
    assert_eq!(request.wait().await.status(), GenericStatus::Success);
    assert_eq!(request.stdout().await, "150000000\n");
    let limit = Resources { memory_mb_max: 64, ..Default::default() };
    let limited = local.create(with(limit)).await;
    limited.wait().await;
    assert_ne!(limited.stdout().await, "150000000\n");
}
