//! Who vouches for a server's certificate: the bundled roots, else the machine's.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Asks the bundled roots; where they do not vouch, the machine's, which are read then.
#[derive(Debug)]
pub(crate) struct BundledThenMachines {
    bundled: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    machines: fn() -> RootCertStore,
    /// None where the machine has no roots.
    read: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
}

pub(crate) fn bundled_then_machines(provider: &Arc<CryptoProvider>) -> BundledThenMachines {
    let bundled = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    chain(provider, bundled, machines_roots)
}

fn chain(
    provider: &Arc<CryptoProvider>,
    bundled: RootCertStore,
    machines: fn() -> RootCertStore,
) -> BundledThenMachines {
    let bundled = WebPkiServerVerifier::builder_with_provider(bundled.into(), Arc::clone(provider))
        .build()
        .expect("there are bundled roots, and no revocation lists that could be wrong");
    let provider = Arc::clone(provider);
    BundledThenMachines { bundled, provider, machines, read: OnceLock::new() }
}

/// The machine's roots, read once a process.
fn machines_roots() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    };
    ROOTS.get_or_init(read).clone()
}

impl BundledThenMachines {
    fn machines(&self) -> Option<&Arc<WebPkiServerVerifier>> {
        let read = || {
            let (roots, provider) = ((self.machines)(), Arc::clone(&self.provider));
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().ok()
        };
        self.read.get_or_init(read).as_ref()
    }
}

impl ServerCertVerifier for BundledThenMachines {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ask = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)
        };
        let first = match ask(&self.bundled) {
            Err(error) => error,
            vouched => return vouched,
        };
        match self.machines().map(|machines| ask(machines)) {
            // They know nothing of it either: what the first ones say tells more.
            None | Some(Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))) => {
                Err(first)
            }
            Some(said) => said,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.bundled.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.bundled.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.bundled.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    use rustls::crypto::ring::default_provider;

    use super::*;

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn roots(authority: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        roots
    }

    fn ask(verifier: &BundledThenMachines, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let name = ServerName::try_from("goat.test").unwrap();
        verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).map(drop)
    }

    fn issued_by(authority: &CertifiedIssuer<'static, KeyPair>) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec!["goat.test".to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    #[test]
    fn the_machines_roots_are_read_only_when_the_bundled_ones_do_not_vouch() {
        let provider = Arc::new(default_provider());
        let authority = authority("bundled");
        let verifier = chain(&provider, roots(&authority), || panic!("they were read"));
        ask(&verifier, &issued_by(&authority)).unwrap();
        assert!(verifier.read.get().is_none());
    }

    #[test]
    fn a_root_of_the_machine_counts_and_a_strangers_does_not() {
        static COMPANY: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
        let provider = Arc::new(default_provider());
        let company = COMPANY.get_or_init(|| authority("company"));
        let verifier =
            chain(&provider, roots(&authority("bundled")), || roots(COMPANY.get().unwrap()));
        ask(&verifier, &issued_by(company)).unwrap();
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(ask(&verifier, &issued_by(&authority("stranger"))), Err(unknown.clone()));
        let without = chain(&provider, roots(&authority("bundled")), RootCertStore::empty);
        assert_eq!(ask(&without, &issued_by(company)), Err(unknown));
    }
}
