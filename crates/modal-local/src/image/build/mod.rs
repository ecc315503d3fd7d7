//! Building one image: its instructions in order, each on what the ones before have left.
//!
//! Instructions that change files make a layer; the others change the [`ImageConfig`]. A layer's name
//! follows from the layers below and from what the instruction depends on, so work done before, by
//! this or another image, is found and not done again.

mod base;
mod copy;
mod error;
mod function;
mod run;
mod stage;

use std::path::PathBuf;

pub(super) use self::error::BuildError;
use self::stage::Stage;
use super::Images;
use super::config::{Arguments, ImageConfig};
use super::context::ContextFile;
use super::definition::Definition;
use super::layer::LayerId;
use super::log::BuildLog;
use super::recipe::{self, Instruction, Step};
use super::record::Built;
use super::settings::PackageSettings;
use crate::ctx::Ctx;
use crate::ids::SecretId;
use crate::state::secret_store::Variables;

/// What the log says where a registered substitution is used.
pub(super) const STANDS_IN: &str = "a substitution stands in for it";
/// Where SDKs put what Modal's own package needs to be imported, with image builder 2024.10 and before.
const CLIENT_REQUIREMENTS: &str = "/modal_requirements.txt";
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
        // What Modal's own package imports is part of an image of builder 2024.10 and before.
        let is_of_client = name.contains(CLIENT_REQUIREMENTS);
        if stage.is_prepared && makes_files && !is_of_client {
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
