//! Calls that are sent again with their key after the server was killed, whether it had answered or not: the new
//! server gives the same answer, and nothing is there twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use modal_client::{
    Client,
    proto::client::{
        AppDeploymentHistoryRequest, AppRolloverRequest, DataFormat, DictEntry,
        DictGetOrCreateRequest, DictUpdateRequest, FunctionCallInvocationType, FunctionCallType,
        FunctionGetOutputsRequest, FunctionInput, FunctionMapRequest, FunctionPutInputsItem,
        FunctionPutInputsRequest, ObjectCreationType, QueueGetOrCreateRequest,
        QueueNextItemsRequest, QueuePutRequest, Sandbox, SandboxCreateV2Request,
        SandboxListRequest, SandboxTag, SandboxTerminateRequest, SecretGetOrCreateRequest,
        VolumeCopyFiles2Request, function_input::ArgsOneof,
    },
};

use super::load::{APP, FUNCTIONS, SLEEP, VOLUME};

/// A queue and a dict of the repeated calls.
const NAME: &str = "soak-crash-repeats";
/// The tag of their sandboxes.
const TAG: &str = "repeated";
/// How long the outputs of a call may take.
const ANSWER: Duration = Duration::from_secs(120);
/// Inputs of the calls that are begun, and that are added to each.
const INPUTS: i32 = 3;

/// What the calls are about; the same in each life of the server.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    app: String,
    functions: String,
    image: String,
    function: String,
    queue: String,
    dict: String,
    volume: String,
}

impl Scene {
    /// Makes or finds it.
    pub(super) async fn set(client: &Client) -> anyhow::Result<Self> {
        let app = client.app(APP).await?;
        let image = client.build(&modal_client::Image::debian_slim(), &app).await?;
        let function = client.function(FUNCTIONS, "double").await?;
        let creation = ObjectCreationType::CreateIfMissing.into();
        let environment_name = client.environment().unwrap_or_default().to_owned();
        let mut raw = client.raw();
        let queue = QueueGetOrCreateRequest {
            deployment_name: NAME.to_owned(),
            environment_name: environment_name.clone(),
            object_creation_type: creation,
        };
        let dict = DictGetOrCreateRequest {
            deployment_name: NAME.to_owned(),
            environment_name,
            object_creation_type: creation,
            ..Default::default()
        };
        Ok(Self {
            app: app.id.to_string(),
            functions: client.app(FUNCTIONS).await?.id.to_string(),
            image: image.id.to_string(),
            function: function.id().to_string(),
            queue: raw.queue_get_or_create(queue).await?.into_inner().queue_id,
            dict: raw.dict_get_or_create(dict).await?.into_inner().dict_id,
            volume: client.volume(VOLUME).create_if_missing().await?.id().to_string(),
        })
    }
}

