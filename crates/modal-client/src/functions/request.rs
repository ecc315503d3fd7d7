//! The requests that create a function: data in, data out.

use std::time::Duration;

use modal_proto::client as api;

use super::{
    scaling::{Autoscaling, Retries, Schedule},
    spec::FunctionSpec,
    web::{Web, WebKind},
};
use crate::{
    ids::{AppId, FunctionId, ImageId, MountId, SecretId},
    sandbox::{seconds, volume_mount},
};

/// What a function's spec names, as the server knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resolved {
    pub(super) image: ImageId,
    pub(super) mounts: Vec<MountId>,
    pub(super) secrets: Vec<SecretId>,
}

pub(super) fn precreate(
    app: &AppId,
    spec: &FunctionSpec,
    existing: Option<String>,
) -> api::FunctionPrecreateRequest {
    let (input, output) = formats(spec);
    api::FunctionPrecreateRequest {
        app_id: app.to_string(),
        function_name: spec.name.clone(),
        existing_function_id: existing.unwrap_or_default(),
        function_type: kind(spec).into(),
        webhook_config: spec.web.as_ref().map(webhook),
        supported_input_formats: input,
        supported_output_formats: output,
        ..Default::default()
    }
}

/// Exactly one of `function` and `function_data` is sent, the latter for a choice of GPUs.
pub(super) fn create(
    app: &AppId,
    app_name: &str,
    module: String,
    spec: &FunctionSpec,
    resolved: &Resolved,
    id: &FunctionId,
) -> api::FunctionCreateRequest {
    let mut function = definition(app_name, module, spec, resolved);
    let data = match spec.gpus.as_slice() {
        [] => None,
        [gpu] => {
            set_gpu(&mut function, gpu.config());
            None
        }
        _ => Some(ranked(&function, spec)),
    };
    api::FunctionCreateRequest {
        function: if data.is_none() { Some(function) } else { None },
        function_data: data,
        app_id: app.to_string(),
        existing_function_id: id.to_string(),
        ..Default::default()
    }
}

fn definition(
    app_name: &str,
    module: String,
    spec: &FunctionSpec,
    resolved: &Resolved,
) -> api::Function {
    let (input, output) = formats(spec);
    let (most, target) = spec.concurrent_inputs.unwrap_or_default();
    let regions = (!spec.regions.is_empty())
        .then(|| api::SchedulerPlacement { regions: spec.regions.clone(), ..Default::default() });
    api::Function {
        module_name: module,
        function_name: spec.name.clone(),
        implementation_name: spec.name.clone(),
        mount_ids: resolved.mounts.iter().map(ToString::to_string).collect(),
        image_id: resolved.image.to_string(),
        definition_type: api::function::DefinitionType::File.into(),
        function_type: kind(spec).into(),
        resources: Some(spec.resources.clone()),
        secret_ids: resolved.secrets.iter().map(ToString::to_string).collect(),
        webhook_config: spec.web.as_ref().map(webhook),
        retry_policy: spec.retries.map(retry_policy),
        timeout_secs: seconds(spec.timeout),
        startup_timeout_secs: seconds(spec.startup_timeout.unwrap_or(spec.timeout)),
        app_name: app_name.to_owned(),
        volume_mounts: spec.volumes.iter().map(|(path, mount)| volume_mount(path, mount)).collect(),
        max_concurrent_inputs: most,
        target_concurrent_inputs: target.unwrap_or_default(),
        object_dependencies: dependencies(spec, resolved),
        block_network: spec.block_network,
        single_use_containers: spec.single_use_containers,
        max_inputs: spec.single_use_containers.into(),
        scheduler_placement: regions,
        cloud_provider_str: spec.cloud.clone().unwrap_or_default(),
        schedule: spec.schedule.as_ref().map(schedule),
        class_parameter_info: Some(api::ClassParameterInfo::default()),
        experimental_concurrent_cancellations: true,
        method_definitions_set: true,
        mount_client_dependencies: true,
        autoscaler_settings: Some(autoscaler(&spec.autoscaling)),
        // The older names of the same settings, which servers still read.
        warm_pool_size: spec.autoscaling.min.unwrap_or_default(),
        concurrency_limit: spec.autoscaling.max.unwrap_or_default(),
        experimental_buffer_containers: spec.autoscaling.buffer.unwrap_or_default(),
        task_idle_timeout_secs: spec.autoscaling.scaledown_window.map(seconds).unwrap_or_default(),
        supported_input_formats: input,
        supported_output_formats: output,
        ..Default::default()
    }
}

