//! Changing what a running sandbox may reach.

use modal_proto::client::network_access::NetworkAccessType;
use modal_proto::client::outbound_policy::redirect::Redirect as To;
use modal_proto::client::outbound_policy::route::Route as Kind;
use modal_proto::client::outbound_policy::{PortRange, Redirect, Transport};
use modal_proto::client::{
    NetworkAccess as Access, OutboundPolicy, SandboxSetOutboundPolicyRequest,
    SandboxSetOutboundPolicyResponse,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::SandboxId;
use crate::sandbox::NetworkAccess;

pub(crate) async fn sandbox_set_outbound_policy(
    ctx: &Ctx,
    request: SandboxSetOutboundPolicyRequest,
) -> Result<SandboxSetOutboundPolicyResponse, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    ctx.sandboxes.records.get(&id).await?;
    let access = access(request.outbound_policy.unwrap_or_default())?;
    let sandbox = ctx.sandboxes.find(&id).filter(|sandbox| sandbox.ending().is_none());
    let sandbox =
        sandbox.ok_or_else(|| Status::failed_precondition(format!("sandbox `{id}` has ended")))?;
    sandbox.running()?.network.set(&access)?;
    Ok(SandboxSetOutboundPolicyResponse {})
}

pub(crate) async fn sandbox_set_outbound_policy_v2(
    ctx: &Ctx,
    request: SandboxSetOutboundPolicyRequest,
) -> Result<SandboxSetOutboundPolicyResponse, Status> {
    sandbox_set_outbound_policy(ctx, request).await
}

/// The routes of a policy as an allow-list. What an allow-list can't say is refused by name.
fn access(policy: OutboundPolicy) -> Result<NetworkAccess> {
    let refused = |what: &str| {
        Err(Error::invalid(format!("outbound policies of the local server have no {what}")))
    };
    if policy.tls_decryption.is_some_and(|it| it.allowed) {
        return refused("TLS decryption");
    }
    let (mut cidrs, mut domains) = (Vec::new(), Vec::new());
    for route in policy.routes {
        match route.route {
            Some(Kind::Any(any)) => match any.redirect.and_then(|it| it.redirect) {
                // What comes after a route for everything is never asked.
                Some(To::Block(_)) => break,
                Some(_) => return refused("proxies and sidecars"),
                None => return NetworkAccess::parse(false, None),
            },
            Some(Kind::Ip(ip)) if is_plain(ip.transport, &ip.ports, &ip.redirect) => {
                cidrs.extend(ip.cidrs);
            }
            Some(Kind::Tls(tls)) if is_plain(tls.transport, &tls.ports, &tls.redirect) => {
                domains.extend(tls.domains);
            }
            Some(Kind::Https(https))
                if is_plain(https.transport, &https.ports, &https.redirect) =>
            {
                if !https.header_replacements.is_empty() {
                    return refused("header replacements");
                }
                domains.extend(https.domains);
            }
            None => {}
            Some(_) => return refused("routes by port or transport, nor redirects"),
        }
    }
    let access = Access {
        network_access_type: NetworkAccessType::Allowlist.into(),
        allowed_cidrs: cidrs,
        allowed_domains: domains,
    };
    NetworkAccess::parse(false, Some(access))
}

fn is_plain(transport: i32, ports: &[PortRange], redirect: &Option<Redirect>) -> bool {
    let transport = Transport::try_from(transport).unwrap_or_default();
    matches!(transport, Transport::Unspecified | Transport::Any)
        && ports.is_empty()
        && redirect.as_ref().is_none_or(|it| it.redirect.is_none())
}

#[cfg(test)]
mod tests {
    use modal_proto::client::outbound_policy::redirect::{Block, ViaProxy};
    use modal_proto::client::outbound_policy::{AnyRoute, IpRoute, Route, TlsRoute};

    use super::*;

    fn policy(routes: Vec<Kind>) -> OutboundPolicy {
        let routes = routes.into_iter().map(|it| Route { route: Some(it) }).collect();
        OutboundPolicy { routes, ..OutboundPolicy::default() }
    }

    fn any(to: Option<To>) -> Kind {
        Kind::Any(AnyRoute { redirect: to.map(|it| Redirect { redirect: Some(it) }) })
    }

    #[test]
    fn routes_become_an_allow_list_up_to_the_one_for_everything() {
        let ip = || Kind::Ip(IpRoute { cidrs: vec!["10.0.0.0/8".into()], ..Default::default() });
        let tls =
            || Kind::Tls(TlsRoute { domains: vec!["a.example".into()], ..Default::default() });
        let block = || any(Some(To::Block(Block {})));
        let list = access(policy(vec![ip(), block(), tls()])).unwrap();
        assert_eq!(
            list,
            NetworkAccess::AllowList {
                cidrs: vec!["10.0.0.0/8".parse().unwrap()],
                domains: vec![],
            }
        );
        assert_eq!(access(policy(vec![tls(), any(None)])).unwrap(), NetworkAccess::Open);
        let ports = vec![PortRange { start: 443, end: 443 }];
        let by_port = Kind::Ip(IpRoute { ports, ..Default::default() });
        access(policy(vec![by_port])).unwrap_err();
        access(policy(vec![any(Some(To::ViaProxy(ViaProxy::default())))])).unwrap_err();
    }
}
