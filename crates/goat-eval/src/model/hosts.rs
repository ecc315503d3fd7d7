//! Names to addresses: the machine's hosts file first, then the system's resolver.
//!
//! The agent is linked statically so that it runs in any image. The C library's resolver may then want modules of
//! another C library; the name of a model's relay stands in the hosts file of the sandbox and needs none of that.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks into a hosts file, then asks the system.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) file: PathBuf,
}

impl Default for Hosts {
    fn default() -> Self {
        Hosts { file: PathBuf::from("/etc/hosts") }
    }
}

impl Resolve for Hosts {
    fn resolve(&self, name: Name) -> Resolving {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let known = lookup(&text, name.as_str());
        Box::pin(async move {
            if !known.is_empty() {
                let addresses = known.into_iter().map(|address| SocketAddr::new(address, 0));
                return Ok(Box::new(addresses) as Addrs);
            }
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The addresses of `name` in a hosts file. `localhost` is always known, as RFC 6761 has it (section 6.3).
fn lookup(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address.filter(|_| words.any(|word| word.eq_ignore_ascii_case(name)))
        {
            found.push(address);
        }
    }
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found.extend([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_in_order() {
        let hosts = "# comment\n127.0.0.1 localhost x.relay.internal # y\n::1 LOCALHOST\nnonsense localhost\n";
        assert_eq!(
            lookup(hosts, "localhost"),
            [IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()]
        );
        assert_eq!(lookup(hosts, "x.relay.internal").len(), 1);
        assert!(lookup(hosts, "y").is_empty());
        assert_eq!(lookup("", "localhost").len(), 2);
    }
}
