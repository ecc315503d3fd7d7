//! RPCs that define functions and classes, and find them again.

use modal_proto::client::warning::WarningType;
use modal_proto::client::{
    ClassCreateRequest, ClassCreateResponse, ClassGetRequest, ClassGetResponse,
    ClassHandleMetadata, Function, FunctionBindParamsRequest, FunctionBindParamsResponse,
    FunctionCreateRequest, FunctionCreateResponse, FunctionData, FunctionGetByIdRequest,
    FunctionGetByIdResponse, FunctionGetRequest, FunctionGetResponse, FunctionGetSerializedRequest,
    FunctionGetSerializedResponse, FunctionLookupError, FunctionPrecreateRequest,
    FunctionPrecreateResponse, Warning, function_lookup_error,
};
use tonic::{Code, Status};

use super::{app_id, function_id};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::deployment::Layout;
use crate::function::records::FunctionRecord;
use crate::function::{definition, handle, schedule};
use crate::ids::{AppId, ClassId, FunctionId, ImageId, MountId};
use crate::placement;
use crate::service::rich_status::rich_status;

/// Gives a function its id and its handle before its definition is there.
pub(in crate::service) async fn function_precreate(
    ctx: &Ctx,
    request: FunctionPrecreateRequest,
) -> Result<FunctionPrecreateResponse, Status> {
    let app = app_id(&request.app_id)?;
    ctx.apps.get_running(&app).await?;
    let id = id_for(ctx, &app, &request.existing_function_id).await?;
    let announced = FunctionPrecreateRequest { existing_function_id: String::new(), ..request };
    ctx.functions.records.announce(&id, &app, &announced).await?;
    let record = ctx.functions.records.get(&id).await?;
    let metadata = handle::current(ctx, &record).await?;
    Ok(FunctionPrecreateResponse { function_id: id.to_string(), handle_metadata: Some(metadata) })
}

/// Keeps a function's definition. Of an app that is deployed already it is used from the next
/// deployment on.
pub(in crate::service) async fn function_create(
    ctx: &Ctx,
    request: FunctionCreateRequest,
) -> Result<FunctionCreateResponse, Status> {
    let app = app_id(&request.app_id)?;
    ctx.apps.get_running(&app).await?;
    let mut data = definition::from_request(request.function, request.function_data)?;
    let server_warnings = check_machine(ctx, &data).await?;
    if let Some(schedule) = &data.schedule {
        schedule::check(schedule)?;
    }
    let id = id_for(ctx, &app, &request.existing_function_id).await?;
    if request.existing_function_id.is_empty() {
        ctx.functions.records.announce(&id, &app, &announced(&data, &app)).await?;
    }
    let definition = match ctx.functions.records.newest_definition(&id).await? {
        Some(newest)
            if is_same(ctx, &ctx.functions.records.definition(&newest).await?, &data).await? =>
        {
            newest
        }
        _ => ctx.functions.records.add_definition(&id, &data).await?,
    };
    // A function that builds an image is called before its app is deployed.
    let is_builder = definition::first(&data)?.is_builder_function;
    if is_builder || ctx.functions.deployments.current(&app).await?.is_none() {
        ctx.functions.records.use_definition(&id, &definition).await?;
    }
    let record = ctx.functions.records.get(&id).await?;
    let metadata = handle::metadata(ctx, &record, Some((&definition, &data))).await?;
    fill_urls(&mut data, &metadata);
    Ok(FunctionCreateResponse {
        function_id: id.to_string(),
        function: Some(echo(&data)?),
        handle_metadata: Some(metadata),
        function_data: Some(data),
        server_warnings,
        ..FunctionCreateResponse::default()
    })
}

/// The id that a client already has, if it is one of this app; else a new one.
async fn id_for(ctx: &Ctx, app: &AppId, existing: &str) -> Result<FunctionId> {
    if existing.is_empty() {
        return Ok(FunctionId::random());
    }
    let record = ctx.functions.records.get(&function_id(existing)?).await?;
    if record.app != *app {
        return Err(Error::invalid(format!("function `{existing}` is not of app `{app}`")));
    }
    Ok(record.id)
}

/// Refuses what this machine cannot run: an image that is not there, GPUs. A GPU is only left out
/// where the image is a substitute already, made to run without.
async fn check_machine(ctx: &Ctx, data: &FunctionData) -> Result<Vec<Warning>> {
    let function = definition::first(data)?;
    placement::check(&function.cloud_provider_str, function.scheduler_placement.as_ref())?;
    let image = ImageId::parse(&function.image_id)?;
    ctx.images.get(ctx, &image).await?;
    let gpus = definition::gpus(data);
    if gpus.is_empty() {
        return Ok(Vec::new());
    }
    let (name, gpus) = (&data.function_name, gpus.join(", "));
    if !ctx.images.is_substituted(&image).await? {
        return Err(Error::Precondition(format!(
            "function `{name}` needs a GPU ({gpus}), and the local server has none: register a \
             substitution for its image that runs without, or use the `modal` target"
        )));
    }
    Ok(vec![Warning {
        r#type: WarningType::FunctionConfiguration.into(),
        message: format!(
            "function `{name}` asks for a GPU ({gpus}); its image is a substitute here and runs without"
        ),
    }])
}

