//! Standalone Pythons, which `add_python` copies into images.
//!
//! On Modal they lie in mounts of the global namespace, as releases of python-build-standalone. Here a mount with that
//! name is made, when it is asked for, of a Python of the same series: one that is installed on this machine, or Debian's.

use std::sync::Arc;

use modal_proto::client::MountGetOrCreateRequest;

use super::package;
use crate::blocking;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::image::{PythonFile, Suite, python_of_debian};
use crate::state::mounts::MountFile;

const PREFIX: &str = "python-build-standalone.";
/// From this release on they have a program `python`; for earlier ones the SDKs link it themselves.
const WITH_PYTHON: &str = "20241008";

/// The release and the series that a mount's name asks for.
fn parse(mount: &str) -> Option<(&str, String)> {
    let (release, version) = mount.strip_prefix(PREFIX)?.split_once('.')?;
    let version = version.strip_suffix("-gnu")?;
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    let is_plain = [major, minor].iter().all(|part| part.bytes().all(|it| it.is_ascii_digit()));
    // `t` stands for a Python without its lock, which is another program.
    (is_plain && !version.ends_with('t')).then(|| (release, format!("{major}.{minor}")))
}

/// The series of the Python in a mount of this name, if it is one.
pub(crate) fn standalone_series(mount: &str) -> Option<String> {
    parse(mount).map(|(_, series)| series)
}

/// The files of a mount that holds a Python; `None` where the name asks for something else.
pub(super) async fn files(
    ctx: &Ctx,
    request: &MountGetOrCreateRequest,
) -> Result<Option<Vec<MountFile>>> {
    let Some((release, series)) = parse(&request.deployment_name) else { return Ok(None) };
    let python = ctx.images.pythons().iter().find(|python| python.series == series).cloned();
    let debian = Suite::ALL.into_iter().find(|suite| suite.python() == series);
    let files: Vec<PythonFile> = match (python, debian) {
        (Some(python), _) => blocking::run(move || python.files()).await?,
        (None, Some(suite)) => {
            let base = [format!("FROM debian:{}", suite.codename())];
            let (root, _kept) = package::installed(ctx, &base).await?;
            let series = series.clone();
            blocking::run(move || python_of_debian(&root, &series)).await?
        }
        (None, None) => {
            return Err(Error::Precondition(format!(
                "`add_python=\"{series}\"` needs a Python of that series, and neither this machine nor a \
                 Debian release has one: install it with pyenv or uv, or ask for another"
            )));
        }
    };
    let has_python = release >= WITH_PYTHON;
    let cas = Arc::new(ctx.cas.clone());
    blocking::run(move || {
        let mut mounted = Vec::new();
        for file in files {
            let hash = cas.put_bytes(&file.contents)?.to_string();
            let mut names = vec![file.path.clone()];
            if file.path == format!("bin/python{series}") {
                names.push("bin/python3".to_owned());
                names.extend(has_python.then(|| "bin/python".to_owned()));
            }
            let mount =
                |name: String| MountFile::new(&format!("/python/{name}"), &hash, Some(file.mode));
            mounted.extend(names.into_iter().map(mount));
        }
        Ok(Some(mounted))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_is_in_the_name() {
        let series = |version: &str| standalone_series(&format!("{PREFIX}{version}-gnu"));
        assert_eq!(series("20230826.3.11.5").as_deref(), Some("3.11"));
        assert_eq!(series("20261021.3.14.9t"), None);
        assert_eq!(standalone_series("modal-client-mount-1.6.4"), None);
    }
}
