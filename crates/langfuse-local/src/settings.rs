//! What the server is told: the variables that Langfuse 2 reads, as far as they matter here.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// A value that never shows itself.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

/// Organization, project, keys and user to be made at the start, where they are missing. `LANGFUSE_INIT_*`.
#[derive(Debug, Clone)]
pub struct Init {
    /// `LANGFUSE_INIT_ORG_ID`; without it nothing is made.
    pub org_id: String,
    /// `LANGFUSE_INIT_ORG_NAME`.
    pub org_name: Option<String>,
    /// `LANGFUSE_INIT_PROJECT_ID`.
    pub project_id: Option<String>,
    /// `LANGFUSE_INIT_PROJECT_NAME`.
    pub project_name: Option<String>,
    /// `LANGFUSE_INIT_PROJECT_PUBLIC_KEY` and `…_SECRET_KEY`, both or none.
    pub keys: Option<(String, Secret)>,
    /// `LANGFUSE_INIT_USER_EMAIL` and `…_USER_PASSWORD`, both or none.
    pub user: Option<(String, Secret)>,
    /// `LANGFUSE_INIT_USER_NAME`.
    pub user_name: Option<String>,
}

/// How the server runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `DATABASE_URL`, with the password.
    pub database_url: Secret,
    /// Where it listens: `HOSTNAME` (loopback where absent) and `PORT` (3000 where absent).
    pub listen: SocketAddr,
    /// `SALT`: part of the fast hash of keys. Another salt makes the first use of a key slow, nothing else.
    pub salt: Secret,
    /// What is made at the start.
    pub init: Option<Init>,
}

impl Settings {
    /// Reads the variables through `lookup`. An empty one counts as absent.
    ///
    /// # Errors
    /// [`Error::Settings`] names the variable that is missing or wrong.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let need = |name: &str| {
            get(name).ok_or_else(|| Error::Settings { problem: format!("`{name}` is not set") })
        };
        let port = get("PORT").map_or(Ok(3000), |port| {
            let problem = format!("`PORT` is no port: `{port}`");
            port.parse().map_err(|_| Error::Settings { problem })
        })?;
        // A container's HOSTNAME is often a name: only an address says where to listen.
        let host = get("HOSTNAME").and_then(|host| host.parse().ok());
        Ok(Self {
            database_url: Secret::new(need("DATABASE_URL")?),
            listen: SocketAddr::new(host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port),
            salt: Secret::new(need("SALT")?),
            init: init(&get)?,
        })
    }
}

fn init(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Init>> {
    let var = |name: &str| get(&format!("LANGFUSE_INIT_{name}"));
    let pair = |one: &str, other: &str| match (var(one), var(other)) {
        (Some(one), Some(other)) => Ok(Some((one, Secret::new(other)))),
        (None, None) => Ok(None),
        _ => Err(Error::Settings {
            problem: format!(
                "set both `LANGFUSE_INIT_{one}` and `LANGFUSE_INIT_{other}`, or neither"
            ),
        }),
    };
    let keys = pair("PROJECT_PUBLIC_KEY", "PROJECT_SECRET_KEY")?;
    let user = pair("USER_EMAIL", "USER_PASSWORD")?;
    let Some(org_id) = var("ORG_ID") else {
        return Ok(None);
    };
    let (org_name, project_id) = (var("ORG_NAME"), var("PROJECT_ID"));
    let (project_name, user_name) = (var("PROJECT_NAME"), var("USER_NAME"));
    if keys.is_some() && project_id.is_none() {
        let problem = "keys need a project: set `LANGFUSE_INIT_PROJECT_ID`".to_owned();
        return Err(Error::Settings { problem });
    }
    Ok(Some(Init { org_id, org_name, project_id, project_name, keys, user, user_name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn it_listens_on_loopback_unless_told_otherwise() {
        let base = [("DATABASE_URL", "postgresql://u:secret@h/d"), ("SALT", "pepper")];
        let settings = read(&base).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:3000");
        assert!(!format!("{settings:?}").contains("secret"));
        let named = [base[0], base[1], ("HOSTNAME", "f00dcafe"), ("PORT", "0")];
        assert_eq!(read(&named).unwrap().listen.to_string(), "127.0.0.1:0");
        let open = [base[0], base[1], ("HOSTNAME", "0.0.0.0")];
        assert_eq!(read(&open).unwrap().listen.to_string(), "0.0.0.0:3000");
    }

    #[test]
    fn half_a_pair_of_keys_is_a_mistake() {
        let vars = [
            ("DATABASE_URL", "d"),
            ("SALT", "s"),
            ("LANGFUSE_INIT_ORG_ID", "o"),
            ("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", "pk"),
        ];
        assert_eq!(
            read(&vars).unwrap_err().to_string(),
            "the settings cannot be used: set both `LANGFUSE_INIT_PROJECT_PUBLIC_KEY` and `LANGFUSE_INIT_PROJECT_SECRET_KEY`, or neither"
        );
    }
}