/// What a handle says of a function that was never announced.
fn announced(data: &FunctionData, app: &AppId) -> FunctionPrecreateRequest {
    FunctionPrecreateRequest {
        app_id: app.to_string(),
        function_name: data.function_name.clone(),
        function_type: data.function_type,
        webhook_config: data.webhook_config.clone(),
        method_definitions: data.method_definitions.clone(),
        function_schema: data.function_schema.clone(),
        supported_input_formats: data.supported_input_formats.clone(),
        supported_output_formats: data.supported_output_formats.clone(),
        ..FunctionPrecreateRequest::default()
    }
}

/// Whether two definitions mean the same. Ids of mounts without a name are new each time: what
/// counts is what is in them.
async fn is_same(ctx: &Ctx, one: &FunctionData, other: &FunctionData) -> Result<bool> {
    // What an earlier definition names may be gone.
    let Ok(one) = comparable(ctx, one).await else { return Ok(false) };
    Ok(one == comparable(ctx, other).await?)
}

async fn comparable(ctx: &Ctx, data: &FunctionData) -> Result<FunctionData> {
    let mut data = data.clone();
    for ranked in &mut data.ranked_functions {
        let Some(function) = &mut ranked.function else { continue };
        let mut checksums = Vec::new();
        for id in &function.mount_ids {
            checksums.push(ctx.mounts.get(&MountId::parse(id)?).await?.checksum);
        }
        checksums.sort();
        function.mount_ids = checksums;
    }
    Ok(data)
}

/// The definition as the SDK shows it once it is made: where its requests go, and without its code.
fn echo(data: &FunctionData) -> Result<Function> {
    Ok(Function {
        web_url: data.web_url.clone(),
        flash_service_urls: data.flash_service_urls.clone(),
        method_definitions: data.method_definitions.clone(),
        function_serialized: Vec::new(),
        class_serialized: Vec::new(),
        ..definition::first(data)?.clone()
    })
}

fn fill_urls(data: &mut FunctionData, metadata: &modal_proto::client::FunctionHandleMetadata) {
    data.web_url.clone_from(&metadata.web_url);
    data.flash_service_urls.clone_from(&metadata.experimental_flash_urls);
    for (name, method) in &mut data.method_definitions {
        if let Some(known) = metadata.method_handle_metadata.get(name) {
            method.web_url.clone_from(&known.web_url);
        }
    }
}

/// The name is a class's. The SDK's command line looks for the reason, and then says what to write instead.
fn class_name_used(name: &str) -> Status {
    let message = format!("Object '{name}' is a Class, not a Function.");
    let reason = function_lookup_error::Reason::ClassNameUsed.into();
    let detail = FunctionLookupError { reason };
    rich_status(Code::NotFound, &message, "modal.client.FunctionLookupError", &detail)
}

pub(in crate::service) async fn function_get(
    ctx: &Ctx,
    request: FunctionGetRequest,
) -> Result<FunctionGetResponse, Status> {
    let layout =
        layout(ctx, &request.environment_name, &request.app_name, request.app_version).await?;
    let name = &request.object_tag;
    let Some(id) = layout.functions.get(name) else {
        if layout.classes.contains_key(name) {
            return Err(class_name_used(name));
        }
        return Err(not_in_app("function", name, &request.app_name).into());
    };
    let record = ctx.functions.records.get(&function_id(id)?).await?;
    let (function, metadata) = described(ctx, &record).await?;
    Ok(FunctionGetResponse {
        function_id: id.clone(),
        handle_metadata: Some(metadata),
        function: Some(function),
        ..FunctionGetResponse::default()
    })
}

pub(in crate::service) async fn function_get_by_id(
    ctx: &Ctx,
    request: FunctionGetByIdRequest,
) -> Result<FunctionGetByIdResponse, Status> {
    let record = ctx.functions.records.get(&function_id(&request.function_id)?).await?;
    let (function, metadata) = described(ctx, &record).await?;
    Ok(FunctionGetByIdResponse { function: Some(function), handle_metadata: Some(metadata) })
}

