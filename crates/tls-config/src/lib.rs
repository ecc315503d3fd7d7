//! TLS for clients: rustls with bundled root certificates and those of the machine, so that neither OpenSSL
//! headers nor certificates on the machine are needed, and a company's own root still counts where it is installed.
//!
//! Hand [`client_config`] to
//! `reqwest::ClientBuilder::tls_backend_preconfigured`.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;

/// A client configuration that trusts Mozilla's roots (crate `webpki-roots`) and the machine's, and speaks
/// TLS 1.2 and 1.3.
///
/// The machine's roots are read once a process, from `SSL_CERT_FILE` and `SSL_CERT_DIR` where those are set,
/// as OpenSSL does. What cannot be read is left out: the bundled roots always count.
pub fn client_config() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(roots())
        .with_no_client_auth()
}

fn roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}
