//! `~/.modal.toml`: its tables are profiles.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConfigError, Environ};

/// The settings of one profile that this client knows; others are left alone.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) token_id: Option<String>,
    pub(super) token_secret: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) server_url: Option<String>,
    pub(super) image_builder_version: Option<String>,
    pub(super) max_throttle_wait: Option<Seconds>,
    pub(super) disable_api_proxy: Option<bool>,
    pub(super) oauth_refresh_token: Option<String>,
    pub(super) oauth_client_id: Option<String>,
    pub(super) oauth_client_secret: Option<String>,
    pub(super) oauth_jwt_key: Option<String>,
    active: bool,
}

/// A number of seconds; `modal config set` writes it as text.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    pub(super) fn text(self) -> String {
        match self {
            Self::Number(seconds) => seconds.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// The profile in force; without a file, an empty one without a name.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) name: Option<String>,
    pub(super) settings: Settings,
}

/// The profile that Modal's Python client would take: `MODAL_PROFILE`, else the active one, else `default`.
pub(super) fn profile(environ: &Environ) -> Result<Profile, ConfigError> {
    let wanted = environ.get("MODAL_PROFILE");
    let Some(path) = path(environ) else { return Ok(Profile::default()) };
    let Some(text) = read(&path)? else {
        return match wanted {
            Some(profile) if profile != "default" => Err(no_profile(profile, &path)),
            _ => Ok(Profile::default()),
        };
    };
    choose(parse(&text, &path)?, wanted, &path)
}

pub(super) fn path(environ: &Environ) -> Option<PathBuf> {
    let configured = environ.get("MODAL_CONFIG_PATH").map(PathBuf::from);
    configured.or_else(|| environ.get("HOME").map(|home| Path::new(home).join(".modal.toml")))
}

pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

fn parse(text: &str, path: &Path) -> Result<BTreeMap<String, Settings>, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Malformed {
        path: path.to_owned(),
        problem: error.message().to_owned(),
    })
}

fn choose(
    mut profiles: BTreeMap<String, Settings>,
    wanted: Option<&str>,
    path: &Path,
) -> Result<Profile, ConfigError> {
    let active: Vec<String> = profiles
        .iter()
        .filter(|(_, settings)| settings.active)
        .map(|(name, _)| name.clone())
        .collect();
    if active.len() > 1 {
        let problem = format!("more than one profile is active: {}", active.join(", "));
        return Err(ConfigError::Malformed { path: path.to_owned(), problem });
    }
    let is_default = wanted.is_none_or(|wanted| wanted == "default");
    if profiles.len() > 1 && active.is_empty() && is_default {
        let problem = "no profile is active; `modal profile activate NAME` chooses one".to_owned();
        return Err(ConfigError::Malformed { path: path.to_owned(), problem });
    }
    let name = match (wanted, active.into_iter().next()) {
        (Some(wanted), _) => wanted.to_owned(),
        (None, Some(active)) => active,
        (None, None) => "default".to_owned(),
    };
    match profiles.remove(&name) {
        Some(settings) => Ok(Profile { name: Some(name), settings }),
        None if wanted.is_some_and(|wanted| wanted != "default") => Err(no_profile(&name, path)),
        None => Ok(Profile::default()),
    }
}

fn no_profile(profile: &str, path: &Path) -> ConfigError {
    ConfigError::NoProfile { profile: profile.to_owned(), path: path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FILE: &str = r#"
        [work]
        token_id = "ak-work"
        token_secret = "as-work"
        environment = "goat"
        active = true
        theme = "dark"

        [home]
        token_id = "ak-home"
        token_secret = "as-home"
        server_url = "http://127.0.0.1:1"
    "#;

    fn config(text: &str, variables: &[(&str, &str)]) -> crate::Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("modal.toml");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_env_and_file(&Environ::from_pairs(
            pairs.chain([("MODAL_CONFIG_PATH".to_owned(), path)]),
        ))
    }

    #[test]
    fn the_active_profile_is_taken_unless_another_is_named() {
        let active = config(FILE, &[]).unwrap();
        assert_eq!((active.profile(), active.environment()), (Some("work"), Some("goat")));
        assert_eq!(active.server_urls(), ["https://api.modal.com", "https://api.modal2.com"]);
        let named = config(FILE, &[("MODAL_PROFILE", "home")]).unwrap();
        assert_eq!(named.server_urls(), ["http://127.0.0.1:1"]);
        assert_eq!(named.token_id.as_deref(), Some("ak-home"));
    }

    #[test]
    fn variables_win_over_the_file() {
        let both =
            config(FILE, &[("MODAL_TOKEN_ID", "ak-env"), ("MODAL_ENVIRONMENT", "dev")]).unwrap();
        assert_eq!((both.token_id.as_deref(), both.environment()), (Some("ak-env"), Some("dev")));
    }

    #[test]
    fn an_unknown_profile_two_active_ones_and_half_a_token_are_errors() {
        assert!(config(FILE, &[("MODAL_PROFILE", "nope")]).is_err());
        assert!(config("[a]\nactive = true\n[b]\nactive = true\n", &[]).is_err());
        assert!(config("[default]\ntoken_id = 'ak-1'\n", &[]).is_err());
    }

    #[test]
    fn several_profiles_need_an_active_one_or_a_name() {
        let two = "[a]\ntoken_id = 'ak-a'\ntoken_secret = 's'\n[default]\n";
        assert!(config(two, &[]).is_err());
        assert!(config(two, &[("MODAL_PROFILE", "default")]).is_err());
        assert_eq!(config(two, &[("MODAL_PROFILE", "a")]).unwrap().profile(), Some("a"));
    }

    #[test]
    fn a_profile_may_hold_what_variables_hold() {
        let file = "[a]\nmax_throttle_wait = 5\noauth_refresh_token = 'r'\noauth_client_id = 'c'\noauth_client_secret = 's'\n";
        let profile = config(file, &[("MODAL_PROFILE", "a")]).unwrap();
        assert_eq!(profile.max_throttle_wait, Some(std::time::Duration::from_secs(5)));
        assert!(profile.has_token());
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let error = config("[a]\ntoken_secret = 'as-planted'  'x'\n", &[]).unwrap_err();
        let text = format!("{error:?} {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("modal.toml") && !text.contains("as-planted"), "{text}");
    }

    #[test]
    fn without_a_file_there_is_a_server_and_no_token() {
        let config =
            Config::from_env_and_file(&Environ::from_pairs([("HOME", "/nonexistent")])).unwrap();
        assert!(!config.has_token() && config.profile().is_none());
    }
}
