//! Who may connect to a sandbox's tunnels and with its connect tokens.
//!
//! Everything here listens on loopback, so a list without addresses of 127.0.0.0/8 keeps everybody out, as it keeps this
//! machine out on Modal.

use std::net::IpAddr;

use container_network::IpNet;

use super::spec::cidr;
use crate::error::Result;

/// Ranges that connections may come from; without any, they may come from everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inbound(Vec<IpNet>);

impl Inbound {
    pub(crate) fn parse(ranges: &[String]) -> Result<Self> {
        ranges.iter().map(|range| cidr(range)).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn allows(&self, peer: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(&peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_lets_in_what_it_names_and_no_list_everybody() {
        let list = |ranges: &[&str]| {
            Inbound::parse(&ranges.iter().map(|&it| it.to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let here = IpAddr::from([127, 0, 0, 1]);
        assert!(list(&[]).allows(here));
        assert!(list(&["10.0.0.0/8", "127.0.0.0/8"]).allows(here));
        assert!(!list(&["10.0.0.0/8"]).allows(here));
        let refused = Inbound::parse(&["nowhere/8".to_owned()]).unwrap_err();
        assert!(refused.to_string().starts_with("Invalid CIDR: nowhere/8"));
    }
}
