//! pip and uv: where packages are found, and nothing about where they go.

use std::collections::BTreeMap;

use super::{INSIDE, Machine, PackageSettings, SCRATCH};

const FILE: &str = "pip.conf";
/// Options taken over; others (`target`, `user`, `require-virtualenv`, …) would change the result.
const OPTIONS: [&str; 12] = [
    "index-url",
    "extra-index-url",
    "no-index",
    "find-links",
    "trusted-host",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
    "prefer-binary",
    "disable-pip-version-check",
    "keyring-provider",
];
const UV: [&str; 8] = [
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_TIMEOUT",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
];

pub(super) fn gather(machine: &Machine, settings: &mut PackageSettings) {
    for option in OPTIONS {
        let name = format!("PIP_{}", option.replace('-', "_").to_ascii_uppercase());
        settings.copy_variable(machine, &name);
    }
    for name in UV {
        settings.copy_variable(machine, name);
    }
    for name in ["PIP_FIND_LINKS", "UV_FIND_LINKS"] {
        translate_variable(machine, settings, name);
    }
    configuration(machine, settings);
    let caches = [("PIP_CACHE_DIR", "pip"), ("UV_CACHE_DIR", "uv")];
    for (name, directory) in caches {
        settings.env.insert(name.to_owned(), format!("{INSIDE}/{SCRATCH}/{directory}"));
    }
    let fixed = [("UV_LINK_MODE", "copy"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1")];
    let root = ("PIP_ROOT_USER_ACTION", "ignore");
    for (name, value) in fixed.into_iter().chain([root]) {
        settings.env.insert(name.to_owned(), value.to_owned());
    }
}

fn translate_variable(machine: &Machine, settings: &mut PackageSettings, name: &str) {
    let Some(value) = settings.env.remove(name) else { return };
    let value = settings.translate_paths(machine, &value);
    if !value.is_empty() {
        settings.env.insert(name.to_owned(), value);
    }
}

/// pip reads several files; the step gets one that says the same.
fn configuration(machine: &Machine, settings: &mut PackageSettings) {
    let mut paths = vec![
        "/etc/xdg/pip/pip.conf".into(),
        "/etc/pip.conf".into(),
        machine.home(".pip/pip.conf"),
        machine.home(".config/pip/pip.conf"),
    ];
    paths.extend(machine.variable("PIP_CONFIG_FILE").map(Into::into));
    let mut merged: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for text in paths.iter().filter_map(|path| machine.read_text(path)) {
        for (section, option, value) in options(&text) {
            if !OPTIONS.contains(&option.as_str()) {
                continue;
            }
            let value = match option.as_str() {
                "find-links" => settings.translate_paths(machine, &value),
                _ => value,
            };
            merged.entry(section).or_default().insert(option, value);
        }
    }
    if merged.is_empty() {
        return;
    }
    let mut text = String::new();
    for (section, options) in merged {
        text.push_str(&format!("[{section}]\n"));
        for (option, value) in options.into_iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!("{option} = {value}\n"));
        }
    }
    settings.files.insert(FILE.to_owned(), text.into_bytes());
    settings.env.insert("PIP_CONFIG_FILE".to_owned(), format!("{INSIDE}/{FILE}"));
}

/// Section, option and value; indented lines continue a value.
fn options(text: &str) -> Vec<(String, String, String)> {
    let mut found: Vec<(String, String, String)> = Vec::new();
    let mut section = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name.to_owned());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, _, value)) = found.last_mut() {
                value.push(' ');
                value.push_str(trimmed);
            }
        } else if let (Some(section), Some((option, value))) =
            (&section, trimmed.split_once(['=', ':']))
        {
            let option = option.trim().to_ascii_lowercase().replace('_', "-");
            found.push((section.clone(), option, value.trim().to_owned()));
        }
    }
    found
}
