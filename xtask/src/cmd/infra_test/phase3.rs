//! Phase 3: what is deployed, and who may what.

use anyhow::{Context as _, bail, ensure};
use goat_services::app::{Access, LANGFUSE_IMAGE, langfuse_routes, litellm_routes};
use litellm_config::Version;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Args,
    check::CheckId,
    deployed::Deployed,
    door::{Outside, Shown, TaskKey, own_requests, requests},
    phase::Phase,
    report::Report,
    within,
};
use crate::{cmd::langfuse::Answer, context::Context, reach::Services};

/// Routes of LiteLLM that the door does not list: some make keys, some show everything.
const UNLISTED: [(Method, &str); 8] = [
    (Method::GET, "/"),
    (Method::GET, "/ui"),
    (Method::GET, "/openapi.json"),
    (Method::GET, "/config/yaml"),
    (Method::GET, "/v1/files"),
    (Method::POST, "/key/generate"),
    (Method::POST, "/model/new"),
    (Method::GET, "/key/info"),
];

pub(super) async fn run(args: &Args, context: &Context, report: &mut Report<'_>) {
    let mut found = None;
    let look = async {
        let deployed = Deployed::look(context).await?;
        let words = deployed.words();
        found = Some((Services::new(&args.services, context)?, deployed));
        Ok(words)
    };
    report.check(CheckId::Deployed, look).await;
    if let Some((services, deployed)) = found {
        let looks = Looks { args, context, services, deployed };
        litellm(&looks, report).await;
        langfuse(&looks, report).await;
        return;
    }
    for check in CheckId::of_phase(Phase::Phase3).filter(|it| *it != CheckId::Deployed) {
        report.needs(check, CheckId::Deployed);
    }
}

/// What all checks of this phase look with.
struct Looks<'a> {
    args: &'a Args,
    context: &'a Context,
    services: Services<'a>,
    deployed: Deployed,
}

impl Looks<'_> {
    async fn proxy(&self) -> anyhow::Result<Outside> {
        let url = self.services.litellm_url().await?;
        Outside::new(url, self.args.patience(), self.context)
    }

    async fn langfuse(&self) -> anyhow::Result<Outside> {
        let url = self.services.traces_url().await?;
        Outside::new(url, self.args.patience(), self.context)
    }

    fn master(&self) -> anyhow::Result<Shown> {
        let key = self.services.secret(&["LITELLM_MASTER_KEY", "LITELLM_API_KEY"])?;
        Ok(Shown::Key(key.expose().to_owned()))
    }
}

async fn litellm(looks: &Looks<'_>, report: &mut Report<'_>) {
    let is_ready = report.check(CheckId::LitellmHealth, litellm_health(looks)).await;
    if is_ready {
        report.check(CheckId::LitellmVersion, litellm_version(looks)).await;
        report.check(CheckId::LitellmModels, litellm_models(looks)).await;
    } else {
        report.needs(CheckId::LitellmVersion, CheckId::LitellmHealth);
        report.needs(CheckId::LitellmModels, CheckId::LitellmHealth);
    }
    report.check(CheckId::DoorNoKey, no_key(looks)).await;
    report.check(CheckId::DoorWrongKey, wrong_key(looks)).await;
    report.check(CheckId::DoorAdmin, admin(looks)).await;
    report.check(CheckId::DoorUnlisted, unlisted(looks)).await;
}

async fn litellm_health(looks: &Looks<'_>) -> anyhow::Result<String> {
    let said = json_of(&looks.proxy().await?, "/health/readiness", &Shown::Nothing).await?;
    let status = said["status"].as_str().unwrap_or_default();
    ensure!(["healthy", "connected"].contains(&status), "it says `{status}`");
    Ok(format!("`{status}`"))
}

async fn litellm_version(looks: &Looks<'_>) -> anyhow::Result<String> {
    let set = looks.deployed.set;
    let path = "/health/readiness/details";
    let said = json_of(&looks.proxy().await?, path, &looks.master()?).await?;
    let version = said["litellm_version"].as_str().context("it says none")?;
    let wanted = set.litellm.to_string();
    ensure!(version == wanted, "it is {version}, but the set `{}` has {wanted}", set.name);
    Ok(format!("{version}, of the set `{}`", set.name))
}

