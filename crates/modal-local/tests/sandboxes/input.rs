//! Standard input: offsets, streams, ends.

use modal_proto::task_command_router::task_exec_stdin_write_stream_request::Payload;
use modal_proto::task_command_router::{
    SandboxStdinWriteV2Request, TaskExecStdinStatusRequest, TaskExecStdinStatusResponse,
    TaskExecStdinWriteStreamEnd, TaskExecStdinWriteStreamRequest, TaskExecStdinWriteStreamStart,
};
use tonic::{Code, Status};

use crate::harness::{Exec, Local};

fn messages(
    exec: &Exec,
    offset: u64,
    data: &[&[u8]],
    end: bool,
) -> Vec<TaskExecStdinWriteStreamRequest> {
    let (task_id, exec_id) = (exec.task.clone(), exec.id.clone());
    let start = Payload::Start(TaskExecStdinWriteStreamStart { task_id, exec_id, offset });
    let data = data.iter().map(|data| Payload::Data(data.to_vec()));
    let end = end.then_some(Payload::End(TaskExecStdinWriteStreamEnd {}));
    let payloads = [start].into_iter().chain(data).chain(end);
    payloads.map(|payload| TaskExecStdinWriteStreamRequest { payload: Some(payload) }).collect()
}

async fn stream(exec: &Exec, offset: u64, data: &[&[u8]], end: bool) -> Result<(), Status> {
    let messages = futures::stream::iter(messages(exec, offset, data, end));
    exec.router.clone().task_exec_stdin_write_stream(messages).await.map(drop)
}

async fn status(exec: &Exec) -> TaskExecStdinStatusResponse {
    let (task_id, exec_id) = (exec.task.clone(), exec.id.clone());
    let request = TaskExecStdinStatusRequest { task_id, exec_id };
    exec.router.clone().task_exec_stdin_status(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entrypoint_reads_what_is_written() {
    let local = Local::start().await;
    let sandbox = local.create(local.definition(&["cat"])).await;
    let write = async |offset, data: &[u8], eof| {
        let task_id = sandbox.task.clone();
        let request = SandboxStdinWriteV2Request { task_id, offset, data: data.to_vec(), eof };
        sandbox.router.clone().sandbox_stdin_write_v2(request).await.map_err(|error| error.code())
    };
    write(0, b"typed", false).await.unwrap();
    write(0, b"typed", false).await.unwrap();
    assert_eq!(write(9, b"gap", false).await.unwrap_err(), Code::FailedPrecondition);
    write(5, b" on stdin\n", true).await.unwrap();
    sandbox.wait().await;
    assert_eq!(sandbox.stdout().await, "typed on stdin\n");
    assert_eq!(write(15, b"late", false).await.unwrap_err(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_carries_large_input_and_its_end_closes() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["sha256sum"]).await;
    let piece = vec![b'x'; 256 << 10];
    let pieces: Vec<&[u8]> = (0..40).map(|_| &piece[..]).collect();
    stream(&exec, 0, &pieces, true).await.unwrap();
    assert_eq!(exec.wait().await, 0);
    let expected = sandbox.sh("head -c 10485760 /dev/zero | tr '\\0' x | sha256sum").await.1;
    assert_eq!(exec.text(false).await, expected);
    assert_eq!(status(&exec).await.num_bytes_written, 10 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_resumed_where_it_stopped() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["cat"]).await;
    stream(&exec, 0, &[b"first "], false).await.unwrap_err();
    let so_far = status(&exec).await;
    assert_eq!((so_far.num_bytes_written, so_far.closed), (6, false));
    let wrong = stream(&exec, 0, &[b"x"], true).await.unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    stream(&exec, 6, &[b"second"], true).await.unwrap();
    assert_eq!(exec.wait().await, 0);
    assert_eq!(exec.text(false).await, "first second");
    assert!(status(&exec).await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_after_the_exit_is_refused_when_the_exit_can_be_seen() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let exec = sandbox.exec(&["sh", "-c", "exit 4"]).await;
    let piece = vec![b'x'; 1 << 20];
    let error = stream(&exec, 0, &[&piece], true).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(exec.poll().await.is_some());
}
