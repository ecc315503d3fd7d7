//! What the entrypoint reads first: which function it is, and what else belongs to the app.

use modal_proto::client::{AppLayout, ContainerArguments, Object, object::HandleMetadataOneof};
use prost::Message as _;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::function::handle;
use crate::function::task::Task;
use crate::ids::VolumeId;

/// The arguments of a container, as it reads them.
pub(super) async fn encode(ctx: &Ctx, task: &Task, environment: &str) -> Result<Vec<u8>> {
    let spec = &task.spec;
    let layout = ctx.functions.deployments.current(&spec.app).await?;
    let layout = layout.map(|deployment| deployment.layout).unwrap_or_default();
    let mut app_layout = handle::app_layout(ctx, &layout).await?;
    add_dependencies(ctx, task, &mut app_layout).await?;
    let mut function = spec.function.clone();
    // The container fetches nothing that it can be given.
    function.runtime = String::new();
    let arguments = ContainerArguments {
        task_id: task.id.to_string(),
        function_id: spec.id.to_string(),
        app_id: spec.app.to_string(),
        function_def: Some(function),
        serialized_params: spec.serialized_params.clone(),
        environment_name: environment.to_owned(),
        app_layout: Some(app_layout),
        ..ContainerArguments::default()
    };
    Ok(arguments.encode_to_vec())
}

/// The entrypoint looks up every object that the function depends on.
async fn add_dependencies(ctx: &Ctx, task: &Task, layout: &mut AppLayout) -> Result<()> {
    for dependency in &task.spec.function.object_dependencies {
        let id = &dependency.object_id;
        if layout.objects.iter().any(|object| object.object_id == *id) {
            continue;
        }
        let metadata = match VolumeId::parse(id) {
            Ok(volume) => {
                let record = ctx.volumes.get(&volume).await?;
                Some(HandleMetadataOneof::VolumeMetadata(crate::service::volume_metadata(record)))
            }
            Err(_) => None,
        };
        layout.objects.push(Object { object_id: id.clone(), handle_metadata_oneof: metadata });
    }
    Ok(())
}
