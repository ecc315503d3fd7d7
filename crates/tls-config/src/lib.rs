//! TLS for clients: rustls with bundled root certificates and those of the machine, so that neither OpenSSL
//! headers nor certificates on the machine are needed, and a company's own root still counts where it is installed.
//!
//! Hand [`client_config`] to
//! `reqwest::ClientBuilder::tls_backend_preconfigured`.

mod verifier;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// A client configuration that trusts Mozilla's roots (crate `webpki-roots`) and the machine's, and speaks
/// TLS 1.2 and 1.3.
///
/// The machine's roots are read once a process, from `SSL_CERT_FILE` and `SSL_CERT_DIR` where those are set,
/// as OpenSSL does, and only when a server shows a certificate that the bundled ones do not vouch for: there are
/// hundreds of files, and most programs never need them. What cannot be read is left out.
pub fn client_config() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier::bundled_then_machines(&provider);
    builder(provider)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
}
