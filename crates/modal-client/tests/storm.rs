//! Jobs through a storm: a seeded proxy between client and server drops connections, delays calls, answers
//! UNAVAILABLE before and after the work is done, answers RESOURCE_EXHAUSTED with a time to wait, and cuts streams in
//! their middle. No job is lost, none is done twice, none hangs.
//!
//! 200 faults here; `cargo xtask soak faults` sets `GOAT_FAULTS` to 10,000 and `GOAT_FAULT_SEED` to its seed.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use modal_client::{
    App, BuiltImage, Client, Dict, Image, Volume,
    proto::{client as api, task_command_router as router},
};
use prost::Message;
use support::{
    breaker::breaker,
    raw::{Answer, Call, serve, throttled},
};
use tokio::io::AsyncWriteExt as _;
use tonic::Status;

/// Jobs at once.
const WORKERS: u32 = 24;
/// A job that takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(90);
/// A connection is cut after it carried this much.
const CUT_AFTER: u64 = 1_500_000;
/// One call in so many meets a fault.
const ONE_IN: u64 = 3;
const OUTPUT: usize = 24_000;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// What the server has done.
#[derive(Default)]
struct Done {
    /// Answers by idempotency key: a call that is repeated is not done again.
    answers: HashMap<String, Bytes>,
    /// How often a sandbox was made for a job.
    sandboxes: HashMap<String, u32>,
    /// How often each command was started, by the job that it is for.
    starts: HashMap<String, u32>,
    execs: HashMap<String, String>,
    inputs: HashMap<String, Vec<u8>>,
    leases: HashSet<Vec<u8>>,
    terminated: HashSet<String>,
}

struct Server {
    url: OnceLock<String>,
    done: Mutex<Done>,
    random: Mutex<u64>,
    faults: AtomicU32,
    /// Calls that met a fault just before: the same call is not hit twice in a row, or its retries would end.
    hit: Mutex<HashSet<(String, Bytes)>>,
}

enum Fault {
    Before,
    After,
    Throttle,
    Delay(u64),
    Cut(u64),
}

impl Server {
    /// SplitMix64: the same seed makes the same sequence.
    fn random(&self) -> u64 {
        let mut state = self.random.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fault(&self, method: &str, first: &Bytes) -> Option<Fault> {
        let call = (method.to_owned(), first.clone());
        let mut hit = self.hit.lock().unwrap();
        if hit.remove(&call) || !self.random().is_multiple_of(ONE_IN) {
            return None;
        }
        hit.insert(call);
        self.faults.fetch_add(1, Ordering::SeqCst);
        let choice = self.random();
        Some(match choice % 5 {
            0 => Fault::Before,
            1 => Fault::After,
            2 => Fault::Throttle,
            3 => Fault::Delay(choice % 30),
            _ => Fault::Cut(choice % 4),
        })
    }

    async fn answer(self: Arc<Self>, mut call: Call) -> Answer {
        let first = call.messages.message().await.ok().flatten().unwrap_or_default();
        let unavailable = || Status::unavailable("a fault of the test");
        match self.fault(&call.method, &first) {
            None => self.work(&call, &first),
            Some(Fault::Before) => Answer::fail(unavailable()),
            Some(Fault::After) => {
                self.work(&call, &first);
                Answer::fail(unavailable())
            }
            Some(Fault::Throttle) => Answer::fail(throttled(0.1)),
            Some(Fault::Delay(millis)) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                self.work(&call, &first)
            }
            Some(Fault::Cut(messages)) => {
                let answer = self.work(&call, &first);
                let messages = usize::try_from(messages).unwrap();
                Answer { messages: answer.messages.take(messages).boxed(), status: None }
                    .then(unavailable())
            }
        }
    }

    fn work(&self, call: &Call, first: &Bytes) -> Answer {
        match call.method.as_str() {
            "TaskExecStdioRead" => output(decode(first)),
            "VolumeListFiles2" => listing(),
            _ => {
                let mut done = self.done.lock().unwrap();
                let key = call.header("x-idempotency-key").map(str::to_owned);
                if let Some(known) = key.as_ref().and_then(|key| done.answers.get(key)) {
                    return Answer::many([known.clone()]);
                }
                let answer = Bytes::from(self.unary(&call.method, first, &mut done));
                if let Some(key) = key {
                    done.answers.insert(key, answer.clone());
                }
                Answer::many([answer])
            }
        }
    }

