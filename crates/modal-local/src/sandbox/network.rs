//! The network of one sandbox: its gateway to the outside, and relays to chosen ports of this machine.
//!
//! A relay is reached by a made-up host name. Only a sandbox whose definition names that host, on its
//! allow-list or in a variable, gets it: there the name resolves to the sandbox's own loopback, where
//! the server listens and carries each connection to the relay's target.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use container_network::{Dialer, DomainPattern, Gateway, HostDialer, Policy, PolicyControl};
use container_runtime::{Container, NetworkSpec};
use tokio::task::JoinSet;

use super::environment::Environment;
use super::sockets;
use super::spec::NetworkAccess;
use crate::error::{Error, Result};
use crate::relay::Relay;

/// Where this machine says which resolvers it uses.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;

/// What the network of a sandbox will be.
pub(crate) struct NetworkPlan {
    /// `None`: nothing but its own loopback.
    policy: Option<Policy>,
    pub(crate) relays: Vec<Relay>,
}

impl NetworkPlan {
    /// Of all `relays`, those that the definition names; of the access, what is left without them.
    pub(crate) fn new(
        access: &NetworkAccess,
        env: &Environment,
        relays: Vec<Relay>,
    ) -> Result<Self> {
        let named = |relay: &Relay| access.names(&relay.host) || env.mentions(&relay.host);
        let relays: Vec<Relay> = relays.into_iter().filter(named).collect();
        let policy = match access {
            NetworkAccess::Open => Some(Policy::Open),
            NetworkAccess::Blocked => None,
            NetworkAccess::AllowList { cidrs, domains } => {
                let is_relay = |domain: &&String| {
                    relays.iter().any(|relay| relay.host.eq_ignore_ascii_case(domain))
                };
                let outside = domains.iter().filter(|domain| !is_relay(domain));
                let domains = outside.map(|domain| pattern(domain)).collect::<Result<Vec<_>>>()?;
                // An empty list may get entries later. A list of relays alone needs no device.
                let closed = domains.is_empty() && cidrs.is_empty() && !relays.is_empty();
                (!closed).then(|| Policy::AllowList { cidrs: cidrs.clone(), domains })
            }
        };
        Ok(Self { policy, relays })
    }

    /// Makes addresses of web functions that a variable names reachable, as they are on Modal from
    /// wherever the outside is: what listens at this machine's `127.0.0.1:PORT` does so inside, too.
    pub(crate) fn with_web_functions(mut self, env: &Environment, ports: &[u16]) -> Self {
        if self.policy == Some(Policy::Open) {
            let named = ports.iter().filter(|port| env.names_port(**port));
            self.relays.extend(named.map(|port| Relay::to_own_port(*port)));
        }
        self
    }

    /// Whether anything outside can be reached.
    pub(crate) fn has_gateway(&self) -> bool {
        self.policy.is_some()
    }

    /// What the container is made with.
    pub(crate) fn spec(&self) -> NetworkSpec {
        if self.policy.is_some() { NetworkSpec::Tun } else { NetworkSpec::None }
    }

    /// Host names that resolve to the sandbox's own loopback.
    pub(crate) fn local_names(&self) -> impl Iterator<Item = &str> {
        let names = self.relays.iter().map(|relay| relay.host.as_str());
        names.filter(|host| host.parse::<IpAddr>().is_err())
    }
}

/// Changes what a running sandbox may reach.
#[derive(Debug, Clone)]
pub(crate) struct NetworkControl {
    /// None where the sandbox was made without a device to the outside.
    policy: Option<PolicyControl>,
}

impl NetworkControl {
    /// Puts another policy in force. Connections that it does not permit are cut.
    ///
    /// # Errors
    ///
    /// `Precondition` if the sandbox was made without a way out and is to get one.
    pub(crate) fn set(&self, access: &NetworkAccess) -> Result<()> {
        let policy = match access {
            NetworkAccess::Open => Policy::Open,
            NetworkAccess::Blocked => Policy::Closed,
            NetworkAccess::AllowList { cidrs, domains } => Policy::AllowList {
                cidrs: cidrs.clone(),
                domains: domains.iter().map(|it| pattern(it)).collect::<Result<_>>()?,
            },
        };
        match &self.policy {
            Some(control) if control.set_policy(policy.clone()) => Ok(()),
            Some(_) => Err(Error::Precondition("the sandbox has ended".to_owned())),
            None if policy == Policy::Closed => Ok(()),
            None => Err(Error::Precondition(
                "the sandbox was made with a blocked network and has no way out that could be \
                 opened; make it with an empty allow-list instead"
                    .to_owned(),
            )),
        }
    }
}

fn pattern(domain: &str) -> Result<DomainPattern> {
    domain.parse().map_err(|error| Error::invalid(format!("domain allow-list: {error}")))
}