async fn litellm_models(looks: &Looks<'_>) -> anyhow::Result<String> {
    let said = json_of(&looks.proxy().await?, "/v1/models", &looks.master()?).await?;
    let listed = said["data"].as_array().into_iter().flatten();
    let names: Vec<&str> = listed.filter_map(|model| model["id"].as_str()).collect();
    let wanted = looks.args.model.model.as_str();
    if !names.contains(&wanted) {
        bail!("it does not list `{wanted}`; it lists {}", names.join(", "));
    }
    Ok(format!("{} models, `{wanted}` among them", names.len()))
}

async fn no_key(looks: &Looks<'_>) -> anyhow::Result<String> {
    let routes = guarded();
    let keys = [("no key", Shown::Nothing)];
    let tried = looks.proxy().await?.refuses(&routes, &keys, &[StatusCode::UNAUTHORIZED]).await?;
    Ok(format!("{tried} routes refuse"))
}

/// Routes that ask for a key.
fn guarded() -> Vec<(Method, String)> {
    let routes = litellm_routes();
    let user = requests(&routes, Access::User);
    user.into_iter().chain(requests(&routes, Access::Admin)).chain(own_requests()).collect()
}

async fn wrong_key(looks: &Looks<'_>) -> anyhow::Result<String> {
    let (services, model) = (&looks.services, looks.args.model.model.as_str());
    let revoked = TaskKey::issue(services, model)?;
    services.litellm().await?.post("/goat/keys/revoke", &json!({ "run": revoked.run })).await?;
    let key = |key: TaskKey| Shown::Key(key.text);
    let keys = [
        ("a wrong key", Shown::Key("sk-wrong".to_owned())),
        ("a login", Shown::Login("admin".to_owned(), "admin".to_owned())),
        ("an expired key", key(TaskKey::expired(services, model)?)),
        ("a foreign key", key(TaskKey::foreign(model)?)),
        ("a revoked key", key(revoked)),
    ];
    let refused = [StatusCode::UNAUTHORIZED];
    let tried = looks.proxy().await?.refuses(&guarded(), &keys, &refused).await?;
    Ok(format!("{tried} tries are refused"))
}

async fn admin(looks: &Looks<'_>) -> anyhow::Result<String> {
    let key = TaskKey::issue(&looks.services, &looks.args.model.model)?;
    let mut routes = requests(&litellm_routes(), Access::Admin);
    routes.extend(own_requests());
    let keys = [("a task's key", Shown::Key(key.text))];
    let tried = looks.proxy().await?.refuses(&routes, &keys, &[StatusCode::FORBIDDEN]).await?;
    Ok(format!("{tried} routes refuse"))
}

async fn unlisted(looks: &Looks<'_>) -> anyhow::Result<String> {
    let routes = UNLISTED.map(|(method, path)| (method, path.to_owned()));
    let keys = [("the master key", looks.master()?)];
    let wanted = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST];
    let tried = looks.proxy().await?.refuses(&routes, &keys, &wanted).await?;
    Ok(format!("{tried} routes are not there"))
}

async fn langfuse(looks: &Looks<'_>, report: &mut Report<'_>) {
    if report.check(CheckId::LangfuseHealth, langfuse_health(looks)).await {
        report.check(CheckId::LangfuseVersion, langfuse_version(looks)).await;
        report.check(CheckId::LangfuseNoKey, langfuse_no_key(looks)).await;
    } else {
        report.needs(CheckId::LangfuseVersion, CheckId::LangfuseHealth);
        report.needs(CheckId::LangfuseNoKey, CheckId::LangfuseHealth);
    }
    database(looks, report).await;
}

async fn database(looks: &Looks<'_>, report: &mut Report<'_>) {
    if let Some(url) = &looks.deployed.existing {
        for check in CheckId::OF_OWN_DATABASE {
            report.skip(check, format!("the database of {url} is not this app's"));
        }
        return;
    }
    let limit = looks.args.patience();
    if report.check(CheckId::Postgres, within(limit, postgres(looks))).await {
        report.check(CheckId::PostgresBackup, within(limit, backup(looks))).await;
    } else {
        report.needs(CheckId::PostgresBackup, CheckId::Postgres);
    }
}

const LANGFUSE_HEALTH: &str = "/api/public/health";