    fn unary(&self, method: &str, query: &Bytes, done: &mut Done) -> Vec<u8> {
        match method {
            "AppGetOrCreate" => encode(api::AppGetOrCreateResponse {
                app_id: "ap-1".to_owned(),
                ..Default::default()
            }),
            "ImageFromId" => encode(api::ImageFromIdResponse {
                image_id: "im-1".to_owned(),
                ..Default::default()
            }),
            "AuthTokenGet" => encode(api::AuthTokenGetResponse { token: "e30.e30.sig".to_owned() }),
            "DictGetOrCreate" => encode(api::DictGetOrCreateResponse {
                dict_id: "di-1".to_owned(),
                ..Default::default()
            }),
            "VolumeGetOrCreate" => encode(api::VolumeGetOrCreateResponse {
                volume_id: "vo-1".to_owned(),
                metadata: Some(api::VolumeMetadata {
                    version: api::VolumeFsVersion::V2.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            "DictUpdate" => {
                let query: api::DictUpdateRequest = decode(query);
                let created = done.leases.insert(query.updates[0].key.clone());
                encode(api::DictUpdateResponse { created })
            }
            "SandboxCreateV2" => self.create(decode(query), done),
            "SandboxTerminateV2" => {
                let query: api::SandboxTerminateRequest = decode(query);
                done.terminated.insert(query.sandbox_id);
                encode(api::SandboxTerminateResponse::default())
            }
            "TaskExecStart" => {
                let query: router::TaskExecStartRequest = decode(query);
                if done.execs.insert(query.exec_id, query.task_id.clone()).is_none() {
                    *done.starts.entry(query.task_id).or_default() += 1;
                }
                encode(router::TaskExecStartResponse {})
            }
            "TaskExecStdinWrite" => {
                let query: router::TaskExecStdinWriteRequest = decode(query);
                let input = done.inputs.entry(query.exec_id).or_default();
                let known = input.len() - usize::try_from(query.offset).unwrap();
                input.extend(&query.data[known.min(query.data.len())..]);
                encode(router::TaskExecStdinWriteResponse {})
            }
            "TaskExecWait" => encode(router::TaskExecWaitResponse {
                exit_status: Some(router::task_exec_wait_response::ExitStatus::Code(7)),
            }),
            other => panic!("{other}"),
        }
    }

    fn create(&self, query: api::SandboxCreateV2Request, done: &mut Done) -> Vec<u8> {
        let job = query.tags[0].tag_value.clone();
        *done.sandboxes.entry(job.clone()).or_default() += 1;
        encode(api::SandboxCreateV2Response {
            sandbox_id: format!("sb-{job}"),
            task_id: format!("ta-{job}"),
            command_router_access: Some(api::CommandRouterAccess {
                url: self.url.get().unwrap().clone(),
                jwt: "e30.e30.sig".to_owned(),
            }),
            ..Default::default()
        })
    }
}

fn encode(message: impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

fn decode<M: Message + Default>(bytes: &Bytes) -> M {
    M::decode(bytes.clone()).unwrap()
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_be_bytes).collect()
}

fn output(query: router::TaskExecStdioReadRequest) -> Answer {
    let bytes = if query.file_descriptor == 0 { numbered(OUTPUT) } else { Vec::new() };
    let rest = bytes[usize::try_from(query.offset).unwrap()..].to_vec();
    let pieces: Vec<Bytes> = rest
        .chunks(5_000)
        .map(|data| encode(router::TaskExecStdioReadResponse { data: data.to_vec() }).into())
        .collect();
    Answer { messages: stream::iter(pieces).boxed(), status: None }
}

fn listing() -> Answer {
    let batches = (0..4).map(|batch| {
        let entries = (0..10).map(|n| api::FileEntry {
            path: format!("{batch}/{n}"),
            r#type: api::file_entry::FileType::File.into(),
            ..Default::default()
        });
        encode(api::VolumeListFiles2Response { entries: entries.collect() }).into()
    });
    Answer::many(batches)
}

struct Tools {
    client: Client,
    app: App,
    image: BuiltImage,
    dict: Dict,
    volume: Volume,
}

/// One job: what it is told must be what it gets, whatever breaks on the way.
async fn job(tools: &Tools, number: u32) -> modal_client::Result<()> {
    let name = number.to_string();
    let taken = tools.dict.put_if_absent(&name, &number).await?;
    assert!(taken, "job {number}: the lease was taken by a call that was repeated");
    let sandbox = tools.client.sandbox(&tools.app, &tools.image).tag("job", &name).create().await?;
    let mut process = sandbox.exec(["work"]).await?;
    let mut stdin = process.take_stdin().unwrap();
    let input = numbered(8_000);
    for piece in input.chunks(3_000) {
        stdin.write_all(piece).await.unwrap();
    }
    stdin.shutdown().await.unwrap();
    let output = process.output().await?;
    assert!(output.stdout == numbered(OUTPUT), "job {number}: {} bytes", output.stdout.len());
    assert_eq!((output.stderr.len(), output.code), (0, 7));
    let files = tools.volume.list(format!("/{number}")).await?;
    let paths: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((files.len(), paths.len()), (40, 40), "job {number}: a file was lost or came twice");
    sandbox.terminate().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_is_lost_doubled_or_hung() {
    let (wanted, seed) = (setting("GOAT_FAULTS", 200), setting("GOAT_FAULT_SEED", 1));
    let server = Arc::new(Server {
        url: OnceLock::new(),
        done: Mutex::default(),
        random: Mutex::new(seed.into()),
        faults: AtomicU32::new(0),
        hit: Mutex::default(),
    });
    let serving = Arc::clone(&server);
    let direct = serve(move |call| Arc::clone(&serving).answer(call).boxed()).await;
    let wire = breaker(&direct, CUT_AFTER, u32::MAX).await;
    server.url.set(wire.url.clone()).unwrap();
    let client = support::client(&wire.url).await;
    let tools = Arc::new(Tools {
        app: client.app("storm").create_if_missing().await.unwrap(),
        image: client
            .build(&Image::from_id("im-1".parse().unwrap()), &client.app("storm").await.unwrap())
            .await
            .unwrap(),
        dict: client.dict("leases").create_if_missing().await.unwrap(),
        volume: client.volume("files").create_if_missing().await.unwrap(),
        client,
    });
    let next = Arc::new(AtomicU32::new(0));
    let workers = (0..WORKERS).map(|_| {
        let (tools, next) = (Arc::clone(&tools), Arc::clone(&next));
        let (server, cuts) = (Arc::clone(&server), Arc::clone(&wire.cuts));
        tokio::spawn(async move {
            while server.faults.load(Ordering::SeqCst) + cuts.load(Ordering::SeqCst) < wanted {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let worked = tokio::time::timeout(HANGS_AFTER, job(&tools, number)).await;
                let worked = worked.unwrap_or_else(|_| panic!("seed {seed}: job {number} hangs"));
                worked.unwrap_or_else(|error| panic!("seed {seed}: job {number}: {error:?}"));
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    check(&server, next.load(Ordering::SeqCst));
}

fn check(server: &Server, jobs: u32) {
    let done = server.done.lock().unwrap();
    assert!(jobs >= WORKERS);
    for job in 0..jobs {
        let (name, task) = (job.to_string(), format!("ta-{job}"));
        assert_eq!(done.sandboxes.get(&name), Some(&1), "sandboxes of job {job}");
        assert_eq!(done.starts.get(&task), Some(&1), "commands of job {job}");
        assert!(done.terminated.contains(&format!("sb-{job}")), "job {job} left its sandbox");
    }
    assert!(done.inputs.values().all(|input| *input == numbered(8_000)), "an input is not whole");
    assert_eq!(done.inputs.len(), usize::try_from(jobs).unwrap());
}
