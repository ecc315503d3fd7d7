//! What the target has.

use goat_services::{
    Deployed, DeployedSecret, Fingerprint, Fingerprints,
    catalog::{SECRETS, SETUP_DICT},
};
use modal_client::Client;

use crate::{
    backend::{self, Connection},
    context::Context,
};

/// The entry of the Dict that holds the key of fingerprints.
pub(super) const SALT: &str = "salt";

/// What the target has, and how its values are marked.
pub(crate) struct Found {
    pub(crate) deployed: Deployed,
    pub(crate) fingerprints: Fingerprints,
    /// Whether the key of fingerprints is stored already.
    pub(super) has_salt: bool,
    /// None where there was nothing to connect to, and nothing may be started.
    pub(crate) client: Option<Client>,
}

/// Looks at the target. One that only looks starts no server where there never was one.
pub(crate) async fn look(context: &Context, only_looks: bool) -> anyhow::Result<Found> {
    let connection = Connection::new(context, &context.environment);
    if only_looks && connection.local().is_some() && !context.state.root().exists() {
        let fingerprints = Fingerprints::generate()?;
        let deployed = Deployed::default();
        return Ok(Found { deployed, fingerprints, has_salt: false, client: None });
    }
    let (client, _) = backend::client(context).await?;
    let environments = client.environments().list().await?;
    if !environments.iter().any(|it| it.name == context.environment) {
        let (deployed, fingerprints) = (Deployed::default(), Fingerprints::generate()?);
        return Ok(Found { deployed, fingerprints, has_salt: false, client: Some(client) });
    }
    let (fingerprints, marks) = marks(&client).await?;
    let has_salt = fingerprints.is_some();
    let mut deployed = Deployed { environment: true, ..Deployed::default() };
    let listed = client.secrets().list().await?;
    for spec in SECRETS {
        if listed.iter().any(|secret| secret.name == spec.name) {
            let keys = client.secrets().info(spec.name).await?.keys.into_iter().collect();
            let of = |(name, mark): &(String, String)| {
                let key = name.strip_prefix(spec.name)?.strip_prefix('/')?;
                Some((key.to_owned(), Fingerprint::from_stored(mark.as_str())))
            };
            let fingerprints = marks.iter().filter_map(of).collect();
            deployed.secrets.insert(spec.name.to_owned(), DeployedSecret { keys, fingerprints });
        }
    }
    deployed.volumes = client.volumes().list().await?.into_iter().map(|it| it.name).collect();
    let fingerprints = fingerprints.map_or_else(Fingerprints::generate, Ok)?;
    Ok(Found { deployed, fingerprints, has_salt, client: Some(client) })
}

/// The key of fingerprints and the stored marks, as an earlier setup left them.
async fn marks(client: &Client) -> anyhow::Result<(Option<Fingerprints>, Vec<(String, String)>)> {
    use futures::TryStreamExt as _;
    let dict = match client.dict(SETUP_DICT).await {
        Ok(dict) => dict,
        Err(error) if error.is_not_found() => return Ok((None, Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut marks: Vec<(String, String)> = dict.items::<String>().try_collect().await?;
    let salt = marks.iter().position(|(name, _)| name == SALT).map(|at| marks.swap_remove(at).1);
    Ok((salt.map(Fingerprints::with_salt), marks))
}