async fn langfuse_health(looks: &Looks<'_>) -> anyhow::Result<String> {
    let said = json_of(&looks.langfuse().await?, LANGFUSE_HEALTH, &Shown::Nothing).await?;
    ensure!(said["status"] == "OK", "it says {}", said["status"]);
    Ok("`OK`".to_owned())
}

async fn langfuse_version(looks: &Looks<'_>) -> anyhow::Result<String> {
    let said = json_of(&looks.langfuse().await?, LANGFUSE_HEALTH, &Shown::Nothing).await?;
    let version = said["version"].as_str().context("it says none")?;
    if looks.deployed.existing.is_some() {
        return taken(looks, version);
    }
    let wanted = LANGFUSE_IMAGE.rsplit(':').next().unwrap_or_default();
    ensure!(version == wanted, "it is {version}, but {LANGFUSE_IMAGE} is deployed");
    Ok(version.to_owned())
}

/// Whether an existing Langfuse of this version takes what the deployed proxy sends.
fn taken(looks: &Looks<'_>, version: &str) -> anyhow::Result<String> {
    let set = looks.deployed.set;
    let major = version.parse::<Version>()?.major;
    set.with_server(major).check().with_context(|| format!("it is {version}"))?;
    Ok(format!("{version}, which takes what the set `{}` sends", set.name))
}

async fn langfuse_no_key(looks: &Looks<'_>) -> anyhow::Result<String> {
    let (public, _) = looks.services.project_keys()?;
    let public = public.expose().to_owned();
    let strangers = [
        ("no key", Shown::Nothing),
        ("a wrong secret key", Shown::Login(public, "sk-lf-wrong".to_owned())),
    ];
    let (door, refused) = (looks.langfuse().await?, [StatusCode::UNAUTHORIZED]);
    let mut tried = door.refuses(&api(looks), &strangers, &refused).await?;
    if looks.deployed.existing.is_none() {
        let others = [
            ("no key", Shown::Nothing),
            ("the proxy's master key", looks.master()?),
            ("a wrong key", Shown::Key("wrong".to_owned())),
        ];
        let database = requests(&langfuse_routes(), Access::Admin);
        tried += door.refuses(&database, &others, &refused).await?;
    }
    Ok(format!("{tried} tries are refused"))
}

/// One route that reads and the one that the proxy's traces go to. Version 4 has no list of traces.
fn api(looks: &Looks<'_>) -> Vec<(Method, String)> {
    let reads = match looks.deployed.existing {
        Some(_) => "/api/public/projects",
        None => "/api/public/traces",
    };
    let writes = looks.deployed.set.sends.path();
    vec![(Method::GET, reads.to_owned()), (Method::POST, writes.to_owned())]
}

async fn postgres(looks: &Looks<'_>) -> anyhow::Result<String> {
    let door = looks.services.postgres().await?;
    let counted = Answer::to(&door, "SELECT count(*) FROM traces").await?;
    let traces = counted.first().context("it counts no traces")?.to_owned();
    let writes = "CREATE TABLE infra_test (x int)";
    ensure!(
        Answer::to(&door, writes).await.is_err(),
        "it wrote: `{writes}` went through the way for queries"
    );
    Ok(format!("{traces} traces; it refuses to write"))
}

async fn backup(looks: &Looks<'_>) -> anyhow::Result<String> {
    let status = looks.services.postgres().await?.get("/goat/postgres/status").await?;
    let bases = status["bases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let newest = bases.iter().filter_map(|base| base["time"].as_str()).max();
    let newest = newest.context("there is no base backup")?;
    let (wal, number) = (&status["wal"], |value: &Value| value.as_i64().unwrap_or_default());
    let (archived, failed) = (number(&wal["archived"]), number(&wal["failed"]));
    if failed > 0 && archived == 0 {
        bail!("nothing of its log could be archived; tried {failed} times");
    }
    Ok(format!("{} base backups, the newest of {newest}; {archived} pieces archived", bases.len()))
}

async fn json_of(door: &Outside, path: &str, shown: &Shown) -> anyhow::Result<Value> {
    let answer = door.ask(&Method::GET, path, shown).await?;
    let status = answer.status();
    let text = answer.text().await.with_context(|| format!("the answer to {path} broke off"))?;
    if !status.is_success() {
        bail!("{path} answers {}: {}", status.as_u16(), crate::table::short(&text, 200));
    }
    serde_json::from_str(&text).with_context(|| format!("{path} answers no JSON"))
}
