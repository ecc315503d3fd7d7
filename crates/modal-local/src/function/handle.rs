//! What clients are told of a function: the metadata of its handle.

use std::collections::HashMap;

use modal_proto::client::{
    AppLayout, ClassHandleMetadata, FunctionData, FunctionHandleMetadata, FunctionPrecreateRequest,
    MethodDefinition, Object, object::HandleMetadataOneof,
};

use super::definition::is_web;
use super::deployment::Layout;
use super::records::FunctionRecord;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::ids::{DefinitionId, FunctionId};

/// What stands for a class's function: `Name.*`.
pub(crate) const CLASS_SUFFIX: &str = ".*";

/// The metadata of a function. `definition` is the one it will be known by: the one in use, or one
/// that is about to be.
pub(crate) async fn metadata(
    ctx: &Ctx,
    record: &FunctionRecord,
    definition: Option<(&DefinitionId, &FunctionData)>,
) -> Result<FunctionHandleMetadata> {
    let urls = ctx.web.urls(ctx, record).await?;
    let announced = &record.announced;
    let data = definition.map(|(_, data)| data);
    let server_url = match data {
        Some(data) if data.is_server => Some(ctx.web.server_url(ctx, record).await?),
        _ => None,
    };
    let methods = announced.method_definitions.iter();
    let methods =
        methods.map(|(name, method)| (name.clone(), method_metadata(name, method, &urls)));
    Ok(FunctionHandleMetadata {
        function_name: announced.function_name.clone(),
        function_type: announced.function_type,
        web_url: urls.get("").cloned().unwrap_or_default(),
        is_method: data.is_some_and(|data| data.is_method),
        definition_id: definition.map(|(id, _)| id.to_string()).unwrap_or_default(),
        class_parameter_info: data.and_then(|data| data.class_parameter_info.clone()),
        method_handle_metadata: methods.collect(),
        function_schema: announced.function_schema.clone(),
        supported_input_formats: announced.supported_input_formats.clone(),
        supported_output_formats: announced.supported_output_formats.clone(),
        experimental_flash_urls: server_url.into_iter().collect(),
        app_id: record.app.to_string(),
        base_function_id: record.base.as_ref().unwrap_or(&record.id).to_string(),
        ..FunctionHandleMetadata::default()
    })
}

fn method_metadata(
    name: &str,
    method: &MethodDefinition,
    urls: &HashMap<String, String>,
) -> FunctionHandleMetadata {
    FunctionHandleMetadata {
        function_name: method.function_name.clone(),
        function_type: method.function_type,
        web_url: urls.get(name).cloned().unwrap_or_default(),
        is_method: true,
        use_method_name: name.to_owned(),
        function_schema: method.function_schema.clone(),
        supported_input_formats: method.supported_input_formats.clone(),
        supported_output_formats: method.supported_output_formats.clone(),
        ..FunctionHandleMetadata::default()
    }
}

/// The methods of a function that HTTP requests come to; the function itself is the empty name.
pub(crate) fn web_methods(announced: &FunctionPrecreateRequest) -> Vec<String> {
    let methods = announced.method_definitions.iter();
    let mut names: Vec<String> = methods
        .filter(|(_, method)| is_web(method.webhook_config.as_ref()))
        .map(|(name, _)| name.clone())
        .collect();
    if is_web(announced.webhook_config.as_ref()) {
        names.push(String::new());
    }
    names.sort();
    names
}

/// The metadata of the function with the definition that is in use.
pub(crate) async fn current(ctx: &Ctx, record: &FunctionRecord) -> Result<FunctionHandleMetadata> {
    match &record.definition {
        Some(id) => {
            let data = ctx.functions.records.definition(id).await?;
            metadata(ctx, record, Some((id, &data))).await
        }
        None => metadata(ctx, record, None).await,
    }
}

/// All functions and classes of a layout, as clients and containers read them.
pub(crate) async fn app_layout(ctx: &Ctx, layout: &Layout) -> Result<AppLayout> {
    let mut objects = Vec::new();
    for id in layout.functions.values() {
        let record = ctx.functions.records.get(&FunctionId::parse(id)?).await?;
        let metadata = current(ctx, &record).await?;
        objects.push(object(id, HandleMetadataOneof::FunctionHandleMetadata(metadata)));
    }
    for (name, id) in &layout.classes {
        let metadata = class_metadata(ctx, layout, name).await?;
        objects.push(object(id, HandleMetadataOneof::ClassHandleMetadata(metadata)));
    }
    Ok(AppLayout {
        objects,
        function_ids: layout.functions.clone().into_iter().collect(),
        class_ids: layout.classes.clone().into_iter().collect(),
    })
}

/// The metadata of a class of a layout: that of its function.
pub(crate) async fn class_metadata(
    ctx: &Ctx,
    layout: &Layout,
    name: &str,
) -> Result<ClassHandleMetadata> {
    let Some(id) = layout.functions.get(&format!("{name}{CLASS_SUFFIX}")) else {
        return Ok(ClassHandleMetadata::default());
    };
    let record = ctx.functions.records.get(&FunctionId::parse(id)?).await?;
    Ok(ClassHandleMetadata {
        methods: Vec::new(),
        class_function_id: id.clone(),
        class_function_metadata: Some(current(ctx, &record).await?),
    })
}

fn object(id: &str, metadata: HandleMetadataOneof) -> Object {
    Object { object_id: id.to_owned(), handle_metadata_oneof: Some(metadata) }
}
