//! The configurations that LiteLLM itself ships: what works must not alarm, and what is wrong in them is named.

use std::{fs, path::PathBuf};

use litellm_config::{
    Context, Environment, ProxyConfig, VersionSet,
    lint::{self, Level},
};

use crate::support::venv;

/// Every configuration in the installed package.
pub(crate) fn shipped(set: &str) -> Vec<PathBuf> {
    let python = venv::python(set);
    let proxy = python.ancestors().nth(2).unwrap().join("lib");
    let release = fs::read_dir(proxy).unwrap().next().unwrap().unwrap().path();
    let proxy = release.join("site-packages/litellm/proxy");
    let mut found = Vec::new();
    for directory in [proxy.clone(), proxy.join("example_config_yaml")] {
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path| path.extension().is_some_and(|it| it == "yaml")));
    }
    found.sort();
    found
}

fn alarms(set: &VersionSet) -> Vec<String> {
    let mut context = Context::new(set);
    let key = ("LITELLM_MASTER_KEY".to_owned(), "sk-0123456789abcdef".to_owned());
    context.environment = Environment::partial([key]);
    let mut alarms = Vec::new();
    for path in shipped(&set.name) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let report = lint::lint(&fs::read_to_string(&path).unwrap(), &context);
        let worth = report.findings.iter().filter(|finding| finding.level > Level::Note);
        alarms.extend(
            worth.map(|it| format!("{name}: {}: {}: {}", it.rule.name, it.path, it.message)),
        );
    }
    alarms
}

#[test]
fn what_litellm_ships_alarms_only_where_it_is_wrong() {
    let sets = VersionSet::all().iter();
    let told: Vec<_> =
        sets.map(|set| format!("# {}\n{}", set.name, alarms(set).join("\n"))).collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn what_litellm_ships_is_read_and_written_without_loss() {
    for set in VersionSet::all() {
        for path in shipped(&set.name) {
            let text = fs::read_to_string(&path).unwrap();
            let config = ProxyConfig::parse(&text).unwrap();
            let written = config.render();
            let again = ProxyConfig::parse(&written).unwrap();
            assert_eq!(again.render(), written, "{}", path.display());
            let comments =
                |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
            assert_eq!(comments(&written), comments(&text), "{}:\n{written}", path.display());
        }
    }
}
