//! Which LiteLLM goes with which Langfuse.
//!
//! LiteLLM's callback sends through Langfuse's SDK: up to 1.103 by the ingestion API, which Langfuse 2 and 3 have;
//! from 1.104 on as OTLP, which Langfuse 3 and 4 have. A pair that does not fit loses every trace, in silence. So
//! versions come in sets that were proved together ([`VersionSet`]), and any other combination is
//! [checked](Combination::check) before something is deployed.

use std::{fmt, str::FromStr, sync::LazyLock};

use serde::{Deserialize, Serialize};

/// A version of a Python package or of a server: numbers with dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second.
    pub minor: u32,
    /// Third.
    pub patch: u32,
}

impl Version {
    /// `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version, as 1.102.4 is")]
pub struct InvalidVersion(String);

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion(text.to_owned());
        let mut numbers = text.trim_start_matches('v').splitn(3, '.');
        let major = numbers.next().and_then(|n| n.parse().ok()).ok_or_else(invalid)?;
        let mut next = || match numbers.next() {
            None => Ok(0),
            Some(part) => {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().map_err(|_| invalid())
            }
        };
        Ok(Self { major, minor: next()?, patch: next()? })
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// From this version on the callback sends OTLP (wheel metadata of 1.103.11 and 1.104.9, read 2026-11-23).
const OTLP_SINCE: Version = Version::new(1, 104, 0);
/// From this version on the proxy asks its upstreams for their models, by itself.
const PROBES_SINCE: Version = Version::new(1, 103, 0);

/// What a version of LiteLLM does that others do not.
impl Version {
    /// Whether the proxy asks `GET <api_base>/v1/models` of OpenAI-compatible deployments at boot and every five
    /// minutes, which wakes what sleeps.
    pub fn probes_upstreams(self) -> bool {
        self >= PROBES_SINCE
    }

    /// Whether `general_settings.disable_model_info_refresh` stops that. 1.103 probes and has no switch.
    pub fn has_probe_switch(self) -> bool {
        self >= OTLP_SINCE
    }

    /// Whether the proxy refuses to start without a master key, or with a widely known one.
    pub fn refuses_weak_master_key(self) -> bool {
        self >= OTLP_SINCE
    }

    /// What its callback `langfuse` sends.
    pub fn sends(self) -> Sends {
        if self >= OTLP_SINCE { Sends::Otlp } else { Sends::Ingestion }
    }

    /// Whether this version of Langfuse's Python SDK is one that this LiteLLM starts with.
    pub fn takes_sdk(self, sdk: Version) -> bool {
        match self.sends() {
            Sends::Ingestion => sdk >= Version::new(2, 59, 7) && sdk.major < 3,
            Sends::Otlp => sdk >= Version::new(4, 7, 0) && sdk.major < 5,
        }
    }
}

/// By which API traces go to Langfuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sends {
    /// `POST /api/public/ingestion`: JSON.
    Ingestion,
    /// `POST /api/public/otel/v1/traces`: OpenTelemetry.
    Otlp,
}

impl Sends {
    /// The route.
    pub fn path(self) -> &'static str {
        match self {
            Self::Ingestion => "/api/public/ingestion",
            Self::Otlp => "/api/public/otel/v1/traces",
        }
    }

    /// Whether a Langfuse of this major version has the route.
    pub fn is_taken_by(self, server: u32) -> bool {
        match self {
            Self::Ingestion => matches!(server, 2 | 3),
            Self::Otlp => server >= 3,
        }
    }
}

/// LiteLLM's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// `langfuse`: by Langfuse's SDK.
    Langfuse,
    /// `langfuse_otel`: by OpenTelemetry's own packages.
    LangfuseOtel,
}

/// Versions that were proved together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct VersionSet {
    /// `langfuse-2`.
    pub name: String,
    /// For people.
    pub summary: String,
    /// Whether it is taken where nothing else is said.
    #[serde(default)]
    pub default: bool,
    /// `litellm[proxy]`.
    pub litellm: Version,
    /// `langfuse`, beside it.
    pub langfuse_sdk: Version,
    /// Major versions of servers that take what is sent.
    pub langfuse_servers: Vec<u32>,
    /// What the callback sends.
    pub sends: Sends,
}

#[derive(Deserialize)]
struct Sets {
    set: Vec<VersionSet>,
}

static SETS: LazyLock<Vec<VersionSet>> = LazyLock::new(|| {
    let sets: Sets = toml::from_str(include_str!("../data/version-sets.toml"))
        .expect("the tests read data/version-sets.toml");
    sets.set
});

impl VersionSet {
    /// Every set.
    pub fn all() -> &'static [VersionSet] {
        &SETS
    }

    /// The one for a Langfuse 2 on Postgres alone.
    pub fn default_set() -> &'static Self {
        SETS.iter().find(|set| set.default).unwrap_or(&SETS[0])
    }

    /// By its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SETS.iter().find(|set| set.name == name)
    }

    /// The set for an existing Langfuse of this major version: the newest that it takes traces from.
    ///
    /// # Errors
    ///
    /// No set sends what that server takes.
    pub fn for_langfuse(server: u32) -> Result<&'static Self, TracesLost> {
        let takes = |set: &&VersionSet| set.langfuse_servers.contains(&server);
        SETS.iter().filter(takes).max_by_key(|set| set.litellm).ok_or(TracesLost::NoSet { server })
    }

    /// Every package with its version, as `pip install --no-deps --requirement` reads it.
    pub fn requirements(&self) -> &'static str {
        if self.name == "langfuse-2" {
            include_str!("../requirements/langfuse-2.txt")
        } else {
            include_str!("../requirements/langfuse-3.txt")
        }
    }

    /// The set as a combination, with a server.
    pub fn with_server(&self, server: u32) -> Combination {
        Combination {
            litellm: self.litellm,
            langfuse_sdk: Some(self.langfuse_sdk),
            langfuse_server: server,
            callback: Callback::Langfuse,
        }
    }
}