/// What is done.
#[derive(Debug, Clone)]
enum Step {
    /// An item is put into the queue.
    Put,
    /// A lease is taken: an entry of the dict that is not there.
    Lease,
    /// A secret is made that may not exist.
    Secret,
    /// A directory of the volume is copied; into the copy, if it were there.
    Copy,
    /// A sandbox is made.
    Sandbox,
    /// A call is begun, with inputs.
    Map,
    /// Inputs are added to a call.
    Inputs { call: String },
    /// The app's containers are replaced, which is a version of it.
    Rollover,
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Repeat {
    step: Step,
    /// All attempts carry it; names what is made, too.
    key: String,
    /// What the server said, if it lived to.
    answer: Option<String>,
    /// Sent once more to another server.
    is_repeated: bool,
}

/// Those of one life of the server. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<Vec<Repeat>>>);

impl Repeats {
    /// Calls of every kind, one after the other, until one is not answered.
    pub(super) async fn work(self, client: Client, scene: Scene, round: u64) -> anyhow::Result<()> {
        for count in 0_u64.. {
            let key = |what: &str| format!("{round:x}-{count}-{what}");
            self.call(&client, &scene, Step::Put, key("put")).await?;
            self.call(&client, &scene, Step::Lease, key("lease")).await?;
            self.call(&client, &scene, Step::Secret, key("secret")).await?;
            self.call(&client, &scene, Step::Copy, key("copy")).await?;
            let begun = self.call(&client, &scene, Step::Map, key("map")).await?;
            let call = begun.split(' ').next().unwrap_or_default().to_owned();
            self.call(&client, &scene, Step::Inputs { call }, key("inputs")).await?;
            self.call(&client, &scene, Step::Sandbox, key("sandbox")).await?;
            if count % 4 == 0 {
                self.call(&client, &scene, Step::Rollover, key("rollover")).await?;
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        client: &Client,
        scene: &Scene,
        step: Step,
        key: String,
    ) -> anyhow::Result<String> {
        if matches!(step, Step::Copy) {
            let file = format!("{key}/from/file");
            client.volume(VOLUME).await?.upload().bytes(key.clone(), file.as_str()).await?;
        }
        // Known before it is sent: that is what a client would send again.
        let mut repeat = Repeat { step, key, answer: None, is_repeated: false };
        let place = {
            let mut all = self.lock();
            all.push(repeat.clone());
            all.len() - 1
        };
        let answer = repeat.send(client, scene).await?;
        repeat.answer = Some(answer.clone());
        self.lock()[place] = repeat;
        Ok(answer)
    }

    pub(super) fn take(&self) -> Vec<Repeat> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Repeat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repeat {
    /// Sends it with its key; the answer, as far as it must be the same each time.
    async fn send(&self, client: &Client, scene: &Scene) -> anyhow::Result<String> {
        let key = self.key.as_str();
        let mut raw = client.raw_with_key(key);
        Ok(match &self.step {
            Step::Put => {
                let request = QueuePutRequest {
                    queue_id: scene.queue.clone(),
                    values: vec![key.into()],
                    ..Default::default()
                };
                raw.queue_put(request).await?;
                "put".to_owned()
            }
            Step::Lease => {
                let entry = DictEntry { key: key.into(), value: b"mine".to_vec() };
                let request = DictUpdateRequest {
                    dict_id: scene.dict.clone(),
                    updates: vec![entry],
                    if_not_exists: true,
                };
                let created = raw.dict_update(request).await?.into_inner().created;
                ensure!(created, "the lease `{key}` is taken for somebody else's");
                "leased".to_owned()
            }
            Step::Secret => {
                let request = SecretGetOrCreateRequest {
                    deployment_name: format!("soak-{key}"),
                    environment_name: client.environment().unwrap_or_default().to_owned(),
                    object_creation_type: ObjectCreationType::CreateFailIfExists.into(),
                    env_dict: [("KEY".to_owned(), "value".to_owned())].into(),
                    ..Default::default()
                };
                raw.secret_get_or_create(request).await?.into_inner().secret_id
            }
            Step::Copy => {
                let request = VolumeCopyFiles2Request {
                    volume_id: scene.volume.clone(),
                    src_paths: vec![format!("{key}/from")],
                    dst_path: format!("{key}/to"),
                    recursive: true,
                };
                raw.volume_copy_files2(request).await?;
                "copied".to_owned()
            }
            Step::Sandbox => {
                let tag = SandboxTag { tag_name: TAG.to_owned(), tag_value: key.to_owned() };
                let request = SandboxCreateV2Request {
                    app_id: scene.app.clone(),
                    definition: Some(Sandbox {
                        entrypoint_args: ["sleep", SLEEP].map(str::to_owned).to_vec(),
                        image_id: scene.image.clone(),
                        timeout_secs: 600,
                        ..Default::default()
                    }),
                    tags: vec![tag],
                    ..Default::default()
                };
                raw.sandbox_create_v2(request).await?.into_inner().sandbox_id
            }
            Step::Map => {
                let request = FunctionMapRequest {
                    function_id: scene.function.clone(),
                    function_call_type: FunctionCallType::Map.into(),
                    function_call_invocation_type: FunctionCallInvocationType::Async.into(),
                    pipelined_inputs: inputs(0),
                    ..Default::default()
                };
                let call = raw.function_map(request).await?.into_inner();
                let ids = call.pipelined_inputs.iter().map(|input| input.input_id.as_str());
                format!("{} {}", call.function_call_id, ids.collect::<Vec<_>>().join(" "))
            }
            Step::Inputs { call } => {
                let request = FunctionPutInputsRequest {
                    function_id: scene.function.clone(),
                    function_call_id: call.clone(),
                    inputs: inputs(INPUTS),
                };
                let added = raw.function_put_inputs(request).await?.into_inner();
                let ids = added.inputs.iter().map(|input| input.input_id.as_str());
                ids.collect::<Vec<_>>().join(" ")
            }
            Step::Rollover => {
                let request = AppRolloverRequest { app_id: scene.functions.clone() };
                raw.app_rollover(request).await?.into_inner().deployed_at.to_string()
            }
        })
    }

    /// Sends it to a new server, as a client does that was not answered.
    async fn again(&mut self, client: &Client, scene: &Scene) -> anyhow::Result<()> {
        let what = format!("{:?} `{}`, {:?} before", self.step, self.key, self.answer);
        let answer = self.send(client, scene).await.with_context(|| what.clone())?;
        let is_same = self.answer.as_ref().is_none_or(|before| *before == answer);
        ensure!(is_same, "{what}: {answer} now");
        if matches!(self.step, Step::Sandbox) {
            // One that the killed server had not made runs now.
            let request = SandboxTerminateRequest { sandbox_id: answer.clone() };
            client.raw().sandbox_terminate_v2(request).await.with_context(|| what)?;
        }
        self.answer = Some(answer);
        self.is_repeated = true;
        Ok(())
    }
}

/// Inputs of `double`: what the SDKs send of `(0,)`, in CBOR.
fn inputs(first: i32) -> Vec<FunctionPutInputsItem> {
    let input = FunctionInput {
        data_format: DataFormat::Cbor.into(),
        // An array of the positional arguments, an array of one number, and of the named ones, an empty map.
        args_oneof: Some(ArgsOneof::Args(vec![0x82, 0x81, 0x00, 0xa0])),
        ..Default::default()
    };
    let item =
        |idx| FunctionPutInputsItem { idx, input: Some(input.clone()), ..Default::default() };
    (first..first + INPUTS).map(item).collect()
}

/// Sends what was not repeated yet to a new server.
pub(super) async fn repeat_all(
    repeats: &mut [Repeat],
    client: &Client,
    scene: &Scene,
) -> anyhow::Result<()> {
    for repeat in repeats.iter_mut().filter(|repeat| !repeat.is_repeated) {
        repeat.again(client, scene).await?;
    }
    Ok(())
}

/// Nothing is missing, nothing is there twice: looked for once, at the end.
pub(super) async fn verify(
    repeats: &[Repeat],
    client: &Client,
    scene: &Scene,
) -> anyhow::Result<()> {
    let mut items = queue_items(client, scene).await?;
    let mut versions = 0;
    let mut inputs_of = BTreeMap::<&str, i32>::new();
    for Repeat { step, key, answer, .. } in repeats {
        let answer = answer.as_deref().context("a call was never answered")?;
        match step {
            Step::Put => {
                let count = items.remove(key).unwrap_or(0);
                ensure!(count == 1, "the queue has item `{key}` {count} times");
            }
            Step::Copy => {
                let volume = client.volume(VOLUME).await?;
                ensure!(volume.read(format!("{key}/to/file").as_str()).bytes().await? == *key);
                let twice = volume.read(format!("{key}/to/from/file").as_str()).bytes().await;
                ensure!(twice.is_err(), "`{key}/from` was copied a second time");
            }
            Step::Sandbox => {
                let count = sandboxes_of(client, scene, key).await?;
                ensure!(count == 1, "{count} sandboxes were made for `{key}`");
            }
            Step::Map => {
                let call = answer.split(' ').next().unwrap_or_default();
                *inputs_of.entry(call).or_default() += INPUTS;
            }
            Step::Inputs { call } => *inputs_of.entry(call).or_default() += INPUTS,
            Step::Rollover => versions += 1,
            Step::Lease | Step::Secret => {}
        }
    }
    ensure!(items.is_empty(), "the queue has items that nobody put: {items:?}");
    for (call, inputs) in inputs_of {
        ensure_done_once(client, call, inputs).await?;
    }
    let request = AppDeploymentHistoryRequest { app_id: scene.functions.clone() };
    let history = client.raw().app_deployment_history(request).await?.into_inner();
    // The deployment itself is the first.
    let found = history.app_deployment_histories.len() - 1;
    ensure!(found == versions, "{found} versions of the app for {versions} roll-overs");
    Ok(())
}

/// Each item of the queue, and how often it is there.
async fn queue_items(client: &Client, scene: &Scene) -> anyhow::Result<BTreeMap<String, u32>> {
    let (mut items, mut last_entry_id) = (BTreeMap::new(), String::new());
    loop {
        let request = QueueNextItemsRequest {
            queue_id: scene.queue.clone(),
            last_entry_id: last_entry_id.clone(),
            ..Default::default()
        };
        let page = client.raw().queue_next_items(request).await?.into_inner().items;
        let Some(last) = page.last() else { return Ok(items) };
        last_entry_id.clone_from(&last.entry_id);
        for item in page {
            *items.entry(String::from_utf8(item.value)?).or_default() += 1;
        }
    }
}

async fn sandboxes_of(client: &Client, scene: &Scene, key: &str) -> anyhow::Result<usize> {
    let request = SandboxListRequest {
        app_id: scene.app.clone(),
        include_finished: true,
        tags: vec![SandboxTag { tag_name: TAG.to_owned(), tag_value: key.to_owned() }],
        ..Default::default()
    };
    Ok(client.raw().sandbox_list_v2(request).await?.into_inner().sandboxes.len())
}

/// Every input of a call has one output.
async fn ensure_done_once(client: &Client, call: &str, inputs: i32) -> anyhow::Result<()> {
    let (mut found, mut last_entry_id) = (Vec::new(), String::new());
    let until = std::time::Instant::now() + ANSWER;
    loop {
        let request = FunctionGetOutputsRequest {
            function_call_id: call.to_owned(),
            max_values: 100,
            timeout: 5.0,
            last_entry_id: last_entry_id.clone(),
            ..Default::default()
        };
        let answer = client.raw().function_get_outputs(request).await?.into_inner();
        found.extend(answer.outputs.iter().map(|output| output.idx));
        if !answer.last_entry_id.is_empty() {
            last_entry_id = answer.last_entry_id;
        }
        if found.len() >= inputs as usize && answer.num_unfinished_inputs == 0 {
            break;
        }
        let late = || format!("call {call} has outputs {found:?} of {inputs} inputs");
        ensure!(std::time::Instant::now() < until, late());
    }
    found.sort_unstable();
    ensure!(found == (0..inputs).collect::<Vec<_>>(), "call {call} has outputs {found:?}");
    Ok(())
}
