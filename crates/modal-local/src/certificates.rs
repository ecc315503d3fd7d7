//! TLS of tunnels: a certificate authority that the state directory owns, for names of this machine alone.
//!
//! Modal terminates TLS in front of a sandbox's ports; so does this server, with a certificate for the loopback address of
//! the tunnel and `localhost`. Its authority is made once; whoever reads `tls/roots.pem` of the state directory trusts it and what this
//! machine trusts anyway. Its key never leaves the directory, and its certificate says that it speaks for no other
//! name.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::durable;
use crate::error::{Error, Result};
use crate::state_dir::StateDir;

/// The authority's name, for people who look at certificates.
const NAME: &str = "modal-local tunnels of this machine";

/// How tunnels speak TLS.
pub(crate) struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    /// Of every certificate of this server's life.
    key: KeyPair,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The certificate could not be made or its stored key is none.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// The certificate cannot be used.
    #[error("a certificate could not be used")]
    Use(#[from] tokio_rustls::rustls::Error),
}

impl Certificates {
    /// Finds the authority or makes it, writes the roots, and makes a certificate of this server.
    pub(crate) fn open(dir: &StateDir) -> Result<Self> {
        durable::create_dir(&dir.tls(), 0o700)?;
        let key_file = dir.tls().join("authority.key");
        let key = match fs::read_to_string(&key_file) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(failed)?,
            Err(_) => {
                let key = KeyPair::generate().map_err(failed)?;
                durable::write(&key_file, key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
        };
        let authority = authority().map_err(failed)?;
        let file = dir.tls().join("authority.pem");
        if !file.exists() {
            let pem = authority.self_signed(&key).map_err(failed)?.pem();
            durable::write(&file, pem.as_bytes(), 0o644)?;
        }
        let own = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
        durable::write(&dir.tls_roots(), roots(&own).as_bytes(), 0o644)?;
        let issuer = Issuer::new(authority, key);
        Ok(Self { issuer, key: KeyPair::generate().map_err(failed)? })
    }

    /// The TLS side of a tunnel at this address: HTTP/1.1 or whatever else is spoken over TLS, with `h2`
    /// HTTP/2 too.
    ///
    /// # Errors
    ///
    /// `Tls` where no certificate can be made.
    pub(crate) fn acceptor(&self, address: Ipv4Addr, h2: bool) -> Result<TlsAcceptor> {
        self.issue(address, h2).map_err(|source| Error::Tls { source: source.into() })
    }

    fn issue(&self, address: Ipv4Addr, h2: bool) -> Result<TlsAcceptor, CertificateError> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.subject_alt_names.push(SanType::IpAddress(address.into()));
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(self.key.serialize_der())
            .map_err(|text| tokio_rustls::rustls::Error::General(text.to_owned()))?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let protocols: &[&str] = if h2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn failed(error: rcgen::Error) -> Error {
    Error::Tls { source: CertificateError::from(error).into() }
}

/// The same for each key, so that the stored key alone makes the issuer.
fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
            GeneralSubtree::IpAddress(CidrSubnet::V6(Ipv6Addr::LOCALHOST.octets(), [0xff; 16])),
        ],
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

/// What this machine trusts, and the authority.
fn roots(own: &str) -> String {
    let own_body: String = own.lines().filter(|line| !line.starts_with('-')).collect();
    let mut text = String::new();
    // What cannot be read is left out, as by every program that reads them.
    for certificate in rustls_native_certs::load_native_certs().certs {
        let body = STANDARD.encode(&certificate);
        if body == own_body {
            continue;
        }
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text + own
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_stays_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = StateDir::new(dir.path());
        Certificates::open(&dir).unwrap();
        let authority = fs::read_to_string(dir.tls().join("authority.pem")).unwrap();
        Certificates::open(&dir).unwrap();
        assert_eq!(fs::read_to_string(dir.tls().join("authority.pem")).unwrap(), authority);
        let roots = fs::read_to_string(dir.tls_roots()).unwrap();
        assert_eq!(roots.matches(&authority).count(), 1);
        let key = fs::metadata(dir.tls().join("authority.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
}
