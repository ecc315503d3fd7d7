//! What a function is to be: its source, image, machine, scaling and address.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use modal_proto::client as api;
use secret_string::SecretString;

use super::{
    scaling::{Autoscaling, Retries, Schedule},
    web::Web,
};

use crate::{gpu::Gpu, image::Image, sandbox::MiB, sandbox::VolumeMount, secrets::Secret};

/// The time one call has unless it says otherwise: Modal's default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// A function to be deployed: a callable of a Python file, and how it runs.
///
/// ```
/// use std::time::Duration;
///
/// use modal_client::{Autoscaling, FunctionSpec, Image, MiB, Web};
///
/// let image = Image::debian_slim().pip_install(["litellm[proxy]"]);
/// let proxy = FunctionSpec::from_file("deploy.py", "proxy", &image)
///     .web(Web::server(4000).startup_timeout(Duration::from_secs(300)))
///     .memory(MiB(2048), None)
///     .autoscaling(Autoscaling::default().min(1).max(3))
///     .concurrent_inputs(1000);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it is deployed by `Client::deploy`"]
pub struct FunctionSpec {
    pub(super) source: Source,
    pub(super) name: String,
    pub(super) image: Image,
    pub(super) web: Option<Web>,
    pub(super) is_generator: bool,
    pub(super) gpus: Vec<Gpu>,
    pub(super) resources: api::Resources,
    pub(super) autoscaling: Autoscaling,
    pub(super) concurrent_inputs: Option<(u32, Option<u32>)>,
    pub(super) timeout: Duration,
    pub(super) startup_timeout: Option<Duration>,
    pub(super) retries: Option<Retries>,
    pub(super) schedule: Option<Schedule>,
    pub(super) secrets: Vec<Secret>,
    pub(super) env: BTreeMap<String, SecretString>,
    pub(super) volumes: Vec<(String, VolumeMount)>,
    pub(super) regions: Vec<String>,
    pub(super) cloud: Option<String>,
    pub(super) block_network: bool,
    pub(super) single_use_containers: bool,
}

/// Where the callable is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    Text { module: String, text: String },
}

impl FunctionSpec {
    /// The callable `name` of a local Python file, which is sent along; other files come with the image.
    pub fn from_file(path: impl Into<PathBuf>, name: impl Into<String>, image: &Image) -> Self {
        Self::new(Source::File(path.into()), name.into(), image)
    }

    /// The callable `name` of a Python module whose text is given here.
    pub fn from_source(
        module: impl Into<String>,
        text: impl Into<String>,
        name: impl Into<String>,
        image: &Image,
    ) -> Self {
        let source = Source::Text { module: module.into(), text: text.into() };
        Self::new(source, name.into(), image)
    }

    /// A server that is started by a command and listens on `port`: the whole function, without any Python of one's own.
    ///
    /// ```
    /// use modal_client::{FunctionSpec, Image};
    ///
    /// let files = FunctionSpec::server("files", ["python", "-m", "http.server", "8000"], 8000, &Image::debian_slim());
    /// ```
    pub fn server(
        name: impl Into<String>,
        command: impl IntoIterator<Item = impl Into<String>>,
        port: u16,
        image: &Image,
    ) -> Self {
        let name = name.into();
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        // JSON's strings are Python's, so the list is a list there too.
        let list = serde_json::Value::from(command).to_string();
        let text = format!("import subprocess\n\n\ndef {name}():\n    subprocess.Popen({list})\n");
        Self::from_source(format!("{name}_server"), text, name, image).web(Web::server(port))
    }

    fn new(source: Source, name: String, image: &Image) -> Self {
        Self {
            source,
            name,
            image: image.clone(),
            web: None,
            is_generator: false,
            gpus: Vec::new(),
            resources: api::Resources {
                gpu_config: Some(api::GpuConfig::default()),
                ..Default::default()
            },
            autoscaling: Autoscaling::default(),
            concurrent_inputs: None,
            timeout: DEFAULT_TIMEOUT,
            startup_timeout: None,
            retries: None,
            schedule: None,
            secrets: Vec::new(),
            env: BTreeMap::new(),
            volumes: Vec::new(),
            regions: Vec::new(),
            cloud: None,
            block_network: false,
            single_use_containers: false,
        }
    }

    /// Its name, by which it is looked up and called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it reachable by HTTP.
    pub fn web(mut self, web: Web) -> Self {
        self.web = Some(web);
        self
    }

    /// The GPU it runs on.
    pub fn gpu(self, gpu: Gpu) -> Self {
        self.gpus([gpu])
    }

    /// GPUs it may run on, the one wanted most first; another is taken where that one is not to be had.
    pub fn gpus(mut self, gpus: impl IntoIterator<Item = Gpu>) -> Self {
        self.gpus = gpus.into_iter().collect();
        self
    }

    /// Cores: how many are reserved, and at most how many it may use.
    pub fn cpu(mut self, reserved: f64, limit: Option<f64>) -> Self {
        self.resources.milli_cpu = crate::sandbox::milli(reserved);
        self.resources.milli_cpu_max = limit.map_or(0, crate::sandbox::milli);
        self
    }

