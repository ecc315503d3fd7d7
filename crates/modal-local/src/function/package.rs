//! Modal's own Python package inside containers: the one that a client's version asks for.
//!
//! On Modal it lies in mounts of the global namespace. Here it comes from PyPI, by this machine's
//! package settings, once for each version: an image is built whose last step installs it, so that
//! it is cached, logged and cleared up like any other. The package itself becomes a mount with the
//! name that clients look up, `modal-client-mount-<version>`; what it imports becomes a layer for
//! each series of Python and builder version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use modal_proto::client::{
    DeploymentNamespace, Function, Image, ImageGetOrCreateRequest, MountGetOrCreateRequest,
};
use walkdir::WalkDir;

use super::standalone;
use crate::blocking;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::MountId;
use crate::image::{ImageRoot, Lease, Progress};
use crate::state::creation::Creation;
use crate::state::mounts::MountFile;

/// What the names of these mounts begin with.
const MOUNT_PREFIX: &str = "modal-client-mount-";
/// The packages of the mount, as the SDK's own `_create_client_mount` puts them together.
const PACKAGES: [&str; 4] = ["modal", "modal_proto", "modal_version", "synchronicity"];
/// Where the steps below install.
const CLIENT_DIR: &str = "opt/modal-client";
/// Whose pip installs; wheels for other Pythons are fetched by name.
const INSTALLER: &str = "FROM debian:bookworm";
/// How long a container waits for what its package imports.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The version of Modal's package that a mount's name asks for.
fn version_of(mount: &str) -> Option<&str> {
    let version = mount.strip_prefix(MOUNT_PREFIX)?;
    is_plain(version).then_some(version)
}

/// Whether a version is no more than that: it becomes part of a command.
fn is_plain(version: &str) -> bool {
    let plain = version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    plain && !version.is_empty()
}

/// Makes the mount that is looked up, if it is one of Modal's own and is not there yet.
///
/// # Errors
///
/// Where PyPI cannot be reached or has no such version; the message says which.
pub(crate) async fn provide_mount(ctx: &Ctx, request: &MountGetOrCreateRequest) -> Result<()> {
    let name = &request.deployment_name;
    let is_global = request.namespace() == DeploymentNamespace::Global;
    let is_own = version_of(name).is_some() || standalone::standalone_series(name).is_some();
    if !(is_global && is_own) {
        return Ok(());
    }
    let environment = ctx.environments.resolve("").await?;
    let look_up = Creation::LookUp(request.deployment_name.clone());
    let found =
        ctx.mounts.get_or_create(&environment, DeploymentNamespace::Global, &look_up, Vec::new());
    match found.await {
        Err(error) if error.is_not_found() => {}
        found => return found.map(drop),
    }
    let files = match standalone::files(ctx, request).await? {
        Some(files) => files,
        None => client_files(ctx, version_of(name).unwrap_or_default()).await?,
    };
    let create = Creation::IfMissing(request.deployment_name.clone());
    ctx.mounts.get_or_create(&environment, DeploymentNamespace::Global, &create, files).await?;
    Ok(())
}

/// The files of Modal's package in one version.
async fn client_files(ctx: &Ctx, version: &str) -> Result<Vec<MountFile>> {
    let (layer, _kept) = installed(ctx, &client_commands(version)).await?;
    let cas = ctx.cas.clone();
    blocking::run(move || {
        let root = layer.join(CLIENT_DIR);
        let mut files = Vec::new();
        for package in PACKAGES {
            collect(&root, package, &cas, &mut files)?;
        }
        Ok(files)
    })
    .await
}

/// The files of one package, below `/pkg`.
fn collect(
    root: &Path,
    package: &str,
    cas: &crate::state::cas::Cas,
    files: &mut Vec<MountFile>,
) -> Result<()> {
    for entry in WalkDir::new(root.join(package)) {
        let entry = entry.map_err(|error| Error::file("read", root)(error.into()))?;
        let path = entry.path();
        let is_cache = path.components().any(|part| part.as_os_str() == "__pycache__");
        if !entry.file_type().is_file() || is_cache {
            continue;
        }
        let inside = path.strip_prefix(root).unwrap_or(path);
        let contents = std::fs::read(path).map_err(Error::file("read", path))?;
        let hash = cas.put_bytes(&contents)?;
        files.push(MountFile::new(&format!("/pkg/{}", inside.display()), &hash.to_string(), None));
    }
    Ok(())
}

/// A directory with what Modal's package imports, for the Python of a function's image: a layer that
/// has `/__modal/deps`, and a `sitecustomize` that puts it last among the places for modules. It is
/// there for as long as the lease lives.
pub(crate) async fn dependencies(
    ctx: &Ctx,
    function: &Function,
    image: &ImageRoot,
) -> Result<(PathBuf, Lease)> {
    let version = client_version(ctx, function).await?;
    let python = image.python.as_deref().unwrap_or_default();
    let series: Vec<&str> = python.split(['.', ' ']).take(2).collect();
    let [major, minor] = series[..] else {
        let id = &function.image_id;
        return Err(Error::Precondition(format!(
            "nothing is known of the Python of image {id}, so that Modal's package cannot be given what \
             it imports: build the image on `debian_slim` or `python`"
        )));
    };
    let builder = image.base.builder_version();
    if !is_plain(builder) {
        return Err(Error::invalid(format!("`{builder:.40}` is no image builder version")));
    }
    installed(ctx, &dependency_commands(&version, builder, &format!("{major}.{minor}"))).await
}

