//! What a sandbox may reach.

use container_network::IpNet;
use modal_proto::client;
use modal_proto::client::network_access::NetworkAccessType;

use crate::error::{Error, Result};

/// What a sandbox may reach outside itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkAccess {
    /// The outside; never this machine or another sandbox.
    Open,
    /// Nothing.
    Blocked,
    /// These addresses and names.
    AllowList { cidrs: Vec<IpNet>, domains: Vec<String> },
}

impl NetworkAccess {
    pub(crate) fn parse(blocked: bool, access: Option<client::NetworkAccess>) -> Result<Self> {
        if blocked {
            return Ok(Self::Blocked);
        }
        let access = access.unwrap_or_default();
        Ok(match access.network_access_type() {
            NetworkAccessType::Unspecified | NetworkAccessType::Open => Self::Open,
            NetworkAccessType::Blocked => Self::Blocked,
            NetworkAccessType::Allowlist => Self::AllowList {
                cidrs: access.allowed_cidrs.iter().map(|text| cidr(text)).collect::<Result<_>>()?,
                domains: access.allowed_domains,
            },
        })
    }

    /// Whether the list of names has exactly `host`.
    pub(crate) fn names(&self, host: &str) -> bool {
        match self {
            Self::AllowList { domains, .. } => {
                domains.iter().any(|domain| domain.eq_ignore_ascii_case(host))
            }
            Self::Open | Self::Blocked => false,
        }
    }
}

/// A range, or a single address.
pub(crate) fn cidr(text: &str) -> Result<IpNet> {
    let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse()
        .ok()
        .or_else(address)
        .ok_or_else(|| Error::invalid(format!("Invalid CIDR: {text} (it must be like 10.0.0.0/8)")))
}
