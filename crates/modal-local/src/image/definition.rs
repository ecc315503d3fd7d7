//! What an image is made of, and the id that follows from it.

use std::collections::BTreeMap;

use modal_proto::client::{DeploymentNamespace, ImageGetOrCreateRequest};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::digest::Hasher;
use super::recipe::{self, RecipeError, Step};
use crate::error::{Error, Result};
use crate::ids::ImageId;

/// A call of the client's that makes a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildFunction {
    /// Which function; a new one each time that a client comes.
    pub(crate) function: String,
    /// Its source, as the client's SDK tells changes by.
    pub(crate) definition: String,
    /// The hash of the variables that it uses.
    pub(crate) globals: String,
    /// A `FunctionInput`, in hexadecimal digits.
    pub(crate) input: String,
}

/// A volume that the steps see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildVolume {
    pub(crate) volume: String,
    pub(crate) path: String,
    pub(crate) sub_path: String,
    pub(crate) read_only: bool,
}

/// An image's definition, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// Dockerfile lines.
    pub(crate) commands: Vec<String>,
    /// Images that `FROM` and `COPY --from` may name, by tag.
    pub(crate) bases: BTreeMap<String, String>,
    /// The files of `COPY`.
    pub(crate) context_mount: Option<String>,
    /// Further files of `COPY`: name, and the hash of the contents.
    pub(crate) context_files: Vec<(String, String)>,
    /// Secrets in the environment of `RUN`.
    pub(crate) secrets: Vec<String>,
    pub(crate) build_args: BTreeMap<String, String>,
    /// Published by Modal itself: `debian_slim`.
    pub(crate) is_global: bool,
    pub(crate) builder_version: String,
    /// Makes a build that was asked for by force different from the one before.
    pub(crate) attempt: Option<String>,
    /// What is called instead of commands that are run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) build_function: Option<BuildFunction>,
    /// Shown to `RUN`, and no part of what it leaves behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<BuildVolume>,
}

impl Definition {
    /// From a request, whose context files the caller has stored under these hashes.
    pub(crate) fn from_request(
        request: &ImageGetOrCreateRequest,
        context_hashes: Vec<String>,
    ) -> Result<Self> {
        let image = request.image.clone().unwrap_or_default();
        let build_function = image.build_function.map(|it| BuildFunction {
            function: request.build_function_id.clone(),
            definition: it.definition,
            globals: Hasher::new("globals").part(it.globals).finish_hex(),
            input: hex::encode(it.input.unwrap_or_default().encode_to_vec()),
        });
        if build_function.is_none() {
            recipe::parse(&image.dockerfile_commands)
                .map_err(|error| Error::invalid(error.to_string()))?;
        }
        let volumes = image.volume_mounts.into_iter().map(|mount| BuildVolume {
            volume: mount.volume_id,
            path: mount.mount_path,
            sub_path: mount.sub_path.unwrap_or_default(),
            read_only: mount.read_only,
        });
        let files = image.context_files.into_iter().map(|file| file.filename);
        Ok(Self {
            commands: image.dockerfile_commands,
            bases: image
                .base_images
                .into_iter()
                .map(|base| (base.docker_tag, base.image_id))
                .collect(),
            context_mount: Some(image.context_mount_id).filter(|id| !id.is_empty()),
            context_files: files.zip(context_hashes).collect(),
            secrets: image.secret_ids,
            build_args: image.build_args.into_iter().collect(),
            is_global: request.namespace == i32::from(DeploymentNamespace::Global),
            builder_version: request.builder_version.clone(),
            attempt: None,
            build_function,
            volumes: volumes.collect(),
        })
    }

    /// Its Dockerfile's instructions; a layer that a function makes has none.
    pub(crate) fn steps(&self) -> Result<Vec<Step>, RecipeError> {
        match self.build_function {
            Some(_) => Ok(Vec::new()),
            None => recipe::parse(&self.commands),
        }
    }

