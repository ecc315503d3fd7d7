//! What a function is run as: its definition, with the options of a variant merged into it.

use std::time::Duration;

use modal_proto::client::function_data::RankedFunction;
use modal_proto::client::{
    Function, FunctionData, FunctionOptions, HttpConfig, Resources, VolumeMount, WebhookConfig,
    WebhookType,
};

use super::records::FunctionRecord;
use super::scaling::Scaling;
use crate::error::{Error, Result};
use crate::ids::{AppId, DefinitionId, FunctionId};

/// How long an input may take where the definition says nothing; what the SDKs send.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// A function as its containers are made and its inputs are treated. Not `Debug`: a serialized
/// function may hold anything.
pub(crate) struct FunctionSpec {
    pub(crate) id: FunctionId,
    /// The function itself, for a variant the one it is made of.
    pub(crate) base: FunctionId,
    pub(crate) app: AppId,
    pub(crate) definition: DefinitionId,
    pub(crate) serialized_params: Vec<u8>,
    pub(crate) function: Function,
    pub(crate) scaling: Scaling,
}

impl FunctionSpec {
    /// The function of a record whose definition is `data`.
    pub(crate) fn new(
        record: &FunctionRecord,
        id: DefinitionId,
        data: &FunctionData,
    ) -> Result<Self> {
        let mut function = first(data)?.clone();
        merge(&mut function, &record.options);
        let scaling = Scaling::new(&function, &record.autoscaler);
        Ok(Self {
            id: record.id.clone(),
            base: record.base.clone().unwrap_or_else(|| record.id.clone()),
            app: record.app.clone(),
            definition: id,
            serialized_params: record.serialized_params.clone(),
            function,
            scaling,
        })
    }

    /// Whether it is a program that answers HTTP itself, instead of a function with inputs.
    pub(crate) fn is_server(&self) -> bool {
        self.function.is_server
    }

    /// Whether a server's requests belong to sticky sessions.
    pub(crate) fn is_sessioned(&self) -> bool {
        self.function.is_sessioned
    }

    /// Whether a server is the image's own command, without Modal's package.
    pub(crate) fn is_direct(&self) -> bool {
        let config = self.function.http_config.as_ref();
        self.is_server() && config.is_some_and(|config| config.lift_and_shift_config.is_some())
    }

    /// How a server is to be reached.
    pub(crate) fn http(&self) -> HttpConfig {
        self.function.http_config.clone().unwrap_or_default()
    }

    /// How long the requests of a server that is to end may take.
    pub(crate) fn exit_grace(&self) -> Duration {
        Duration::from_secs(self.http().exit_grace_period.into())
    }

    /// How long one input may take.
    pub(crate) fn timeout(&self) -> Duration {
        match self.function.timeout_secs {
            0 => DEFAULT_TIMEOUT,
            seconds => Duration::from_secs(seconds.into()),
        }
    }

    /// How long a container may take until it asks for its first input.
    pub(crate) fn startup_timeout(&self) -> Duration {
        match self.function.startup_timeout_secs {
            0 => self.timeout(),
            seconds => Duration::from_secs(seconds.into()),
        }
    }

    /// How inputs that failed are tried again: how often, and after how long the `attempt`th time.
    pub(crate) fn retry_delay(&self, attempt: u32) -> Option<Duration> {
        const LEAST: f64 = 1_000.0;
        const MOST: f64 = 86_400_000.0;
        let policy = self.function.retry_policy.as_ref()?;
        if attempt > policy.retries {
            return None;
        }
        let factor = f64::from(policy.backoff_coefficient.max(1.0));
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let delay = f64::from(policy.initial_delay_ms) * factor.powi(exponent);
        let most = if policy.max_delay_ms > 0 { f64::from(policy.max_delay_ms) } else { MOST };
        Some(Duration::from_secs_f64(delay.min(most).clamp(LEAST, MOST) / 1e3))
    }
}

/// The definition as one: what a request says, whichever way it says it.
///
/// # Errors
///
/// Where neither or both of the two forms came, or what cannot run on this machine is asked for.
pub(crate) fn from_request(
    function: Option<Function>,
    data: Option<FunctionData>,
) -> Result<FunctionData> {
    let data = match (function, data) {
        (Some(function), None) => of_one(function),
        (None, Some(data)) => data,
        (None, None) => return Err(Error::invalid("a function needs a definition")),
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "a function has one definition: `function` or `function_data`",
            ));
        }
    };
    check(first(&data)?)?;
    check_server(first(&data)?)?;
    check_domains(&data)?;
    Ok(data)
}

/// On Modal a domain is registered and verified first; nothing on this machine could answer for one.
fn check_domains(data: &FunctionData) -> Result<()> {
    let methods = data.method_definitions.values().filter_map(|it| it.webhook_config.as_ref());
    let domains = data.webhook_config.iter().chain(methods).flat_map(|it| &it.custom_domains);
    match domains.into_iter().next() {
        Some(domain) => Err(Error::invalid(format!(
            "custom domain '{}' is not registered: the local server has no custom domains",
            domain.name
        ))),
        None => Ok(()),
    }
}