fn set_gpu(function: &mut api::Function, gpu: api::GpuConfig) {
    function.resources.get_or_insert_default().gpu_config = Some(gpu);
}

/// The same function once for each GPU, the one wanted most first.
fn ranked(function: &api::Function, spec: &FunctionSpec) -> api::FunctionData {
    use api::function_data::RankedFunction;
    let ranked_functions = spec.gpus.iter().zip(0..).map(|(gpu, rank)| {
        let mut function = function.clone();
        set_gpu(&mut function, gpu.config());
        RankedFunction { rank, function: Some(function) }
    });
    api::FunctionData {
        ranked_functions: ranked_functions.collect(),
        module_name: function.module_name.clone(),
        function_name: function.function_name.clone(),
        implementation_name: function.implementation_name.clone(),
        function_type: function.function_type,
        warm_pool_size: function.warm_pool_size,
        concurrency_limit: function.concurrency_limit,
        task_idle_timeout_secs: function.task_idle_timeout_secs,
        autoscaler_settings: function.autoscaler_settings,
        timeout_secs: function.timeout_secs,
        startup_timeout_secs: function.startup_timeout_secs,
        webhook_config: function.webhook_config.clone(),
        schedule: function.schedule.clone(),
        class_parameter_info: function.class_parameter_info.clone(),
        method_definitions_set: true,
        experimental_buffer_containers: function.experimental_buffer_containers,
        supported_input_formats: function.supported_input_formats.clone(),
        supported_output_formats: function.supported_output_formats.clone(),
        ..Default::default()
    }
}

fn formats(spec: &FunctionSpec) -> (Vec<i32>, Vec<i32>) {
    use api::DataFormat as Format;
    let numbers = |formats: &[Format]| formats.iter().map(|&format| format.into()).collect();
    match spec.web {
        Some(_) => (numbers(&[Format::Asgi]), numbers(&[Format::Asgi, Format::GeneratorDone])),
        None => {
            let values = [Format::Pickle, Format::Cbor];
            let output = [Format::Pickle, Format::Cbor, Format::GeneratorDone];
            let output = if spec.is_generator { &output[..] } else { &values };
            (numbers(&values), numbers(output))
        }
    }
}

fn kind(spec: &FunctionSpec) -> api::function::FunctionType {
    use api::function::FunctionType;
    if spec.is_generator { FunctionType::Generator } else { FunctionType::Function }
}

/// Secrets, image, volumes: in this order, as Modal's own client names them.
fn dependencies(spec: &FunctionSpec, resolved: &Resolved) -> Vec<api::ObjectDependency> {
    let secrets = resolved.secrets.iter().map(ToString::to_string);
    let volumes = spec.volumes.iter().map(|(_, mount)| mount.volume_id().to_string());
    secrets
        .chain([resolved.image.to_string()])
        .chain(volumes)
        .map(|object_id| api::ObjectDependency { object_id })
        .collect()
}

fn webhook(web: &Web) -> api::WebhookConfig {
    let mut config = api::WebhookConfig {
        requested_suffix: web.label.clone(),
        async_mode: api::WebhookAsyncMode::Auto.into(),
        requires_proxy_auth: web.requires_proxy_auth,
        custom_domains: web
            .custom_domains
            .iter()
            .map(|name| api::CustomDomainConfig { name: name.clone() })
            .collect(),
        ..Default::default()
    };
    match &web.kind {
        WebKind::Server { port, startup } => {
            config.set_type(api::WebhookType::WebServer);
            config.web_server_port = (*port).into();
            config.web_server_startup_timeout = startup.as_secs_f32();
        }
        WebKind::Endpoint { method, docs } => {
            config.set_type(api::WebhookType::Function);
            config.method.clone_from(method);
            config.web_endpoint_docs = *docs;
        }
        WebKind::Asgi => config.set_type(api::WebhookType::AsgiApp),
        WebKind::Wsgi => config.set_type(api::WebhookType::WsgiApp),
    }
    config
}