/// Versions that somebody wants to run together.
#[derive(Clone, Copy, Debug)]
pub struct Combination {
    /// LiteLLM.
    pub litellm: Version,
    /// Langfuse's Python SDK beside it, where there is one.
    pub langfuse_sdk: Option<Version>,
    /// The server's major version.
    pub langfuse_server: u32,
    /// What sends.
    pub callback: Callback,
}

/// A combination that would lose traces, all of them, without a word in most cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TracesLost {
    /// The server has no such route: it answers 404 to every trace.
    #[error(
        "LiteLLM {litellm} sends traces to {path}, which Langfuse {server} does not have: every trace would be lost; {way_out}"
    )]
    Server {
        /// The proxy.
        litellm: Version,
        /// Where it sends.
        path: &'static str,
        /// The server's major version.
        server: u32,
        /// What to do.
        way_out: String,
    },
    /// LiteLLM does not start with this SDK.
    #[error("LiteLLM {litellm} does not start with langfuse {sdk}; it wants {wanted}")]
    Sdk {
        /// The proxy.
        litellm: Version,
        /// The SDK.
        sdk: Version,
        /// As pip writes it.
        wanted: &'static str,
    },
    /// LiteLLM does not start without the SDK.
    #[error(
        "the callback `langfuse` of LiteLLM {litellm} needs the package langfuse ({wanted}); without it the proxy does not start"
    )]
    NoSdk {
        /// The proxy.
        litellm: Version,
        /// As pip writes it.
        wanted: &'static str,
    },
    /// Nobody proved anything with this server.
    #[error(
        "no version set sends what Langfuse {server} takes; there are sets for Langfuse 2, 3 and 4"
    )]
    NoSet {
        /// The server's major version.
        server: u32,
    },
}

impl Combination {
    /// Whether traces arrive.
    ///
    /// # Errors
    ///
    /// They do not, and why.
    pub fn check(&self) -> Result<(), TracesLost> {
        let litellm = self.litellm;
        let sends = match self.callback {
            Callback::Langfuse => litellm.sends(),
            Callback::LangfuseOtel => Sends::Otlp,
        };
        if self.callback == Callback::Langfuse {
            let wanted = wanted_sdk(litellm);
            let sdk = self.langfuse_sdk.ok_or(TracesLost::NoSdk { litellm, wanted })?;
            if !litellm.takes_sdk(sdk) {
                return Err(TracesLost::Sdk { litellm, sdk, wanted });
            }
        }
        if sends.is_taken_by(self.langfuse_server) {
            return Ok(());
        }
        let way_out = VersionSet::for_langfuse(self.langfuse_server)
            .map(|set| {
                format!(
                    "take LiteLLM {} with langfuse {} (set `{}`)",
                    set.litellm, set.langfuse_sdk, set.name
                )
            })
            .unwrap_or_else(|error| error.to_string());
        let (path, server) = (sends.path(), self.langfuse_server);
        Err(TracesLost::Server { litellm, path, server, way_out })
    }
}

/// The SDK's range, as pip writes it.
pub(crate) fn wanted_sdk(litellm: Version) -> &'static str {
    match litellm.sends() {
        Sends::Ingestion => ">=2.59.7,<3",
        Sends::Otlp => ">=4.7,<5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_delivers_to_its_servers_and_pins_what_it_names() {
        for set in VersionSet::all() {
            for server in &set.langfuse_servers {
                set.with_server(*server).check().unwrap();
            }
            assert_eq!(set.sends, set.litellm.sends());
            let pins = set.requirements();
            assert!(pins.contains(&format!("\nlitellm=={}\n", set.litellm)), "{}", set.name);
            assert!(pins.contains(&format!("\nlangfuse=={}\n", set.langfuse_sdk)), "{}", set.name);
        }
        assert_eq!(VersionSet::default_set().name, "langfuse-2");
        assert_eq!(VersionSet::for_langfuse(2).unwrap().name, "langfuse-2");
        assert_eq!(VersionSet::for_langfuse(4).unwrap().name, "langfuse-3");
    }

    #[test]
    fn a_combination_that_loses_traces_is_refused_with_a_way_out() {
        let newest = VersionSet::named("langfuse-3").unwrap();
        let refusals = [
            newest.with_server(2).check().unwrap_err(),
            VersionSet::default_set().with_server(4).check().unwrap_err(),
            Combination { langfuse_sdk: Some(Version::new(2, 60, 10)), ..newest.with_server(3) }
                .check()
                .unwrap_err(),
            Combination { langfuse_sdk: None, ..newest.with_server(3) }.check().unwrap_err(),
            VersionSet::for_langfuse(1).unwrap_err(),
        ];
        let told: Vec<_> = refusals.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(told.join("\n"));
        let otel = Combination { callback: Callback::LangfuseOtel, ..newest.with_server(2) };
        assert!(matches!(otel.check(), Err(TracesLost::Server { .. })));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.102.4") < version("1.109.1"));
        assert_eq!(version("v2.60.10rc1"), Version::new(2, 60, 10));
        assert_eq!(version("3"), Version::new(3, 0, 0));
        assert!("latest".parse::<Version>().is_err());
    }
}
