//! TLS for HTTP clients: rustls with bundled root certificates, so that neither OpenSSL headers nor
//! certificates on the machine are needed.
//!
//! Hand [`client_config`] to
//! `reqwest::ClientBuilder::tls_backend_preconfigured`.

use std::sync::Arc;

/// A client configuration that trusts Mozilla's roots (crate `webpki-roots`) and speaks TLS 1.2 and 1.3.
pub fn client_config() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
