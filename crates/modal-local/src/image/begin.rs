//! Begins builds, and records how they end.

use std::sync::Arc;

use futures::future::BoxFuture;
use modal_proto::client::ImageGetOrCreateRequest;
use tokio::sync::watch;

use super::definition::Definition;
use super::recipe::Instruction;
use super::record::{Built, ImageRecord, Progress};
use super::{BuildLog, ImageView, Images, Live, build, chain, digest, gpu, unknown_image};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{AppId, ImageId, MountId, SecretId};
use crate::logs::LogLine;

impl Images {
    /// The image of a definition; its build is begun if there is none and none under way.
    pub(crate) async fn get_or_create(
        &self,
        ctx: &Ctx,
        request: ImageGetOrCreateRequest,
    ) -> Result<ImageView> {
        let mut definition = self.define(ctx, &request).await?;
        let hash = self.hash(ctx, &definition).await?;
        if request.force_build || request.ignore_cache {
            definition.attempt = Some(crate::ids::random_suffix());
        } else if let Some(newest) = self.shared.records.newest(&hash).await? {
            definition.attempt = newest.definition.attempt;
        }
        let mut id = definition.image_id(&hash)?;
        if self.shared.records.is_deleted(&id).await? {
            // As on Modal: what was deleted does not come back, another image takes its place.
            definition.attempt = Some(crate::ids::random_suffix());
            id = definition.image_id(&hash)?;
        }
        let app = AppId::parse(&request.app_id).ok();
        self.ensure(ctx, &id, &hash, &definition, app).await
    }

    /// The request's definition, its inline files stored and the images it builds on known.
    async fn define(&self, ctx: &Ctx, request: &ImageGetOrCreateRequest) -> Result<Definition> {
        let image = request.image.clone().unwrap_or_default();
        for base in &image.base_images {
            let id = ImageId::parse(&base.image_id)?;
            if self.shared.records.get(&id).await?.is_none() {
                return Err(Error::Precondition(unknown_image(id.as_str()).to_string()));
            }
        }
        let cas = ctx.cas.clone();
        let hashes = crate::blocking::run(move || {
            let files = image.context_files.iter();
            files.map(|file| Ok(cas.put_bytes(&file.data)?.to_string())).collect::<Result<Vec<_>>>()
        })
        .await?;
        let definition = Definition::from_request(request, hashes)?;
        gpu::refuse(ctx, self, request, &definition).await?;
        Ok(definition)
    }

    async fn hash(&self, ctx: &Ctx, definition: &Definition) -> Result<String> {
        let checksum = match &definition.context_mount {
            Some(id) => ctx.mounts.get(&MountId::parse(id)?).await?.checksum,
            None => String::new(),
        };
        let secrets: Vec<SecretId> =
            definition.secrets.iter().map(|id| SecretId::parse(id)).collect::<Result<_, _>>()?;
        let keys: Vec<String> = ctx.secrets.env_of(&secrets).await?.into_keys().collect();
        let mut hash = definition.hash(&checksum, &keys);
        let steps = definition.steps();
        for step in steps.map_err(|error| Error::invalid(error.to_string()))? {
            let Instruction::From { image, .. } = &step.instruction else { continue };
            if let Some(substitution) = ctx.substitutions.find(image).await? {
                let mut hasher = digest::Hasher::new("substituted");
                hash = hasher.part(&hash).parts(&substitution.dockerfile_commands).finish_hex();
            }
        }
        Ok(hash)
    }

    /// Answers how far the image is; begins its build if it has to be built.
    pub(super) async fn ensure(
        &self,
        ctx: &Ctx,
        id: &ImageId,
        hash: &str,
        definition: &Definition,
        app: Option<AppId>,
    ) -> Result<ImageView> {
        let _one_at_a_time = self.shared.starting.lock().await;
        let known = self.shared.records.get(id).await?;
        let is_done = |record: &ImageRecord| match &record.progress {
            Progress::Built(built) => self.is_complete(built),
            _ => self.live(id).is_some(),
        };
        if let Some(record) = known.filter(is_done) {
            return Ok(self.view(record));
        }
        ctx.room.check()?;
        self.shared.records.begin(id, hash, definition).await?;
        let log = BuildLog::create(&self.log_path(id))?;
        let live = Arc::new(Live { log, ended: watch::Sender::new(false) });
        self.builds().insert(id.clone(), live.clone());
        let task = self.clone().carry_out(ctx.clone(), id.clone(), definition.clone(), live, app);
        tokio::spawn(task);
        Ok(self.view(self.record(id).await?))
    }

    /// Builds, records the end, and tells who waits. Boxed, because a build may begin another.
    fn carry_out(
        self,
        ctx: Ctx,
        id: ImageId,
        definition: Definition,
        live: Arc<Live>,
        app: Option<AppId>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let started = std::time::Instant::now();
            let end = self.attempt(&ctx, &definition, &live.log).await;
            match &end {
                Ok(_) => {
                    live.log.info(format!("built in {:.1} s", started.elapsed().as_secs_f64()))
                }
                Err(reason) => live.log.info(format!("build failed: {reason}")),
            }
            if let Err(error) = self.shared.records.finish(&id, &end).await {
                tracing::error!(%id, %error, "a build's end is not recorded: it will be done again");
            }
            if let Some(app) = app {
                let lines = live.log.since(0).into_iter().map(LogLine::from).collect();
                ctx.logs.append_build(&app, &id, lines).await;
            }
            self.builds().remove(&id);
            live.ended.send_replace(true);
        })
    }

    /// A build in a task of its own, so that a fault in it is a failed build and no more.
    async fn attempt(
        &self,
        ctx: &Ctx,
        definition: &Definition,
        log: &BuildLog,
    ) -> std::result::Result<Built, String> {
        let (images, ctx) = (self.clone(), ctx.clone());
        let (definition, log) = (definition.clone(), log.clone());
        let task = tokio::spawn(async move {
            // A function's container may wait for other builds.
            let _turn = match definition.build_function {
                Some(_) => None,
                None => Some(images.shared.turns.acquire().await.map_err(|error| chain(&error))?),
            };
            build::build(&ctx, &images, &definition, &log).await.map_err(|error| chain(&error))
        });
        task.await.unwrap_or_else(|error| Err(format!("the builder failed: {error}")))
    }
}
