//! What a stage begins with: an image of this server, or what stands in for one of a registry.

use super::stage::Stage;
use super::{Build, BuildError, STANDS_IN};
use crate::ids::ImageId;
use crate::image::base::pythons::MachinePython;
use crate::image::config::Arguments;
use crate::image::definition::Definition;
use crate::image::layer::LayerId;
use crate::image::recipe::{Command, Instruction, Step};
use crate::image::record::Progress;
use crate::image::reference::{self, Base};
use crate::state::secret_store::Variables;
use crate::substitution::Substitution;

impl Build<'_> {
    /// What `FROM image` starts with.
    pub(super) async fn base(
        &mut self,
        image: &str,
        alias: Option<String>,
    ) -> Result<Stage, BuildError> {
        let earlier = self.stages.iter().find(|stage| stage.is_called(image));
        let mut stage = match (earlier, self.definition.bases.get(image)) {
            (Some(stage), _) => stage.clone(),
            (None, Some(id)) => self.built_image(id).await?,
            (None, None) => self.registry_image(image).await?,
        };
        stage.alias = alias;
        stage.arguments = Arguments::default();
        stage.has_own_cmd = false;
        stage.is_prepared &= self.definition.is_global;
        if let Some(attempt) = &self.definition.attempt {
            stage.tip = stage.tip.child("forced", |hasher| {
                hasher.part(attempt);
            });
        }
        Ok(stage)
    }

    /// An image of this server. If it is still being built, that is waited for.
    pub(super) async fn built_image(&self, id: &str) -> Result<Stage, BuildError> {
        let id = ImageId::parse(id)?;
        let failed = |reason: String| BuildError::BaseImage { id: id.to_string(), reason };
        match self.images.wait(self.ctx, &id).await? {
            Progress::Built(built) => Ok(Stage::of(*built)),
            Progress::Failed(reason) => Err(failed(reason)),
            Progress::Building => Err(failed("its build was interrupted".to_owned())),
        }
    }

    /// What stands in for an image of a registry.
    async fn registry_image(&mut self, image: &str) -> Result<Stage, BuildError> {
        if let Some(substitution) = self.ctx.substitutions.find(image).await?
            && !self.within.contains(&substitution.matches)
        {
            return self.substitute(substitution).await;
        }
        if let Some(version) = reference::Reference::parse(image).uv_version() {
            return self.uv(image, version).await;
        }
        let choice = reference::choose(image, self.definition.is_global, self.images.pythons())?;
        for note in choice.notes {
            let note = format!("{image}: {note}");
            self.log.info(&note);
            self.substitutions.push(note);
        }
        let base = match &choice.base {
            Base::Debian(suite) | Base::WithPython(suite, _) => {
                let policy = self.ctx.config.bases;
                self.images.bases().debian(*suite, policy, self.settings, self.log).await
            }
            Base::Scratch => self.images.bases().scratch(),
        };
        let base = base.map_err(|source| BuildError::Base { image: image.to_owned(), source })?;
        let mut stage = Stage::new(base.layer, base.config);
        stage.is_prepared = choice.base != Base::Scratch;
        if let Base::WithPython(_, python) = choice.base {
            stage.config.python = Some(python.series.clone());
            let layer = self.python_layer(&stage, python).await?;
            stage.layers.push(layer.clone());
            stage.tip = layer;
        }
        Ok(stage)
    }

    /// A Python of this machine on top of a stage.
    async fn python_layer(
        &self,
        stage: &Stage,
        python: MachinePython,
    ) -> Result<LayerId, BuildError> {
        let (id, store) = (python.layer_id(&stage.tip), self.images.store().clone());
        let lock = self.images.layer_lock(&id);
        let _making = lock.lock().await;
        if !store.has(&id) {
            self.log.info(format!("copying Python {} of this machine", python.version));
            let id = id.clone();
            crate::blocking::run(move || python.make(&id, &store)).await?;
        }
        Ok(id)
    }

    /// What was registered for an image, built in its place.
    async fn substitute(&mut self, substitution: Substitution) -> Result<Stage, BuildError> {
        let Substitution { matches, dockerfile_commands, reason } = substitution;
        let note = format!("{matches}: {STANDS_IN}: {reason}");
        self.log.info(&note);
        self.substitutions.push(note);
        let definition = Definition {
            commands: dockerfile_commands,
            builder_version: self.definition.builder_version.clone(),
            ..Definition::default()
        };
        let inner = Build {
            ctx: self.ctx,
            images: self.images,
            definition: &definition,
            settings: self.settings,
            log: self.log,
            secrets: Variables::new(),
            context: Vec::new(),
            added_python: None,
            context_mounts: Vec::new(),
            stages: Vec::new(),
            substitutions: Vec::new(),
            scratch: self.images.store().scratch()?,
            within: self.within.iter().cloned().chain([matches]).collect(),
        };
        let built = Box::pin(inner.run()).await?;
        self.substitutions.extend(built.substitutions.iter().cloned());
        Ok(Stage::of(built))
    }

    /// The image of uv holds one program, which PyPI has, too.
    async fn uv(&mut self, image: &str, version: &str) -> Result<Stage, BuildError> {
        let package = match version.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("uv=={version}"),
            false => "uv".to_owned(),
        };
        let note = format!("{image}: `{package}` of PyPI stands in for it");
        self.log.info(&note);
        self.substitutions.push(note);
        let mut stage = Box::pin(self.registry_image("python:3.11-slim")).await?;
        let line = format!(
            "python -m pip install --quiet --target /opt/uv '{}' && mv /opt/uv/bin/uv /opt/uv/bin/uvx /",
            package.replace('\'', "")
        );
        let step = Step { text: line.clone(), instruction: Instruction::Ignored };
        let layer = self.run_command(&stage, &Command::Shell(line), &step).await?;
        self.push(&mut stage, layer).await?;
        Ok(stage)
    }
}