pub(super) fn autoscaler(autoscaling: &Autoscaling) -> api::AutoscalerSettings {
    api::AutoscalerSettings {
        min_containers: autoscaling.min,
        max_containers: autoscaling.max,
        buffer_containers: autoscaling.buffer,
        scaledown_window: autoscaling.scaledown_window.map(seconds),
        ..Default::default()
    }
}

fn retry_policy(retries: Retries) -> api::FunctionRetryPolicy {
    api::FunctionRetryPolicy {
        backoff_coefficient: retries.backoff,
        initial_delay_ms: millis(retries.first_delay),
        max_delay_ms: millis(retries.longest_delay),
        retries: retries.retries,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn schedule(schedule: &Schedule) -> api::Schedule {
    use api::schedule::{Cron, Period, ScheduleOneof};
    let schedule = match schedule {
        Schedule::Every(every) => ScheduleOneof::Period(period(*every)),
        Schedule::Cron { expression, timezone } => ScheduleOneof::Cron(Cron {
            cron_string: expression.clone(),
            timezone: timezone.clone(),
        }),
    };
    return api::Schedule { schedule_oneof: Some(schedule) };

    /// The period in whole days, hours and minutes, as a person would write it.
    fn period(every: Duration) -> Period {
        let whole = every.as_secs();
        let part =
            |unit: u64, within: u64| i32::try_from(whole % within / unit).unwrap_or(i32::MAX);
        Period {
            days: i32::try_from(whole / 86_400).unwrap_or(i32::MAX),
            hours: part(3_600, 86_400),
            minutes: part(60, 3_600),
            seconds: (whole % 60) as f32 + every.subsec_nanos() as f32 / 1e9,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gpu, Image};

    fn created(spec: &FunctionSpec) -> api::FunctionCreateRequest {
        let resolved = Resolved {
            image: "im-1".parse().unwrap(),
            mounts: Vec::new(),
            secrets: vec!["st-1".parse().unwrap()],
        };
        let (app, id) = ("ap-1".parse().unwrap(), "fu-1".parse().unwrap());
        create(&app, "app", "module".to_owned(), spec, &resolved, &id)
    }

    #[test]
    fn a_choice_of_gpus_is_sent_as_ranked_functions_alone() {
        let spec = FunctionSpec::from_file("app.py", "f", &Image::debian_slim());
        let one = created(&spec.clone().gpu(Gpu::new("h100").count(2)));
        let gpu = one.function.unwrap().resources.unwrap().gpu_config.unwrap();
        assert_eq!((gpu.gpu_type.as_str(), gpu.count), ("H100", 2));
        assert!(one.function_data.is_none());
        let choice = created(&spec.gpus([Gpu::new("H100"), Gpu::new("A100")]));
        assert!(choice.function.is_none());
        let ranked = choice.function_data.unwrap().ranked_functions;
        let kinds: Vec<_> = ranked
            .into_iter()
            .map(|ranked| {
                let resources = ranked.function.unwrap().resources.unwrap();
                (ranked.rank, resources.gpu_config.unwrap().gpu_type)
            })
            .collect();
        assert_eq!(kinds, [(0, "H100".to_owned()), (1, "A100".to_owned())]);
    }

    #[test]
    fn a_period_is_written_in_its_units() {
        let Some(api::schedule::ScheduleOneof::Period(period)) =
            schedule(&Schedule::Every(Duration::from_secs(90_061))).schedule_oneof
        else {
            panic!("not a period")
        };
        assert_eq!((period.days, period.hours, period.minutes), (1, 1, 1));
        assert!((period.seconds - 1.0).abs() < f32::EPSILON);
    }
}