async fn described(
    ctx: &Ctx,
    record: &FunctionRecord,
) -> Result<(FunctionData, modal_proto::client::FunctionHandleMetadata)> {
    let id = match (&record.definition, &record.base) {
        (Some(id), _) => Some(id.clone()),
        (None, Some(base)) => ctx.functions.records.get(base).await?.definition,
        (None, None) => None,
    };
    let id = id.ok_or_else(|| Error::not_found("function", &record.name))?;
    let mut data = ctx.functions.records.definition(&id).await?;
    let metadata = handle::metadata(ctx, record, Some((&id, &data))).await?;
    fill_urls(&mut data, &metadata);
    Ok((data, metadata))
}

/// A class has no more than its id: all that is known of it is its function's.
pub(in crate::service) async fn class_create(
    ctx: &Ctx,
    request: ClassCreateRequest,
) -> Result<ClassCreateResponse, Status> {
    let app = app_id(&request.app_id)?;
    ctx.apps.get_running(&app).await?;
    let id = match request.existing_class_id.as_str() {
        "" => ClassId::random(),
        existing => {
            let id = ClassId::parse(existing).map_err(Error::from)?;
            if ctx.functions.records.class_app(&id).await? != app {
                return Err(Error::invalid(format!("class `{id}` is not of app `{app}`")).into());
            }
            id
        }
    };
    ctx.functions.records.add_class(&id, &app).await?;
    Ok(ClassCreateResponse {
        class_id: id.to_string(),
        handle_metadata: Some(ClassHandleMetadata {
            methods: request.methods,
            ..ClassHandleMetadata::default()
        }),
    })
}

pub(in crate::service) async fn class_get(
    ctx: &Ctx,
    request: ClassGetRequest,
) -> Result<ClassGetResponse, Status> {
    let layout =
        layout(ctx, &request.environment_name, &request.app_name, request.app_version).await?;
    let name = &request.object_tag;
    let id =
        layout.classes.get(name).ok_or_else(|| not_in_app("class", name, &request.app_name))?;
    Ok(ClassGetResponse {
        class_id: id.clone(),
        handle_metadata: Some(handle::class_metadata(ctx, &layout, name).await?),
        server_warnings: Vec::new(),
    })
}

/// A function with parameters and other options: the same ones give the same variant.
pub(in crate::service) async fn function_bind_params(
    ctx: &Ctx,
    request: FunctionBindParamsRequest,
) -> Result<FunctionBindParamsResponse, Status> {
    let base = ctx.functions.records.get(&function_id(&request.function_id)?).await?;
    let base = match &base.base {
        Some(id) => ctx.functions.records.get(id).await?,
        None => base,
    };
    let options = request.function_options.unwrap_or_default();
    if options
        .resources
        .as_ref()
        .and_then(|it| it.gpu_config.as_ref())
        .is_some_and(|gpu| gpu.count > 0)
    {
        let text =
            format!("a variant of `{}` asks for a GPU, and the local server has none", base.name);
        return Err(Error::Precondition(text).into());
    }
    if !options.cloud_bucket_mounts.is_empty() {
        return Err(
            Error::invalid("functions of the local server have no cloud bucket mounts").into()
        );
    }
    let record = ctx.functions.variant(&base, &request.serialized_params, &options).await?;
    let (_, metadata) = described(ctx, &record).await?;
    Ok(FunctionBindParamsResponse {
        bound_function_id: record.id.to_string(),
        handle_metadata: Some(metadata),
    })
}

pub(in crate::service) async fn function_get_serialized(
    ctx: &Ctx,
    request: FunctionGetSerializedRequest,
) -> Result<FunctionGetSerializedResponse, Status> {
    let spec = ctx.functions.spec(&function_id(&request.function_id)?).await?;
    Ok(FunctionGetSerializedResponse {
        function_serialized: spec.function.function_serialized,
        class_serialized: spec.function.class_serialized,
    })
}

/// What the running app of this name consists of. Earlier versions can be gone back to, not called.
async fn layout(ctx: &Ctx, environment: &str, app: &str, version: i32) -> Result<Layout> {
    let environment = ctx.environments.resolve(environment).await?;
    let not_found = || Error::not_found_in("app", app, ("environment", environment.name.as_str()));
    let record = ctx.apps.find(&environment, app).await?.ok_or_else(not_found)?;
    let current = ctx.functions.deployments.current(&app_id(&record.app_id)?).await?;
    let current = current.ok_or_else(not_found)?;
    if version > 0 && u32::try_from(version) != Ok(current.version) {
        let text = format!(
            "version {version} of app `{app}` is not deployed (version {} is): the local server calls \
             only that one; `modal app rollback` goes back",
            current.version
        );
        return Err(Error::Precondition(text));
    }
    Ok(current.layout)
}

fn not_in_app(kind: &'static str, name: &str, app: &str) -> Error {
    Error::not_found_in(kind, name, ("app", app))
}
