//! `Image.run_function`: a layer that a function of the client's leaves behind.
//!
//! The function is called once in a container of its own image, like any other function; what it has changed there
//! becomes the layer. The client's sources and Modal's package, which such a container is shown, are not part of it.

use std::sync::Arc;

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{
    FunctionCallInvocationType, FunctionCallType, FunctionInput, GenericResult,
};
use prost::Message as _;

use super::{Build, BuildError};
use crate::function::calls::{NewCall, OutputRange};
use crate::function::task::Stop;
use crate::ids::{CallId, FunctionId, InputId, TaskId};
use crate::image::definition::BuildFunction;
use crate::image::log::Stream;
use crate::image::record::Built;
use crate::image::snapshot::SnapshotSource;
use crate::logs::LogFilter;

/// What a container of a function is shown besides its image.
const SHOWN: [&str; 2] = ["/__modal", "/pkg"];
/// Lines of its output that the build log takes at once.
const LINES: usize = 10_000;

impl Build<'_> {
    /// Calls the function and takes what it has changed.
    pub(super) async fn run_function(self, function: &BuildFunction) -> Result<Built, BuildError> {
        let Some(base) = self.definition.bases.values().next() else {
            return Err(BuildError::Empty);
        };
        let below = self.built_image(base).await?;
        let tip = below.tip.child("run function", |hasher| {
            hasher.part(&function.definition).part(&function.globals).part(&function.input);
            hasher.parts(self.secrets.keys().collect::<Vec<_>>());
            hasher.part(self.definition.attempt.as_deref().unwrap_or_default());
        });
        let below = Built {
            layers: below.layers,
            tip: below.tip,
            config: below.config,
            substitutions: self.substitutions.clone(),
        };
        let lock = self.images.layer_lock(&tip);
        let _making = lock.lock().await;
        if self.images.store().has(&tip) {
            self.log.info("the function was called before: its result is used");
            let layers = below.layers.iter().cloned().chain([tip.clone()]).collect();
            return Ok(Built { layers, tip, ..below });
        }
        self.log.info("calling the function");
        let id = FunctionId::parse(&function.function)?;
        let (call, input) = self.call(&id, function).await?;
        let result = self.result(&call).await?;
        let task = self.ctx.functions.calls.input(input.as_str()).await?.task_id;
        self.copy_output(&task).await?;
        if result.status != i32::from(GenericStatus::Success) {
            let reason = [result.exception, result.traceback].join("\n");
            return Err(BuildError::Function { reason: reason.trim_end().to_owned() });
        }
        let task = TaskId::parse(&task)?;
        let Some((_, live)) = self.ctx.functions.find_task(&task) else {
            let reason = "its container ended before its files could be copied".to_owned();
            return Err(BuildError::Function { reason });
        };
        let root = &live.place()?.root;
        let source = SnapshotSource {
            base: Arc::clone(&root.image),
            overlaid: Vec::new(),
            upper: root.upper.clone(),
            mount_points: root.mount_points.clone(),
            left_out: SHOWN.map(Into::into).into(),
            is_final: false,
        };
        let made = self.images.layer_of(source, below, tip).await;
        live.request_stop(Stop::Interrupt);
        Ok(made?)
    }

    async fn call(
        &self,
        id: &FunctionId,
        function: &BuildFunction,
    ) -> Result<(CallId, InputId), BuildError> {
        let functions = &self.ctx.functions;
        let app = functions.records.get(id).await?.app;
        let bytes = hex::decode(&function.input).unwrap_or_default();
        let input = FunctionInput::decode(bytes.as_slice()).unwrap_or_default();
        let call = NewCall {
            function: id.clone(),
            app,
            kind: FunctionCallType::Unary,
            invocation: FunctionCallInvocationType::Async,
            parent: String::new(),
            retries_here: true,
        };
        let (call, inputs) = functions.calls.begin(&call, vec![(0, input)]).await?;
        let Some(input) = inputs.into_iter().next() else { return Err(BuildError::Empty) };
        let input_id = input.id.clone();
        functions.submit(self.ctx, Arc::new(input)).await?;
        Ok((call, input_id))
    }

    /// Waits for what the function answers.
    async fn result(&self, call: &CallId) -> Result<GenericResult, BuildError> {
        let calls = &self.ctx.functions.calls;
        let mut watch = calls.watch(call);
        loop {
            watch.mark_unchanged();
            let outputs = calls.outputs(call, OutputRange::default()).await?;
            if let Some((_, item)) = outputs.into_iter().next() {
                return Ok(item.result.unwrap_or_default());
            }
            // The sender is the table's, which lives as long as the server.
            let _ = watch.changed().await;
        }
    }

    /// What the function has printed is part of the build's log.
    async fn copy_output(&self, task: &str) -> Result<(), BuildError> {
        self.ctx.logs.flush().await;
        let filter = LogFilter { task: task.to_owned(), ..LogFilter::default() };
        for line in self.ctx.logs.after(&filter, 0, LINES).await? {
            self.log.append(Stream::Stdout, line.data);
        }
        Ok(())
    }
}
