//! What every call says about its sender.

use std::sync::Arc;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::assertion::Signer;
use crate::{
    config::{Config, ConfigError, Credentials, Proof},
    error::Result,
};

/// The version of Modal's own client whose requests this one sends; servers compare it with the oldest they serve.
pub(crate) const CLIENT_VERSION: &str = "1.6.4";
/// Modal's number for its Python client, whose requests are matched.
const CLIENT_TYPE: &str = "1";
/// Its number for a client in one of its containers.
const CONTAINER_TYPE: &str = "3";
/// Servers that check this header want a Python that the matched client supports.
const PYTHON_VERSION: &str = "3.12.1";

/// The headers of a client: built once, copied into every call.
#[derive(Clone)]
pub(crate) struct Identity {
    map: MetadataMap,
    /// Of an OAuth client with a key: signs what each call adds.
    assertions: Option<Arc<Signer>>,
}

impl Identity {
    /// `host`: of the server's address; a socket has none. Without a token where `config` has none.
    pub(crate) fn new(config: &Config, host: Option<&str>) -> Result<Self> {
        let mut map = MetadataMap::new();
        let mut assertions = None;
        map.insert("x-modal-client-version", MetadataValue::from_static(CLIENT_VERSION));
        let mut kind = CLIENT_TYPE;
        map.insert("x-modal-python-version", MetadataValue::from_static(PYTHON_VERSION));
        map.insert("x-modal-platform", ascii("x-modal-platform", std::env::consts::OS)?);
        map.insert("x-modal-node", MetadataValue::from_static("modal-client-rs"));
        if let Some(host) = host {
            map.insert("x-modal-host", ascii("MODAL_SERVER_URL", host)?);
        }
        match config.credentials() {
            Ok(Credentials::Token { id, secret: token }) => {
                map.insert("x-modal-token-id", ascii("MODAL_TOKEN_ID", id)?);
                map.insert("x-modal-token-secret", secret("MODAL_TOKEN_SECRET", token.expose())?);
            }
            Ok(Credentials::OAuth { refresh_token, client_id, proof }) => {
                let token = secret("MODAL_OAUTH_REFRESH_TOKEN", refresh_token.expose())?;
                map.insert("x-modal-refresh-token", token);
                map.insert("x-modal-oauth-client-id", ascii("MODAL_OAUTH_CLIENT_ID", client_id)?);
                match proof {
                    Proof::Secret(value) => {
                        let value = secret("MODAL_OAUTH_CLIENT_SECRET", value.expose())?;
                        map.insert("x-modal-oauth-client-secret", value);
                    }
                    Proof::Key(key) => assertions = Some(Arc::new(Signer::new(client_id, key)?)),
                }
            }
            Ok(Credentials::Container) => kind = CONTAINER_TYPE,
            Err(ConfigError::NoToken) => {}
            Err(error) => return Err(error.into()),
        }
        map.insert("x-modal-client-type", MetadataValue::from_static(kind));
        Ok(Self { map, assertions })
    }

    pub(crate) fn metadata(&self) -> MetadataMap {
        let mut map = self.map.clone();
        let signed = self.assertions.as_ref().and_then(|signer| signer.assertion());
        if let Some(assertion) = signed.and_then(|text| secret("assertion", &text).ok()) {
            map.insert("x-modal-oauth-client-assertion", assertion);
        }
        map
    }
}

fn ascii(setting: &'static str, value: &str) -> Result<MetadataValue<Ascii>, ConfigError> {
    value.parse().map_err(|_| ConfigError::InvalidValue {
        setting,
        value: value.to_owned(),
        problem: "expected printable ASCII",
    })
}

/// A header that is not shown when headers are printed, and not kept in HTTP/2's table of repeated headers.
pub(crate) fn secret(
    setting: &'static str,
    value: &str,
) -> Result<MetadataValue<Ascii>, ConfigError> {
    let mut header: MetadataValue<Ascii> =
        value.parse().map_err(|_| ConfigError::InvalidValue {
            setting,
            value: "****".to_owned(),
            problem: "expected printable ASCII",
        })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_secret_is_sent_and_not_shown() {
        let config = Config::new("http://127.0.0.1:1", "ak-1", "as-planted");
        let map = Identity::new(&config, Some("127.0.0.1")).unwrap().metadata();
        assert_eq!(map.get("x-modal-token-secret").unwrap().to_str().unwrap(), "as-planted");
        assert!(!format!("{map:?}").contains("as-planted"));
    }

    fn names(variables: &[(&str, &str)], host: Option<&str>) -> Vec<String> {
        let environ = crate::Environ::from_pairs(variables.iter().copied());
        let config = Config::from_env_and_file(&environ).unwrap();
        let map = Identity::new(&config, host).unwrap().metadata();
        let telling = ["token", "oauth", "host", "type"];
        let mut names: Vec<_> = map
            .iter()
            .filter_map(|entry| match entry {
                tonic::metadata::KeyAndValueRef::Ascii(name, value)
                    if telling.iter().any(|part| name.as_str().contains(part)) =>
                {
                    Some(format!("{name}: {}", value.to_str().unwrap()))
                }
                _ => None,
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn oauth_sends_its_own_headers_and_no_token() {
        let variables = [
            ("MODAL_OAUTH_REFRESH_TOKEN", "r"),
            ("MODAL_OAUTH_CLIENT_ID", "c"),
            ("MODAL_OAUTH_CLIENT_SECRET", "s"),
        ];
        assert_eq!(
            names(&variables, Some("h")),
            [
                "x-modal-client-type: 1",
                "x-modal-host: h",
                "x-modal-oauth-client-id: c",
                "x-modal-oauth-client-secret: s",
                "x-modal-refresh-token: r",
            ]
        );
    }

    #[test]
    fn a_container_is_of_another_type_and_sends_no_credentials() {
        let variables =
            [("MODAL_IS_REMOTE", "1"), ("MODAL_TOKEN_ID", "ak"), ("MODAL_TOKEN_SECRET", "as")];
        assert_eq!(names(&variables, None), ["x-modal-client-type: 3"]);
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_without_showing_it() {
        let config = Config::new("http://127.0.0.1:1", "ak-1", "as-planted\n");
        let error = Identity::new(&config, Some("127.0.0.1")).err().unwrap();
        assert!(!format!("{error:?}").contains("planted"));
    }
}
