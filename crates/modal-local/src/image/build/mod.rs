//! Building one image: its instructions in order, each on what the ones before have left.
//!
//! Instructions that change files make a layer; the others change the [`ImageConfig`]. A layer's name
//! follows from the layers below and from what the instruction depends on, so work done before, by
//! this or another image, is found and not done again.

mod copy;
mod error;
mod function;
mod stage;

use std::path::PathBuf;

pub(super) use self::error::BuildError;
use self::stage::Stage;
use super::base::pythons::MachinePython;
use super::config::{Arguments, ImageConfig};
use super::context::ContextFile;
use super::definition::Definition;
use super::layer::LayerId;
use super::log::BuildLog;
use super::recipe::{self, Command, Instruction, Step};
use super::record::{Built, Progress};
use super::reference::{self, Base};
use super::settings::PackageSettings;
use super::step::{self, StepPlace, StepSpec};
use super::{Images, users};
use crate::ctx::Ctx;
use crate::failpoint::{Point, reach};
use crate::ids::{ImageId, SecretId};
use crate::state::secret_store::Variables;
use crate::substitution::Substitution;

/// What the log says where a registered substitution is used.
pub(super) const STANDS_IN: &str = "a substitution stands in for it";
/// Longer chains are made one layer: look-ups in an overlay cost by its depth.
pub(super) const MAX_LAYERS: usize = 20;

/// A build under way.
pub(super) struct Build<'a> {
    ctx: &'a Ctx,
    images: &'a Images,
    definition: &'a Definition,
    settings: &'a PackageSettings,
    log: &'a BuildLog,
    secrets: Variables,
    context: Vec<ContextFile>,
    /// The series of the Python that the context holds, if it is one.
    added_python: Option<String>,
    /// Directories that hold the context: name below the settings' directory, source.
    context_mounts: Vec<(String, PathBuf)>,
    stages: Vec<Stage>,
    substitutions: Vec<String>,
    /// Holds the inline context files.
    scratch: tempfile::TempDir,
    /// The images whose substitutions this is part of: none stands in for itself.
    within: Vec<String>,
}

/// Builds the image that `definition` describes.
pub(super) async fn build(
    ctx: &Ctx,
    images: &Images,
    definition: &Definition,
    log: &BuildLog,
) -> Result<Built, BuildError> {
    let settings = images.settings().await;
    let secrets: Vec<SecretId> =
        definition.secrets.iter().map(|id| SecretId::parse(id)).collect::<Result<_, _>>()?;
    let mut build = Build {
        ctx,
        images,
        definition,
        settings,
        log,
        secrets: ctx.secrets.env_of(&secrets).await?,
        context: Vec::new(),
        added_python: None,
        context_mounts: Vec::new(),
        stages: Vec::new(),
        substitutions: Vec::new(),
        scratch: images.store().scratch()?,
        within: Vec::new(),
    };
    if let Some(function) = &definition.build_function {
        return build.run_function(function).await;
    }
    build.open_context().await?;
    build.run().await
}

