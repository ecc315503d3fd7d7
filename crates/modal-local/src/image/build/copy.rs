//! `COPY`, `ADD` and `WORKDIR`: files put into the image by a program inside its container.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Build, BuildError, Stage};
use crate::error::Error;
use crate::function::standalone::standalone_series;
use crate::ids::MountId;
use crate::image::context::{self, ContextFile, Item, Plan};
use crate::image::copy::{self, Orders};
use crate::image::digest::Hasher;
use crate::image::layer::LayerId;
use crate::image::recipe::{Copy, HereDocument, Step};
use crate::image::settings::INSIDE;
use crate::image::step::StepSpec;
use crate::image::{squash, users};
use crate::state::cas::Sha256Hash;

/// Names below the settings' directory.
const MOUNT: &str = "context";
const FILES: &str = "context-files";
const ORDERS: &str = "orders";
const FROM: &str = "from";
const DOCUMENTS: &str = "documents";
const SCRIPT: &str = "script";

impl Build<'_> {
    /// Lists what `COPY` can take, and readies the directories that hold it.
    pub(super) async fn open_context(&mut self) -> Result<(), BuildError> {
        self.add_inline_files()?;
        let Some(id) = &self.definition.context_mount else { return Ok(()) };
        let id = MountId::parse(id)?;
        let name = self.ctx.mounts.name_of(&id).await?;
        self.added_python = name.as_deref().and_then(standalone_series);
        for file in self.ctx.mounts.files(&id).await? {
            let path = context::normalize(&file.filename);
            if self.context.iter().any(|known| known.path == path) {
                continue;
            }
            let inside = format!("{INSIDE}/{MOUNT}/{path}");
            let (sha256_hex, mode) = (file.sha256_hex, file.mode);
            self.context.push(ContextFile { path, sha256_hex, mode, inside });
        }
        let tree = self.ctx.mounts.tree(&id).await?;
        self.context_mounts.push((MOUNT.to_owned(), tree));
        Ok(())
    }

    fn add_inline_files(&mut self) -> Result<(), BuildError> {
        let directory = self.scratch.path().join(FILES);
        crate::durable::create_dir(&directory, 0o755)?;
        for (index, (name, hash)) in self.definition.context_files.iter().enumerate() {
            let content = self.ctx.cas.path_of(&Sha256Hash::from_hex(hash)?);
            let target = directory.join(index.to_string());
            fs::copy(&content, &target).map_err(Error::file("copy", &content))?;
            self.context.push(ContextFile {
                path: context::normalize(name),
                sha256_hex: hash.clone(),
                mode: 0o644,
                inside: format!("{INSIDE}/{FILES}/{index}"),
            });
        }
        self.context_mounts.push((FILES.to_owned(), directory));
        Ok(())
    }

    pub(super) async fn copy(
        &mut self,
        stage: &Stage,
        copy: &Copy,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let expand = |word: &String| {
            stage.arguments.expand(word, &stage.config).map_err(BuildError::word(step))
        };
        let sources: Vec<String> = copy.sources.iter().map(expand).collect::<Result<_, _>>()?;
        let written = expand(&copy.target)?;
        let mut target = stage.config.absolute(&written);
        if (written.ends_with('/') || written.ends_with("/.") || written == ".") && target != "/" {
            target.push('/');
        }
        let mut shown = self.context_mounts.clone();
        let (plan, _while_it_runs) = match &copy.from {
            Some(from) => {
                let from = expand(from)?;
                let (plan, merged) = self.plan_from(&from, &sources, &target, step).await?;
                shown = vec![(FROM.to_owned(), merged.path().join(FROM))];
                (plan, Some(merged))
            }
            None => {
                let written = self.images.store().scratch()?;
                let documents = write_documents(stage, &copy.documents, written.path(), step)?;
                shown.push((DOCUMENTS.to_owned(), written.path().to_owned()));
                let plan = context::plan(&self.context, &sources, &documents, &target)
                    .map_err(|source| BuildError::Context { step: step.text.clone(), source })?;
                (plan, Some(written))
            }
        };
        if copy.add && self.has_archive(&plan)? {
            return Err(BuildError::refused(
                step,
                "the local server does not unpack archives: use `COPY` and `RUN tar -xf`",
            ));
        }
        let orders = self.orders(stage, copy, plan.items, step)?;
        let id = stage.tip.child("copy", |hasher| {
            hasher.part(plan.hash).part(format!("{:?} {:?}", orders.owner, orders.mode));
        });
        self.carry_out(id, stage, &orders, shown, step).await
    }

    pub(super) async fn make_workdir(
        &self,
        stage: &Stage,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let path = stage.config.workdir.clone().unwrap_or_default();
        let id = stage.tip.child("workdir", |hasher| {
            hasher.part(&path);
        });
        let orders = Orders { items: vec![Item::Directory { to: path }], owner: None, mode: None };
        self.carry_out(id, stage, &orders, Vec::new(), step).await
    }

    /// Plans copying from another stage or image, merged into one directory for the time of the step.
    async fn plan_from(
        &mut self,
        from: &str,
        sources: &[String],
        target: &str,
        step: &Step,
    ) -> Result<(Plan, tempfile::TempDir), BuildError> {
        if sources.iter().any(|source| source.contains(['*', '?', '['])) {
            return Err(BuildError::refused(
                step,
                "the local server supports no patterns with `--from`: name the directory",
            ));
        }
        let by_number =
            from.parse::<usize>().ok().and_then(|number| self.stages.get(number)).cloned();
        let other = match by_number {
            Some(stage) => stage,
            None => self.base(from, None).await?,
        };
        let mut hasher = Hasher::new("copy from");
        hasher.part(other.tip.as_str()).parts(sources).part(target);
        let several = sources.len() > 1;
        let (base, into_directory) =
            (target.trim_end_matches('/'), several || target.ends_with('/'));
        let item = |source: &String| Item::Tree {
            root: format!("{INSIDE}/{FROM}"),
            path: format!("/{}", context::normalize(source)),
            to: if base.is_empty() { "/".to_owned() } else { base.to_owned() },
            into_directory,
        };
        let plan = Plan { items: sources.iter().map(item).collect(), hash: hasher.finish() };
        let merged = self.images.store().scratch()?;
        let (layers, directory) = (self.paths(&other), merged.path().join(FROM));
        let paths: Vec<String> = sources.iter().map(|source| context::normalize(source)).collect();
        crate::blocking::run(move || {
            let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
            squash::merge_root(&layers, &directory, &paths)
        })
        .await?;
        Ok((plan, merged))
    }

    fn orders(
        &self,
        stage: &Stage,
        copy: &Copy,
        items: Vec<Item>,
        step: &Step,
    ) -> Result<Orders, BuildError> {
        let owner = match &copy.chown {
            None => None,
            Some(text) => {
                let user = users::find(&self.paths(stage), text)
                    .map_err(|source| BuildError::User { step: step.text.clone(), source })?;
                Some((user.uid, user.gid))
            }
        };
        let mode = match &copy.chmod {
            None => None,
            Some(text) => match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Some(mode),
                _ => return Err(BuildError::refused(step, "`--chmod` takes an octal number")),
            },
        };
        Ok(Orders { items, owner, mode })
    }

    /// Runs a here-document by the interpreter that its first line names.
    pub(super) async fn run_script(
        &self,
        stage: &Stage,
        document: &HereDocument,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let written = self.images.store().scratch()?;
        let path = written.path().join(SCRIPT);
        fs::write(&path, &document.text).map_err(Error::file("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set the mode of", &path))?;
        let argv = vec![format!("{INSIDE}/{SCRIPT}/{SCRIPT}")];
        let shown = vec![(SCRIPT.to_owned(), written.path().to_owned())];
        self.run_program(stage, argv, shown, &document.text, step).await
    }

    /// Runs the copying program on the stage's layers.
    async fn carry_out(
        &self,
        id: LayerId,
        stage: &Stage,
        orders: &Orders,
        mut shown: Vec<(String, PathBuf)>,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let written = self.images.store().scratch()?;
        let text = serde_json::to_vec(orders)
            .map_err(|error| Error::file("write", written.path())(error.into()))?;
        let path = written.path().join("orders.json");
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        shown.push((ORDERS.to_owned(), written.path().to_owned()));
        let spec = StepSpec {
            argv: vec![copy::PATH.to_owned(), format!("{INSIDE}/{ORDERS}/orders.json")],
            env: Vec::new(),
            cwd: "/".to_owned(),
            uid: 0,
            gid: 0,
            shown,
            volumes: Vec::new(),
            network: false,
        };
        self.layer(id, stage, spec, step).await
    }

    /// Whether `ADD` would unpack one of the files.
    fn has_archive(&self, plan: &Plan) -> Result<bool, BuildError> {
        for item in &plan.items {
            let Item::File { from, .. } = item else { continue };
            let Some(file) = self.context.iter().find(|file| file.inside == *from) else {
                continue;
            };
            let path = self.ctx.cas.path_of(&Sha256Hash::from_hex(&file.sha256_hex)?);
            let mut start = Vec::new();
            let opened = fs::File::open(&path).map_err(Error::file("open", &path))?;
            opened.take(512).read_to_end(&mut start).map_err(Error::file("read", &path))?;
            if is_archive(&start) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Writes the texts, their variables replaced, as files of `directory`.
fn write_documents(
    stage: &Stage,
    documents: &[HereDocument],
    directory: &Path,
    step: &Step,
) -> Result<Vec<ContextFile>, BuildError> {
    let write = |(index, document): (usize, &HereDocument)| {
        let text = stage.arguments.expand_document(document, &stage.config);
        let text = text.map_err(BuildError::word(step))?;
        let path = directory.join(index.to_string());
        fs::write(&path, &text).map_err(Error::file("write", &path))?;
        Ok(ContextFile {
            path: context::normalize(&document.name),
            sha256_hex: Sha256Hash::of(text.as_bytes()).to_string(),
            mode: 0o644,
            inside: format!("{INSIDE}/{DOCUMENTS}/{index}"),
        })
    };
    documents.iter().enumerate().map(write).collect()
}

/// tar, or anything compressed by gzip, bzip2 or xz.
fn is_archive(start: &[u8]) -> bool {
    let compressed: [&[u8]; 3] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"];
    compressed.iter().any(|magic| start.starts_with(magic))
        || start.get(257..262) == Some(b"ustar".as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_first_bytes() {
        assert!(is_archive(b"\x1f\x8b\x08"));
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&tar));
        assert!(!is_archive(b"#!/bin/sh\n") && !is_archive(b""));
    }
}
