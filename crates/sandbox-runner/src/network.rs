//! What sandboxes may reach.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

/// What the sandboxes of a run, or of one task, may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// The outside; never this machine or other sandboxes.
    Open,
    /// The model's address alone.
    Llm,
    /// Nothing.
    None,
    /// These names and the model's address.
    List(Vec<String>),
}

impl Network {
    /// Whether everything that `other` reaches is reached by this too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open, _) | (_, Self::None) => true,
            (Self::Llm | Self::List(_), Self::Llm) => true,
            (Self::List(all), Self::List(some)) => {
                let all: BTreeSet<_> = all.iter().collect();
                some.iter().all(|name| all.contains(name) || is_below_a_star(name, &all))
            }
            _ => false,
        }
    }
}

/// Whether a name is one of those that `*.example.com` stands for.
fn is_below_a_star(name: &str, all: &BTreeSet<&String>) -> bool {
    let stars = all.iter().filter_map(|pattern| pattern.strip_prefix('*'));
    stars.into_iter().any(|ending| name.ends_with(ending) && name.len() > ending.len())
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => return Ok(Self::Open),
            "llm" => return Ok(Self::Llm),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let names = text.split(',').map(|name| host_name(name.trim()));
        let names = names.collect::<Result<_, _>>();
        names.map(Self::List).map_err(|why| {
            format!(
                "`{text}` is no network: {why}. It can be `open`, `llm`, `none`, or names of hosts with \
                 commas between, the model's address being always reached with them"
            )
        })
    }
}

/// A name as lists of allowed hosts take it: `example.com`, or `*.example.com` for what is below.
fn host_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let plain = name.strip_prefix("*.").unwrap_or(&name);
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.is_empty() {
        Err("a name in it is empty".to_owned())
    } else if matches!(plain, "open" | "llm" | "none") {
        Err(format!("`{plain}` stands alone, not in a list"))
    } else if plain.parse::<IpAddr>().is_ok() || plain.rsplit('.').next().is_some_and(is_number) {
        Err(format!("`{text}` is an address, not a name"))
    } else if plain.len() > 253 || !name.contains('.') || !plain.split('.').all(is_label) {
        Err(format!("`{text}` is no name of a host"))
    } else {
        Ok(name)
    }
}

/// No top domain is a number, so what ends with one is an address, or a wrong one.
fn is_number(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.pad("open"),
            Self::Llm => f.pad("llm"),
            Self::None => f.pad("none"),
            Self::List(names) => f.pad(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_named() {
        assert_eq!(network("llm"), Network::Llm);
        let list = Network::List(vec!["example.com".into(), "*.files.example.com".into()]);
        assert_eq!(network("Example.com, *.files.example.com"), list);
    }

    #[test]
    fn what_is_no_name_of_a_host_is_refused_with_its_reason() {
        let texts = [
            "lan",
            "https://example.com",
            ",.",
            "a..b",
            "1.2.3.4",
            "1.2.3",
            "llm,github.com",
            "example.com,",
            "-a.example",
            "a b.example",
        ];
        let said: Vec<_> = texts
            .map(|text| text.parse::<Network>().unwrap_err())
            .map(|said| said.split(". It can be").next().unwrap_or_default().to_owned())
            .into_iter()
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        `lan` is no network: `lan` is no name of a host
        `https://example.com` is no network: `https://example.com` is no name of a host
        `,.` is no network: a name in it is empty
        `a..b` is no network: `a..b` is no name of a host
        `1.2.3.4` is no network: `1.2.3.4` is an address, not a name
        `1.2.3` is no network: `1.2.3` is an address, not a name
        `llm,github.com` is no network: `llm` stands alone, not in a list
        `example.com,` is no network: a name in it is empty
        `-a.example` is no network: `-a.example` is no name of a host
        `a b.example` is no network: `a b.example` is no name of a host
        ");
    }

    #[test]
    fn a_network_covers_what_reaches_no_more() {
        let all = ["none", "llm", "a.example", "a.example,b.example", "*.example", "open"];
        let covered = |wide: &&str| {
            let narrow = all.iter().filter(|narrow| network(wide).covers(&network(narrow)));
            format!("{wide}: {}", narrow.copied().collect::<Vec<_>>().join(" "))
        };
        let text: Vec<_> = all.iter().map(covered).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        none: none
        llm: none llm
        a.example: none llm a.example
        a.example,b.example: none llm a.example a.example,b.example
        *.example: none llm a.example a.example,b.example *.example
        open: none llm a.example a.example,b.example *.example open
        ");
    }
}
