//! npm: which registry, and how to prove who asks.

use super::{INSIDE, Machine, PackageSettings, SCRATCH};

const FILE: &str = "npmrc";
const KEYS: [&str; 9] = [
    "registry",
    "proxy",
    "https-proxy",
    "noproxy",
    "strict-ssl",
    "fetch-retries",
    "fetch-timeout",
    "always-auth",
    "_auth",
];

pub(super) fn gather(machine: &Machine, settings: &mut PackageSettings) {
    for key in KEYS {
        let lower = format!("npm_config_{}", key.replace('-', "_"));
        settings.copy_variable(machine, &lower);
        settings.copy_variable(machine, &lower.to_ascii_uppercase());
    }
    let cache = format!("{INSIDE}/{SCRATCH}/npm");
    settings.env.insert("NPM_CONFIG_CACHE".to_owned(), cache);
    let configured = machine.variable("NPM_CONFIG_USERCONFIG").map(Into::into);
    let Some(text) = machine.read_text(configured.unwrap_or_else(|| machine.home(".npmrc"))) else {
        return;
    };
    let lines: String =
        text.lines().filter(|line| is_about_registries(line)).map(|l| format!("{l}\n")).collect();
    if !lines.is_empty() {
        settings.files.insert(FILE.to_owned(), lines.into_bytes());
        let path = format!("{INSIDE}/{FILE}");
        settings.env.insert("NPM_CONFIG_USERCONFIG".to_owned(), path);
    }
}

/// `registry=…`, `@scope:registry=…`, `//host/:_authToken=…` and the like.
fn is_about_registries(line: &str) -> bool {
    let Some((key, _)) = line.split_once('=') else { return false };
    let key = key.trim();
    KEYS.contains(&key) || key.starts_with("//") || key.ends_with(":registry")
}
