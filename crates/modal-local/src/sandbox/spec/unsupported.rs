//! What Modal offers and this server does not: refused by name, never left out in silence.

use modal_proto::client::Sandbox;

use crate::error::{Error, Result};

/// Experimental options that mean something here.
const KNOWN_OPTIONS: [&str; 2] = ["enable_exit_snapshot", "proxy_traffic_via_sidecar"];

/// Refuses what the sandbox asks for and would not get.
pub(super) fn refuse(definition: &Sandbox) -> Result<()> {
    let resources = definition.resources.as_ref();
    let refused = [
        (definition.include_x509_svid, "X.509 identity documents (SVIDs)"),
        (definition.i6pn_enabled, "i6pn networks (IPv6 between containers)"),
        (resources.is_some_and(|it| it.rdma), "RDMA"),
    ];
    if let Some((_, what)) = refused.iter().find(|(asked, _)| *asked) {
        return Err(Error::invalid(format!("sandboxes of the local server have no {what}")));
    }
    let switches = definition.experimental_options_v2.iter();
    if let Some((name, value)) =
        switches.filter(|(name, _)| name.starts_with("enable_")).find(no_bool)
    {
        return Err(Error::invalid(format!(
            "experimental option `{name}` must be a bool, and `{value}` is none"
        )));
    }
    match options(definition).find(|name| !KNOWN_OPTIONS.contains(name)) {
        Some(name) => Err(Error::invalid(format!(
            "the local server has no experimental option `{name}`; it works on Modal only"
        ))),
        None => Ok(()),
    }
}

fn no_bool((_, value): &(&String, &String)) -> bool {
    let words = ["", "0", "1", "false", "none", "true"];
    !words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Names of the experimental options that are on: Python writes `True`, JavaScript `true`.
fn options(definition: &Sandbox) -> impl Iterator<Item = &str> {
    let is_off =
        |value: &str| ["", "0", "false", "none"].iter().any(|off| value.eq_ignore_ascii_case(off));
    let new = definition.experimental_options_v2.iter();
    let new = new.filter(move |(_, value)| !is_off(value)).map(|(name, _)| name.as_str());
    #[allow(deprecated)]
    let old = definition.experimental_options.iter();
    new.chain(old.filter(|(_, value)| **value).map(|(name, _)| name.as_str()))
}

#[cfg(test)]
mod tests {
    use modal_proto::client::Resources;

    use super::*;

    fn refusal(definition: Sandbox) -> String {
        refuse(&definition).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let option = |name: &str, value: &str| Sandbox {
            experimental_options_v2: [(name.to_owned(), value.to_owned())].into(),
            ..Sandbox::default()
        };
        let asked = [
            Sandbox { include_x509_svid: true, ..Sandbox::default() },
            Sandbox { i6pn_enabled: true, ..Sandbox::default() },
            Sandbox {
                resources: Some(Resources { rdma: true, ..Resources::default() }),
                ..Sandbox::default()
            },
            option("enable_docker", "True"),
            option("enable_docker", "not-a-bool"),
        ];
        let text: Vec<String> = asked.into_iter().map(refusal).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        sandboxes of the local server have no X.509 identity documents (SVIDs)
        sandboxes of the local server have no i6pn networks (IPv6 between containers)
        sandboxes of the local server have no RDMA
        the local server has no experimental option `enable_docker`; it works on Modal only
        experimental option `enable_docker` must be a bool, and `not-a-bool` is none
        ");
        assert_eq!(refusal(Sandbox::default()), "");
        assert_eq!(refusal(option("enable_docker", "False")), "");
        assert_eq!(refusal(option("enable_exit_snapshot", "true")), "");
    }
}