/// A server must say where it listens.
fn check_server(function: &Function) -> Result<()> {
    let port = function.http_config.as_ref().map_or(0, |config| config.port);
    match u16::try_from(port) {
        Ok(1..) => Ok(()),
        _ if !function.is_server => Ok(()),
        _ => Err(Error::invalid(format!("a server listens on a port from 1 to 65535, not {port}"))),
    }
}

/// The names of GPUs that every rank of the definition asks for; empty if it runs without.
pub(crate) fn gpus(data: &FunctionData) -> Vec<String> {
    let gpu = |ranked: &RankedFunction| {
        let resources = ranked.function.as_ref()?.resources.as_ref()?;
        let gpu = resources.gpu_config.as_ref()?;
        (gpu.count > 0 || !gpu.gpu_type.is_empty()).then(|| gpu.gpu_type.clone())
    };
    let gpus: Option<Vec<String>> = data.ranked_functions.iter().map(gpu).collect();
    gpus.unwrap_or_default()
}

/// The function that runs here: the first rank. Ranks differ in their GPUs alone.
pub(crate) fn first(data: &FunctionData) -> Result<&Function> {
    let first = data.ranked_functions.iter().min_by_key(|ranked| ranked.rank);
    first
        .and_then(|ranked| ranked.function.as_ref())
        .ok_or_else(|| Error::invalid("the function's definition names no function"))
}

