//! GPUs for build steps: there are none here, and a step that would miss one is not run.

use modal_proto::client::{GpuConfig, ImageGetOrCreateRequest};

use super::Images;
use super::definition::Definition;
use super::recipe::Instruction;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::ImageId;

/// Refuses a definition that asks for a GPU, unless something that was registered stands in for an
/// image it is built on: whoever registered it knows that there is none.
pub(super) async fn refuse(
    ctx: &Ctx,
    images: &Images,
    request: &ImageGetOrCreateRequest,
    definition: &Definition,
) -> Result<()> {
    let asked = request.image.as_ref().and_then(|image| image.gpu_config.as_ref());
    let Some(gpu) = asked.and_then(name) else { return Ok(()) };
    if is_substituted(ctx, images, definition).await? {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "build steps of the local server have no GPU (`{gpu}` was asked for): build without it, \
         register a substitution for the image that `FROM` names, or use the `modal` target"
    )))
}

/// The GPU in words, if one is asked for.
fn name(gpu: &GpuConfig) -> Option<String> {
    let is_asked = gpu.count > 0 || !gpu.gpu_type.is_empty() || gpu.r#type != 0;
    let name = if gpu.gpu_type.is_empty() { "any" } else { gpu.gpu_type.as_str() };
    is_asked.then(|| name.to_owned())
}

/// Looks at the images that this one is built on, down to those of registries.
async fn is_substituted(ctx: &Ctx, images: &Images, definition: &Definition) -> Result<bool> {
    let mut pending = vec![definition.clone()];
    while let Some(definition) = pending.pop() {
        let steps = definition.steps();
        for step in steps.map_err(|error| Error::invalid(error.to_string()))? {
            let Instruction::From { image, .. } = &step.instruction else { continue };
            match definition.bases.get(image) {
                Some(id) => {
                    let record = images.shared.records.get(&ImageId::parse(id)?).await?;
                    pending.extend(record.map(|record| record.definition));
                }
                None if ctx.substitutions.find(image).await?.is_some() => return Ok(true),
                None => {}
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_asks_for_nothing() {
        assert_eq!(name(&GpuConfig::default()), None);
        let t4 = GpuConfig { gpu_type: "T4".to_owned(), count: 1, ..GpuConfig::default() };
        assert_eq!(name(&t4).as_deref(), Some("T4"));
        assert_eq!(name(&GpuConfig { count: 1, ..GpuConfig::default() }).as_deref(), Some("any"));
    }
}