    /// The hash of everything the result depends on. A mount counts by its contents, a secret by the
    /// names of its variables: ids of nameless ones are new each time.
    pub(crate) fn hash(&self, mount_checksum: &str, secret_keys: &[String]) -> String {
        let mut hasher = Hasher::new("image");
        hasher.parts(&self.commands);
        for (name, value) in &self.bases {
            hasher.part("base").part(name).part(value);
        }
        hasher.part("context").part(mount_checksum);
        for (name, hash) in &self.context_files {
            hasher.part("file").part(name).part(hash);
        }
        hasher.part("secrets").parts(secret_keys);
        for (name, value) in &self.build_args {
            hasher.part("argument").part(name).part(value);
        }
        if let Some(function) = &self.build_function {
            hasher.part("function").part(&function.definition);
            hasher.part(&function.globals).part(&function.input);
        }
        for volume in &self.volumes {
            hasher.part("volume").part(&volume.volume).part(&volume.path).part(&volume.sub_path);
            hasher.part(if volume.read_only { "read-only" } else { "" });
        }
        hasher.part(if self.is_global { "global" } else { "" }).part(&self.builder_version);
        hasher.finish_hex()
    }

    /// The id of the image with this hash.
    pub(crate) fn image_id(&self, hash: &str) -> Result<ImageId> {
        let mut hasher = Hasher::new("image id");
        hasher.part(hash).part(self.attempt.as_deref().unwrap_or_default());
        Ok(ImageId::parse(&format!("{}{}", ImageId::PREFIX, letters(&hasher.finish())))?)
    }
}

/// 22 letters and digits: as long as the real service's ids.
fn letters(hash: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    hash.iter().take(22).map(|byte| char::from(ALPHABET[usize::from(*byte) % 62])).collect()
}

#[cfg(test)]
mod tests {
    use modal_proto::client::{BaseImage, BuildFunction, Image, ImageContextFile};

    use super::*;

    fn request() -> ImageGetOrCreateRequest {
        let image = Image {
            dockerfile_commands: vec!["FROM base".into(), "COPY /.a /a".into()],
            base_images: vec![BaseImage { image_id: "im-1".into(), docker_tag: "base".into() }],
            context_files: vec![ImageContextFile { filename: "/.a".into(), data: b"x".into() }],
            context_mount_id: "mo-1".into(),
            secret_ids: vec!["st-1".into()],
            ..Image::default()
        };
        ImageGetOrCreateRequest {
            image: Some(image),
            builder_version: "2025.06".into(),
            ..ImageGetOrCreateRequest::default()
        }
    }

    fn definition() -> Definition {
        Definition::from_request(&request(), vec!["00ff".into()]).unwrap()
    }

    #[test]
    fn the_stored_form() {
        insta::assert_json_snapshot!(definition());
    }

    #[test]
    fn the_same_definition_has_the_same_id_whatever_its_parts_are_called() {
        let (one, mut two) = (definition(), definition());
        two.context_mount = Some("mo-2".into());
        two.secrets = vec!["st-2".into()];
        let keys = ["TOKEN".to_owned()];
        assert_eq!(one.hash("contents", &keys), two.hash("contents", &keys));
        assert_ne!(one.hash("contents", &keys), one.hash("other contents", &keys));
        assert_ne!(one.hash("contents", &keys), one.hash("contents", &[]));
        assert_eq!(one.image_id("h").unwrap(), two.image_id("h").unwrap());
        two.attempt = Some("forced".into());
        assert_ne!(one.image_id("h").unwrap(), two.image_id("h").unwrap());
    }

    #[test]
    fn what_cannot_be_built_is_refused_at_once() {
        let mut broken = request();
        broken.image.as_mut().unwrap().dockerfile_commands.push("FETCH x".into());
        let error = Definition::from_request(&broken, vec![]).unwrap_err();
        assert!(error.to_string().contains("`FETCH` is not an instruction"), "{error}");
    }

    #[test]
    fn a_function_counts_by_its_source_and_its_input_and_not_by_its_id() {
        let definition = |id: &str, source: &str| {
            let mut request = request();
            let image = request.image.as_mut().unwrap();
            image.dockerfile_commands.clear();
            image.build_function =
                Some(BuildFunction { definition: source.to_owned(), ..BuildFunction::default() });
            request.build_function_id = id.to_owned();
            Definition::from_request(&request, vec!["h".into()]).unwrap()
        };
        let hash = |id, source| definition(id, source).hash("", &[]);
        assert_eq!(hash("fu-1", "def f(): pass"), hash("fu-2", "def f(): pass"));
        assert_ne!(hash("fu-1", "def f(): pass"), hash("fu-1", "def f(): return 1"));
        assert!(definition("fu-1", "").steps().unwrap().is_empty());
    }
}