/// The version of Modal's package among the function's mounts.
async fn client_version(ctx: &Ctx, function: &Function) -> Result<String> {
    for id in &function.mount_ids {
        let name = ctx.mounts.name_of(&MountId::parse(id)?).await?;
        if let Some(version) = name.as_deref().and_then(version_of) {
            return Ok(version.to_owned());
        }
        // A client that mounts its own sources says its version in them.
        for file in ctx.mounts.files(&MountId::parse(id)?).await? {
            if file.filename != "/pkg/modal_version/__init__.py" {
                continue;
            }
            let hash = crate::state::cas::Sha256Hash::from_hex(&file.sha256_hex)?;
            let path = ctx.cas.path_of(&hash);
            let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            if let Some(version) = version_in(&text).filter(|version| is_plain(version)) {
                return Ok(version);
            }
        }
    }
    Err(Error::Precondition("the function has no mount with Modal's own package".to_owned()))
}

/// The version that `modal_version/__init__.py` states.
fn version_in(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    line.split(['"', '\'']).nth(1).map(str::to_owned)
}

/// Installs the package and the one that is mounted beside it, in the version that it asks for.
fn client_commands(version: &str) -> Vec<String> {
    let pip = format!("python -m pip install --quiet --no-deps --target /{CLIENT_DIR}");
    let wanted = format!(
        "import importlib.metadata as m; d = m.Distribution.at('/{CLIENT_DIR}/modal-{version}.dist-info'); \
         print(next(r for r in d.requires if r.startswith('synchronicity')))"
    );
    vec![
        INSTALLER.to_owned(),
        format!("RUN {pip} modal=={version} && {pip} \"$(python -c \"{wanted}\")\""),
    ]
}

/// Installs what a builder version pins, as wheels for this Python; leaves nothing else behind. A pin
/// that the index no longer has in this very release may be a post-release of it: an index can
/// replace a release in no other way.
fn dependency_commands(version: &str, builder: &str, python: &str) -> Vec<String> {
    let pip = "TMPDIR=/__modal/tmp python -m pip install --quiet --no-deps";
    let platforms = ["manylinux_2_17", "manylinux2014", "manylinux_2_28"];
    let arch = std::env::consts::ARCH;
    let platforms = platforms.map(|name| format!("--platform {name}_{arch}")).join(" ");
    let pins = format!("/__modal/client/modal/builder/{builder}.txt");
    let wheels = format!(
        "{pip} --only-binary=:all: {platforms} --implementation cp --python-version {python} \
         --target /__modal/deps --requirement"
    );
    let site = "/pkg/sitecustomize.py";
    vec![
        INSTALLER.to_owned(),
        format!(
            "RUN mkdir -p /__modal/tmp /__modal/deps /pkg && {pip} --target /__modal/client modal=={version} \
             && {{ {wheels} {pins} || {{ sed 's/==[^ ;]*/&.*/' {pins} > /__modal/tmp/pins.txt \
             && {wheels} /__modal/tmp/pins.txt; }}; }} \
             && printf \"import sys; sys.path.append('/__modal/deps')\\n\" > {site} \
             && rm -rf /__modal/tmp /__modal/client"
        ),
    ]
}

/// Builds an image of these commands, if there is none; answers the directory of its last step, which
/// is there for as long as the lease lives.
pub(super) async fn installed(ctx: &Ctx, commands: &[String]) -> Result<(PathBuf, Lease)> {
    let image = Image { dockerfile_commands: commands.to_vec(), ..Image::default() };
    let request = ImageGetOrCreateRequest {
        image: Some(image),
        builder_version: ctx.config.image_builder_version.clone(),
        ..ImageGetOrCreateRequest::default()
    };
    let id = ctx.images.get_or_create(ctx, request).await?.id;
    let built = tokio::time::timeout(LIMIT, ctx.images.wait(ctx, &id)).await;
    match built
        .map_err(|_| Error::Precondition("installing Modal's package takes too long".into()))??
    {
        Progress::Built(_) => {}
        Progress::Failed(reason) => {
            return Err(Error::Precondition(format!(
                "Modal's own package could not be installed from PyPI: {reason}"
            )));
        }
        Progress::Building => {
            return Err(Error::Precondition("Modal's own package is not installed yet".to_owned()));
        }
    }
    let mut root = ctx.images.resolve(&id).await?;
    let last = root.layers.pop();
    let last = last.ok_or_else(|| Error::Precondition("an image has no layers".to_owned()))?;
    Ok((last, root.lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_name() {
        assert_eq!(version_of("modal-client-mount-1.6.4"), Some("1.6.4"));
        assert_eq!(version_of("modal-client-mount-1.6.4; rm"), None);
        assert_eq!(version_of("python-build-standalone.20230826.3.11.5-gnu"), None);
        assert_eq!(version_in("# x\n__version__ = \"1.6.4\"\n").as_deref(), Some("1.6.4"));
    }

    #[test]
    fn what_is_installed() {
        let mut commands = client_commands("1.6.4");
        commands.extend(dependency_commands("1.6.4", "2025.06", "3.11"));
        let text = commands.join("\n").replace(std::env::consts::ARCH, "ARCH");
        insta::assert_snapshot!(text);
    }
}
