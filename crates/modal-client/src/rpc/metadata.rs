//! What every call says about its sender.

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::{
    config::{Config, ConfigError},
    error::Result,
};

/// The version of Modal's own client whose requests this one sends; servers compare it with the oldest they serve.
pub(crate) const CLIENT_VERSION: &str = "1.6.4";
/// Modal's number for its Python client, whose requests are matched.
const CLIENT_TYPE: &str = "1";
/// Servers that check this header want a Python that the matched client supports.
const PYTHON_VERSION: &str = "3.12.1";

/// The headers of a client: built once, copied into every call.
#[derive(Clone)]
pub(crate) struct Identity {
    map: MetadataMap,
}

impl Identity {
    pub(crate) fn new(config: &Config, host: &str) -> Result<Self> {
        let (token_id, token_secret) = config.token()?;
        let mut map = MetadataMap::new();
        map.insert("x-modal-client-version", MetadataValue::from_static(CLIENT_VERSION));
        map.insert("x-modal-client-type", MetadataValue::from_static(CLIENT_TYPE));
        map.insert("x-modal-python-version", MetadataValue::from_static(PYTHON_VERSION));
        map.insert("x-modal-platform", ascii("x-modal-platform", std::env::consts::OS)?);
        map.insert("x-modal-node", MetadataValue::from_static("modal-client-rs"));
        map.insert("x-modal-host", ascii("MODAL_SERVER_URL", host)?);
        map.insert("x-modal-token-id", ascii("MODAL_TOKEN_ID", token_id)?);
        map.insert("x-modal-token-secret", secret("MODAL_TOKEN_SECRET", token_secret.expose())?);
        Ok(Self { map })
    }

    pub(crate) fn metadata(&self) -> MetadataMap {
        self.map.clone()
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
        let map = Identity::new(&config, "127.0.0.1").unwrap().metadata();
        assert_eq!(map.get("x-modal-token-secret").unwrap().to_str().unwrap(), "as-planted");
        assert!(!format!("{map:?}").contains("as-planted"));
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_without_showing_it() {
        let config = Config::new("http://127.0.0.1:1", "ak-1", "as-planted\n");
        let error = Identity::new(&config, "127.0.0.1").err().unwrap();
        assert!(!format!("{error:?}").contains("planted"));
    }
}