    /// Memory: how much is reserved, and at how much it is killed.
    pub fn memory(mut self, reserved: MiB, limit: Option<MiB>) -> Self {
        self.resources.memory_mb = reserved.0;
        self.resources.memory_mb_max = limit.map_or(0, |limit| limit.0);
        self
    }

    /// Disk space, beyond what every container has.
    pub fn ephemeral_disk(mut self, size: MiB) -> Self {
        self.resources.ephemeral_disk_mb = size.0;
        self
    }

    /// How many containers it has.
    pub fn autoscaling(mut self, autoscaling: Autoscaling) -> Self {
        self.autoscaling = autoscaling;
        self
    }

    /// The callable is a generator, for [`Function::generate`](crate::Function::generate).
    pub fn generator(mut self) -> Self {
        self.is_generator = true;
        self
    }

    /// How many inputs a container works on at once; one unless this is called.
    pub fn concurrent_inputs(mut self, most: u32) -> Self {
        self.concurrent_inputs = Some((most, None));
        self
    }

    /// As [`concurrent_inputs`](Self::concurrent_inputs), and for how many of them the autoscaler aims.
    pub fn concurrent_inputs_with_target(mut self, most: u32, target: u32) -> Self {
        self.concurrent_inputs = Some((most, Some(target)));
        self
    }

    /// How long one call may take, to the second; five minutes unless this is called.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a container may take to start; as long as a call unless this is called.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = Some(timeout);
        self
    }

    /// Repeats calls that fail.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Calls it by itself.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Environment variables of a secret; a later secret wins.
    pub fn secret(mut self, secret: &Secret) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    /// An environment variable; it wins over secrets.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A volume at an absolute path.
    pub fn volume(mut self, path: impl Into<String>, mount: VolumeMount) -> Self {
        self.volumes.push((path.into(), mount));
        self
    }

    /// A region it may run in.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.regions.push(region.into());
        self
    }

    /// The cloud it runs in: `aws`, `gcp`, `oci`.
    pub fn cloud(mut self, cloud: impl Into<String>) -> Self {
        self.cloud = Some(cloud.into());
        self
    }

    /// Whether its containers reach nothing outside.
    pub fn block_network(mut self, block: bool) -> Self {
        self.block_network = block;
        self
    }

    /// Whether a container ends after one input.
    pub fn single_use_containers(mut self, single_use: bool) -> Self {
        self.single_use_containers = single_use;
        self
    }
}

/// What a spec contradicts itself in, or names that cannot be.
pub(super) fn check(spec: &FunctionSpec) -> Result<(), String> {
    let module = spec.module()?;
    for (what, name) in [("function", spec.name.as_str()), ("module", module.as_str())] {
        if !is_identifier(name) {
            return Err(format!("`{name}` cannot be the name of a Python {what}"));
        }
    }
    if let Some((path, _)) = spec.volumes.iter().find(|(path, _)| !path.starts_with('/')) {
        return Err(format!("the volume's path `{path}` is not absolute"));
    }
    if spec.timeout.as_secs() == 0 {
        return Err("the time-out must be a second at least".to_owned());
    }
    match (spec.autoscaling.min, spec.autoscaling.max) {
        (Some(min), Some(max)) if min > max => {
            Err(format!("the least of containers ({min}) is more than the most ({max})"))
        }
        _ => Ok(()),
    }
}

impl FunctionSpec {
    /// The module that holds the callable.
    pub(super) fn module(&self) -> Result<String, String> {
        match &self.source {
            Source::Text { module, .. } => Ok(module.clone()),
            Source::File(path) => {
                let is_python = path.extension().is_some_and(|extension| extension == "py");
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                stem.filter(|_| is_python)
                    .map(str::to_owned)
                    .ok_or_else(|| format!("`{}` is not a Python file", path.display()))
            }
        }
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_found_before_anything_is_sent() {
        let image = Image::debian_slim();
        let good = || FunctionSpec::from_file("a/app.py", "serve", &image);
        let bad = [
            FunctionSpec::from_file("app.txt", "serve", &image),
            FunctionSpec::from_file("my-app.py", "serve", &image),
            FunctionSpec::from_file("app.py", "not a name", &image),
            good().timeout(Duration::ZERO),
            good().autoscaling(Autoscaling::default().min(3).max(2)),
        ];
        for spec in bad {
            assert!(check(&spec).is_err(), "{spec:?}");
        }
        assert_eq!(check(&good()), Ok(()));
    }

    #[test]
    fn a_command_becomes_a_module_that_starts_it() {
        let spec =
            FunctionSpec::server("files", ["sh", "-c", "echo \"x\""], 80, &Image::debian_slim());
        let Source::Text { module, text } = &spec.source else { panic!("a file") };
        assert_eq!(module, "files_server");
        assert!(
            text.ends_with(
                "def files():\n    subprocess.Popen([\"sh\",\"-c\",\"echo \\\"x\\\"\"])\n"
            )
        );
    }
}
