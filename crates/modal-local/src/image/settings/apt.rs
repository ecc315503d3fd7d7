//! apt: how packages are fetched, and where downloads go, in a file that `APT_CONFIG` names.

use super::{INSIDE, Machine, PackageSettings, SCRATCH};

pub(super) const FILE: &str = "apt.conf";
/// Where downloads go, below the scratch directory; apt makes only its last part.
pub(super) const ARCHIVES: &str = "archives";
/// The settings of fetching that are taken over, with all below them.
const PREFIXES: [&str; 8] = [
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Max-FutureTime",
];

pub(super) fn gather(machine: &Machine, settings: &mut PackageSettings) {
    let is_wanted =
        |line: &&str| PREFIXES.iter().any(|prefix| starts_with_ignoring_case(line, prefix));
    let is_path = |line: &&str| {
        let key = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        ["cainfo", "sslcert", "sslkey", "crlfile", "issuercert"]
            .iter()
            .any(|end| key.ends_with(end))
    };
    let lines = machine.apt_config.lines().filter(is_wanted).filter(|line| !is_path(line));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    if settings.files.contains_key("ca-certificates.crt") {
        text.push_str(&format!("Acquire::https::CAInfo \"{INSIDE}/ca-certificates.crt\";\n"));
    }
    text.push_str(&format!("Dir::Cache::archives \"{INSIDE}/{SCRATCH}/{ARCHIVES}/\";\n"));
    // The user `_apt` may not write there, and apt would say so for each package.
    text.push_str("APT::Sandbox::User \"root\";\n");
    settings.files.insert(FILE.to_owned(), text.into_bytes());
    settings.env.insert("APT_CONFIG".to_owned(), format!("{INSIDE}/{FILE}"));
    settings.env.insert("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned());
}

/// The lines that mean the same outside of a step: those that name no path of a step.
pub(super) fn network_lines(text: &str) -> String {
    let outside = |line: &&str| !line.contains(INSIDE) && line.starts_with("Acquire::");
    text.lines().filter(outside).map(|line| format!("{line}\n")).collect()
}

fn starts_with_ignoring_case(line: &str, prefix: &str) -> bool {
    line.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