impl Build<'_> {
    async fn run(mut self) -> Result<Built, BuildError> {
        let steps = recipe::parse(&self.definition.commands)?;
        let count = steps.len();
        let mut global = Arguments::default();
        for (index, step) in steps.iter().enumerate() {
            let name = format!("step {}/{count}: {}", index + 1, recipe::shorten(&step.text));
            match (&step.instruction, self.stages.is_empty()) {
                (Instruction::Arg { name, default }, true) => {
                    self.argument(&mut global, &Arguments::default(), name, default.as_deref())
                        .map_err(BuildError::word(step))?;
                }
                (Instruction::From { image, alias }, _) => {
                    self.log.info(&name);
                    let image = global
                        .expand(image, &ImageConfig { env: Vec::new(), ..ImageConfig::default() })
                        .map_err(BuildError::word(step))?;
                    let stage = self.base(&image, alias.clone()).await?;
                    self.stages.push(stage);
                }
                _ => self.instruction(step, &name, &global).await?,
            }
        }
        let stage = self.stages.pop().ok_or(BuildError::Empty)?;
        Ok(Built {
            layers: stage.layers,
            tip: stage.tip,
            config: stage.config,
            substitutions: self.substitutions,
        })
    }

    /// What `FROM image` starts with.
    async fn base(&mut self, image: &str, alias: Option<String>) -> Result<Stage, BuildError> {
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
    async fn built_image(&self, id: &str) -> Result<Stage, BuildError> {
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

    /// Carries out an instruction of the last stage.
    async fn instruction(
        &mut self,
        step: &Step,
        name: &str,
        global: &Arguments,
    ) -> Result<(), BuildError> {
        let Some(mut stage) = self.stages.pop() else { return Err(BuildError::Empty) };
        let done = self.apply(&mut stage, step, name, global).await;
        self.stages.push(stage);
        done
    }

    async fn apply(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        name: &str,
        global: &Arguments,
    ) -> Result<(), BuildError> {
        let makes_files = matches!(
            step.instruction,
            Instruction::Run(_) | Instruction::Script(_) | Instruction::Copy(_)
        );
        if let Instruction::Run(command) = &step.instruction
            && stage.is_prepared
            && command.is_pip()
        {
            self.log.info(name);
            return self.run_prepared(stage, command, step).await;
        }
        if stage.is_prepared && makes_files {
            self.log.info(format!("{name}: not run, the base stands in for its result"));
            return Ok(());
        }
        self.log.info(name);
        let expand = |stage: &Stage, word: &str| {
            stage.arguments.expand(word, &stage.config).map_err(BuildError::word(step))
        };
        match &step.instruction {
            Instruction::Run(command) => {
                let layer = self.run_command(stage, command, step).await?;
                self.push(stage, layer).await?;
            }
            Instruction::Script(document) => {
                let layer = self.run_script(stage, document, step).await?;
                self.push(stage, layer).await?;
            }
            Instruction::Copy(copy) => {
                let layer = self.copy(stage, copy, step).await?;
                self.push(stage, layer).await?;
                if copy.from.is_none() && self.added_python.is_some() {
                    stage.config.python.clone_from(&self.added_python);
                }
            }
            Instruction::Workdir(path) => {
                let path = expand(stage, path)?;
                stage.config.workdir = Some(stage.config.absolute(&path));
                let layer = self.make_workdir(stage, step).await?;
                self.push(stage, layer).await?;
            }
            Instruction::Env(pairs) => {
                // All words of one instruction see the environment before it.
                let before = stage.clone();
                for (name, word) in pairs {
                    stage.config.set_variable(name, expand(&before, word)?);
                }
            }
            Instruction::Arg { name, default } => {
                let mut arguments = std::mem::take(&mut stage.arguments);
                let set = self.argument(&mut arguments, global, name, default.as_deref());
                stage.arguments = arguments;
                set.map_err(BuildError::word(step))?;
            }
            Instruction::User(user) => stage.config.user = Some(expand(stage, user)?),
            Instruction::Cmd(command) => {
                stage.config.set_command(command);
                stage.has_own_cmd = true;
            }
            Instruction::Entrypoint(command) => {
                stage.config.set_entrypoint(command, stage.has_own_cmd);
            }
            Instruction::Shell(shell) => stage.config.shell.clone_from(shell),
            Instruction::From { .. } | Instruction::Ignored => {}
        }
        Ok(())
    }

    /// A build argument: what the request says, else its default, else what was said before `FROM`.
    fn argument(
        &self,
        arguments: &mut Arguments,
        global: &Arguments,
        name: &str,
        default: Option<&str>,
    ) -> Result<(), recipe::Problem> {
        let none = ImageConfig { env: Vec::new(), ..ImageConfig::default() };
        let value = match (self.definition.build_args.get(name), default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => arguments.expand(default, &none)?,
            (None, None) => match global.get(name) {
                Some(value) => value.to_owned(),
                None => return Ok(()),
            },
        };
        arguments.set(name, value);
        Ok(())
    }

    /// Runs what the base cannot stand in for: tools of `debian_slim` that only PyPI has. Without PyPI
    /// an image lacks them, and says so, but is there.
    async fn run_prepared(
        &mut self,
        stage: &mut Stage,
        command: &Command,
        step: &Step,
    ) -> Result<(), BuildError> {
        match self.run_command(stage, command, step).await {
            Ok(layer) => self.push(stage, layer).await,
            Err(error) => {
                let note = format!("the image is without what this step brings: {error}");
                self.log.info(&note);
                self.substitutions.push(note);
                Ok(())
            }
        }
    }

    async fn run_command(
        &self,
        stage: &Stage,
        command: &Command,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let argv = command.argv(&stage.config.shell);
        self.run_program(stage, argv, Vec::new(), "", step).await
    }

    /// Runs a program with the stage's settings; `script` is what it reads of the directories `shown`.
    async fn run_program(
        &self,
        stage: &Stage,
        argv: Vec<String>,
        shown: Vec<(String, PathBuf)>,
        script: &str,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let config = &stage.config;
        let arguments = stage.arguments.iter().filter(|(name, _)| config.variable(name).is_none());
        let env: Vec<(String, String)> = config.env.iter().chain(arguments).cloned().collect();
        let id = stage.tip.child("run", |hasher| {
            hasher.parts(&argv).parts(env.iter().map(|(name, value)| format!("{name}={value}")));
            hasher.part(config.workdir.as_deref().unwrap_or_default());
            hasher.part(config.user.as_deref().unwrap_or_default());
            hasher.parts(self.secrets.keys().collect::<Vec<_>>());
            if !script.is_empty() {
                hasher.part(script);
            }
        });
        let user = match &config.user {
            Some(user) => users::find(&self.paths(stage), user)
                .map_err(|source| BuildError::User { step: step.text.clone(), source })?,
            None => users::User { uid: 0, gid: 0, home: "/root".to_owned() },
        };
        let spec = StepSpec {
            argv,
            env: self.step_env(env, &user.home),
            cwd: config.workdir.clone().unwrap_or_else(|| "/".to_owned()),
            uid: user.uid,
            gid: user.gid,
            shown,
            network: true,
        };
        self.layer(id, stage, spec, step).await
    }

    /// The image's own variables win over the machine's settings, secrets over both.
    fn step_env(&self, image: Vec<(String, String)>, home: &str) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = vec![("HOME".to_owned(), home.to_owned())];
        env.extend(self.settings.env().map(|(name, value)| (name.clone(), value.clone())));
        let secrets =
            self.secrets.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        for (name, value) in image.into_iter().chain(secrets) {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        }
        env
    }

    /// Finds the layer, or makes it by running `spec` on the stage's layers.
    async fn layer(
        &self,
        id: LayerId,
        stage: &Stage,
        mut spec: StepSpec,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let lock = self.images.layer_lock(&id);
        let _one_at_a_time = lock.lock().await;
        let store = self.images.store();
        if store.has(&id) {
            self.log.info("  found in the cache");
            return Ok(id);
        }
        let failed = |source| BuildError::Step { step: recipe::shorten(&step.text), source };
        let scratch = store.scratch()?;
        let settings = scratch.path().join("settings");
        self.settings.write(&settings)?;
        for (name, source) in self.settings.links() {
            spec.shown.push((name.clone(), source.clone()));
        }
        for (name, _) in &spec.shown {
            crate::durable::create_dir(&settings.join(name), 0o755)?;
        }
        let changes = scratch.path().join("changes");
        crate::durable::create_dir(&changes, 0o700)?;
        let runtime = self.ctx.runtime().await?;
        let place = StepPlace {
            runtime: &runtime,
            layers: self.paths(stage),
            scratch: &changes,
            settings: &settings,
            log: self.log,
            room: &self.ctx.room,
        };
        let upper = step::run(&place, spec).await.map_err(failed)?;
        let (store, committed) = (store.clone(), id.clone());
        crate::blocking::run(move || {
            reach(Point::LayerBuilt);
            store.commit(&committed, &upper)?;
            reach(Point::LayerCommitted);
            drop(scratch);
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// Makes `layer` the stage's topmost.
    async fn push(&self, stage: &mut Stage, layer: LayerId) -> Result<(), BuildError> {
        let store = self.images.store();
        if !store.is_empty(&layer)? {
            stage.layers.push(layer.clone());
        }
        stage.tip = layer;
        if stage.layers.len() > MAX_LAYERS {
            stage.squash(store, self.log).await?;
        }
        Ok(())
    }

    fn paths(&self, stage: &Stage) -> Vec<PathBuf> {
        stage.layers.iter().map(|layer| self.images.store().path(layer)).collect()
    }
}