/// Whether HTTP requests are this function's inputs.
pub(crate) fn is_web(config: Option<&WebhookConfig>) -> bool {
    config.is_some_and(|config| config.r#type() != WebhookType::Unspecified)
}

fn of_one(function: Function) -> FunctionData {
    FunctionData {
        module_name: function.module_name.clone(),
        function_name: function.function_name.clone(),
        implementation_name: function.implementation_name.clone(),
        function_type: function.function_type,
        warm_pool_size: function.warm_pool_size,
        concurrency_limit: function.concurrency_limit,
        task_idle_timeout_secs: function.task_idle_timeout_secs,
        timeout_secs: function.timeout_secs,
        startup_timeout_secs: function.startup_timeout_secs,
        web_url: function.web_url.clone(),
        webhook_config: function.webhook_config.clone(),
        is_class: function.is_class,
        class_parameter_info: function.class_parameter_info.clone(),
        is_method: function.is_method,
        schedule: function.schedule.clone(),
        method_definitions: function.method_definitions.clone(),
        method_definitions_set: function.method_definitions_set,
        autoscaler_settings: function.autoscaler_settings,
        function_schema: function.function_schema.clone(),
        experimental_options: function.experimental_options.clone(),
        supported_input_formats: function.supported_input_formats.clone(),
        supported_output_formats: function.supported_output_formats.clone(),
        http_config: function.http_config.clone(),
        is_server: function.is_server,
        routing_region: function.routing_region.clone(),
        is_sessioned: function.is_sessioned,
        untrusted: function.untrusted,
        ranked_functions: vec![RankedFunction { rank: 0, function: Some(function) }],
        ..FunctionData::default()
    }
}

/// What Modal offers and this server does not, named instead of left out in silence.
fn check(function: &Function) -> Result<()> {
    let refused = [
        (!function.cloud_bucket_mounts.is_empty(), "cloud bucket mounts"),
        (!function.s3_mounts.is_empty(), "S3 mounts"),
        (function.proxy_id.as_ref().is_some_and(|id| !id.is_empty()), "proxies"),
        (
            function.http_config.is_some() && !function.is_server,
            "HTTP servers of classes (`modal.experimental.http_server`): use `@app.server`",
        ),
        (
            function.is_sessioned && !function.is_server,
            "sticky sessions (`@modal.sessioned`): they are of servers",
        ),
        (function.experimental_group_size > 1, "clusters"),
        (function.i6pn_enabled, "private networks between containers (i6pn)"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => {
            Err(Error::invalid(format!("functions of the local server have no {what}")))
        }
        None => Ok(()),
    }
}

/// A variant's options win over the definition.
fn merge(function: &mut Function, options: &FunctionOptions) {
    if options.replace_secret_ids {
        function.secret_ids.clear();
    }
    function.secret_ids.extend(options.secret_ids.iter().cloned());
    function.mount_ids.extend(options.mount_ids.iter().cloned());
    if options.replace_volume_mounts {
        function.volume_mounts.clear();
    }
    add_volumes(&mut function.volume_mounts, &options.volume_mounts);
    if let Some(resources) = &options.resources {
        merge_resources(function.resources.get_or_insert_default(), resources);
    }
    if options.retry_policy.is_some() {
        function.retry_policy = options.retry_policy;
    }
    let numbers = [
        (&mut function.concurrency_limit, options.concurrency_limit),
        (&mut function.timeout_secs, options.timeout_secs),
        (&mut function.task_idle_timeout_secs, options.task_idle_timeout_secs),
        (&mut function.warm_pool_size, options.warm_pool_size),
        (&mut function.target_concurrent_inputs, options.target_concurrent_inputs),
        (&mut function.max_concurrent_inputs, options.max_concurrent_inputs),
        (&mut function.batch_max_size, options.batch_max_size),
        (&mut function.experimental_buffer_containers, options.buffer_containers),
    ];
    for (field, option) in numbers {
        *field = option.unwrap_or(*field);
    }
    function.batch_linger_ms = options.batch_linger_ms.unwrap_or(function.batch_linger_ms);
    let settings = function.autoscaler_settings.get_or_insert_default();
    settings.max_containers = options.concurrency_limit.or(settings.max_containers);
    settings.min_containers = options.warm_pool_size.or(settings.min_containers);
    settings.buffer_containers = options.buffer_containers.or(settings.buffer_containers);
    settings.scaledown_window = options.task_idle_timeout_secs.or(settings.scaledown_window);
}

fn add_volumes(volumes: &mut Vec<VolumeMount>, more: &[VolumeMount]) {
    volumes.retain(|old| more.iter().all(|new| new.mount_path != old.mount_path));
    volumes.extend(more.iter().cloned());
}

fn merge_resources(resources: &mut Resources, more: &Resources) {
    let numbers = [
        (&mut resources.memory_mb, more.memory_mb),
        (&mut resources.milli_cpu, more.milli_cpu),
        (&mut resources.memory_mb_max, more.memory_mb_max),
        (&mut resources.milli_cpu_max, more.milli_cpu_max),
        (&mut resources.ephemeral_disk_mb, more.ephemeral_disk_mb),
    ];
    for (field, new) in numbers {
        if new > 0 {
            *field = new;
        }
    }
    if more.gpu_config.as_ref().is_some_and(|gpu| gpu.count > 0) {
        resources.gpu_config = more.gpu_config.clone();
    }
}

#[cfg(test)]
mod tests {
    use modal_proto::client::{FunctionRetryPolicy, GpuConfig};

    use super::*;

    fn record(options: FunctionOptions) -> FunctionRecord {
        FunctionRecord {
            id: FunctionId::random(),
            app: AppId::random(),
            name: "f".into(),
            base: None,
            serialized_params: Vec::new(),
            options,
            announced: Default::default(),
            definition: None,
            autoscaler: Default::default(),
        }
    }

    fn spec(function: Function, options: FunctionOptions) -> FunctionSpec {
        let data = from_request(Some(function), None).unwrap();
        FunctionSpec::new(&record(options), DefinitionId::random(), &data).unwrap()
    }

    #[test]
    fn retries_wait_longer_each_time_and_end() {
        let policy = FunctionRetryPolicy {
            retries: 3,
            backoff_coefficient: 2.0,
            initial_delay_ms: 1_500,
            max_delay_ms: 4_000,
        };
        let spec =
            spec(Function { retry_policy: Some(policy), ..Default::default() }, Default::default());
        let delays: Vec<_> = (1..=4).map(|attempt| spec.retry_delay(attempt)).collect();
        let millis = |ms| Some(Duration::from_millis(ms));
        assert_eq!(delays, [millis(1_500), millis(3_000), millis(4_000), None]);
    }

    #[test]
    fn a_variants_options_win() {
        let function =
            Function { timeout_secs: 10, secret_ids: vec!["st-1".into()], ..Default::default() };
        let options = FunctionOptions {
            timeout_secs: Some(20),
            secret_ids: vec!["st-2".into()],
            replace_secret_ids: true,
            concurrency_limit: Some(7),
            ..Default::default()
        };
        let spec = spec(function, options);
        assert_eq!(spec.timeout(), Duration::from_secs(20));
        assert_eq!(spec.function.secret_ids, ["st-2"]);
        assert_eq!(spec.scaling.max, 7);
    }

    #[test]
    fn a_function_needs_a_gpu_only_if_each_of_its_ranks_does() {
        let ranked = |gpu: Option<&str>| RankedFunction {
            rank: 0,
            function: Some(Function {
                resources: Some(Resources {
                    gpu_config: gpu.map(|it| GpuConfig {
                        count: 1,
                        gpu_type: it.into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        };
        let data = |ranks| FunctionData { ranked_functions: ranks, ..Default::default() };
        assert_eq!(gpus(&data(vec![ranked(Some("H100")), ranked(Some("A100"))])), ["H100", "A100"]);
        assert!(gpus(&data(vec![ranked(Some("H100")), ranked(None)])).is_empty());
    }

    #[test]
    fn what_cannot_run_here_is_refused_by_name() {
        let function = Function { i6pn_enabled: true, ..Default::default() };
        let error = from_request(Some(function), None).unwrap_err().to_string();
        assert!(error.contains("i6pn"), "{error}");
        assert!(from_request(None, None).is_err());
    }
}
