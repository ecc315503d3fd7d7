//! Steps that run a program on a stage: its layer is found, or made.

use std::path::PathBuf;

use container_runtime::Mount;
use futures::future::try_join_all;

use super::stage::Stage;
use super::{Build, BuildError};
use crate::error::Error;
use crate::failpoint::{Point, reach};
use crate::ids::VolumeId;
use crate::image::layer::LayerId;
use crate::image::recipe::{self, Command, Step};
use crate::image::step::{self, StepPlace, StepSpec};
use crate::image::users;
use crate::sandbox::mount_target;

impl Build<'_> {
    /// Runs what the base cannot stand in for: tools of `debian_slim` that only PyPI has. Without PyPI
    /// an image lacks them, and says so, but is there.
    pub(super) async fn run_prepared(
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

    pub(super) async fn run_command(
        &self,
        stage: &Stage,
        command: &Command,
        step: &Step,
    ) -> Result<LayerId, BuildError> {
        let argv = command.argv(&stage.config.shell);
        self.run_program(stage, argv, Vec::new(), "", step).await
    }

    /// Runs a program with the stage's settings; `script` is what it reads of the directories `shown`.
    pub(super) async fn run_program(
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
            for volume in &self.definition.volumes {
                hasher
                    .part("volume")
                    .part(&volume.volume)
                    .part(&volume.path)
                    .part(&volume.sub_path);
            }
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
            volumes: self.volumes().await?,
            network: true,
        };
        self.layer(id, stage, spec, step).await
    }

    async fn volumes(&self) -> Result<Vec<Mount>, Error> {
        let mounts = self.definition.volumes.iter().map(|it| async move {
            let id = VolumeId::parse(&it.volume)?;
            let (source, sub_path) = self.ctx.volumes.directory(&id, &it.sub_path).await?;
            let target = mount_target(&it.path)?;
            let read_only = it.read_only;
            Ok::<_, Error>(Mount { sub_path, read_only, ..Mount::new(source, target) })
        });
        try_join_all(mounts).await
    }

    /// The image's own variables win over the machine's settings, secrets over both.
    pub(super) fn step_env(
        &self,
        image: Vec<(String, String)>,
        home: &str,
    ) -> Vec<(String, String)> {
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
    pub(super) async fn layer(
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
}