/// A sandbox's network at work; dropping it cuts every connection.
pub(crate) struct Network {
    gateway: Option<Gateway>,
    _relays: JoinSet<()>,
}

impl Network {
    pub(crate) async fn start(container: &Container, plan: NetworkPlan) -> Result<Self> {
        Self::start_with(container, plan, Arc::new(HostDialer)).await
    }

    /// The same with another way out.
    pub(super) async fn start_with(
        container: &Container,
        plan: NetworkPlan,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self> {
        let gateway = match (plan.policy, container.take_tun()) {
            (Some(policy), Some(tun)) => {
                let gateway = Gateway::start_with(tun, policy, resolvers(), dialer);
                Some(gateway.map_err(|error| failed("the gateway", error))?)
            }
            _ => None,
        };
        let mut relays = JoinSet::new();
        for relay in plan.relays {
            let listener = sockets::listen(container, relay.port).await;
            let listener = listener.map_err(|error| failed("a relay", error))?;
            relays.spawn(async move {
                tokio::select! {
                    () = container_network::relay(listener, relay.target) => {}
                    () = relay.closed.cancelled() => {}
                }
            });
        }
        Ok(Self { gateway, _relays: relays })
    }

    /// What changes the policy from elsewhere.
    pub(super) fn control(&self) -> NetworkControl {
        NetworkControl { policy: self.gateway.as_ref().map(Gateway::control) }
    }

    pub(crate) async fn stop(self) {
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
    }
}

fn failed(what: &str, error: impl std::error::Error) -> Error {
    tracing::warn!(%error, "could not start {what} of a sandbox");
    Error::Precondition(format!("{what} of the sandbox could not be started: {error}"))
}

/// The resolvers of this machine, in its order.
pub(crate) fn resolvers() -> Vec<SocketAddr> {
    parse_resolvers(&fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

fn parse_resolvers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr =
            words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::from((address, DNS_PORT)))
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn relay(host: &str) -> Relay {
        Relay {
            host: host.to_owned(),
            port: 4000,
            target: ([127, 0, 0, 1], 4000).into(),
            closed: CancellationToken::new(),
        }
    }

    fn allow(domains: &[&str]) -> NetworkAccess {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        NetworkAccess::AllowList { cidrs: Vec::new(), domains }
    }

    #[test]
    fn a_sandbox_gets_the_relays_that_its_definition_names() {
        let relays = || vec![relay("one.relay.internal"), relay("two.relay.internal")];
        let mut env = Environment::default();
        let plan = NetworkPlan::new(&NetworkAccess::Open, &env, relays()).unwrap();
        assert_eq!(plan.local_names().count(), 0);
        let plan = NetworkPlan::new(&allow(&["ONE.relay.internal"]), &env, relays()).unwrap();
        assert_eq!(plan.local_names().collect::<Vec<_>>(), ["one.relay.internal"]);
        assert_eq!(plan.spec(), NetworkSpec::None, "nothing else is on the list");
        env.put("OPENAI_BASE_URL", "http://two.relay.internal:4000/v1");
        let plan = NetworkPlan::new(&NetworkAccess::Blocked, &env, relays()).unwrap();
        assert_eq!(plan.local_names().collect::<Vec<_>>(), ["two.relay.internal"]);
    }

    #[test]
    fn web_functions_are_reached_by_who_names_them_and_reaches_the_outside() {
        let mut env = Environment::default();
        env.put("LANGFUSE_HOST", "http://127.0.0.1:40001/x");
        let ports = |access: &NetworkAccess| {
            let plan = NetworkPlan::new(access, &env, Vec::new()).unwrap();
            let plan = plan.with_web_functions(&env, &[4000, 40001, 40002]);
            assert_eq!(plan.local_names().count(), 0, "an address needs no name");
            plan.relays.iter().map(|relay| relay.target.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ports(&NetworkAccess::Open), ["127.0.0.1:40001"]);
        assert!(ports(&NetworkAccess::Blocked).is_empty());
        assert!(ports(&allow(&["example.com"])).is_empty());
    }

    #[test]
    fn other_names_of_an_allow_list_need_a_gateway() {
        let env = Environment::default();
        let access = allow(&["one.relay.internal", "example.com"]);
        let plan = NetworkPlan::new(&access, &env, vec![relay("one.relay.internal")]).unwrap();
        assert_eq!(plan.spec(), NetworkSpec::Tun);
        assert!(NetworkPlan::new(&allow(&["not a name"]), &env, Vec::new()).is_err());
    }

    #[test]
    fn resolvers_are_read_in_order() {
        let text =
            "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver ::1\nnameserver x\n";
        let addresses: Vec<String> =
            parse_resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1:53", "[::1]:53"]);
    }
}
