//! Every rule of the linter, proved against the real proxy of both version sets: the proxy is booted with the mistake and
//! does what the rule says; it is booted with a working configuration beside it, which must not alarm.
//!
//! `GOAT_LITELLM_PROOF=all` boots every case, `=N` those that the seed N chooses (a sixth); without it a sixth of
//! them, another one each day. What needs no boot is checked for all of them, always.

mod cases;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use litellm_config::{
    Context, Environment, VersionSet,
    lint::{self, Level, Report},
    rule::RULES,
};
use tokio::sync::Semaphore;

use self::cases::{Case, Expect, cases};
use crate::support::{
    proxy::{Boot, LiteLlm, Setup, environment},
    upstream::Upstream,
};

/// Proxies at a time: they start on every core.
const AT_A_TIME: usize = 3;

/// One case in a directory of its own.
struct Stage {
    upstream: Upstream,
    directory: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self { upstream: Upstream::start().await, directory: tempfile::tempdir().unwrap() }
    }

    fn setup(&self, config: &str, env: &[(&str, &str)]) -> Setup {
        let put_in = |text: &str| text.replace("{up}", &self.upstream.url);
        let mut variables = environment(&self.upstream);
        for (name, value) in env {
            if value.is_empty() {
                variables.remove(*name);
            } else {
                variables.insert((*name).to_owned(), put_in(value));
            }
        }
        Setup { config: put_in(config), env: variables, ..Setup::default() }
    }

    fn lint(&self, set: &VersionSet, case: &Case, setup: &Setup, is_mistake: bool) -> Report {
        let mut context = Context::new(set);
        let proxy_only = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];
        let env = setup.env.iter().filter(|(name, _)| !proxy_only.contains(&name.as_str()));
        context.environment =
            Environment::complete(env.map(|(name, value)| (name.clone(), value.clone())));
        context.directory = Some(self.directory.path().to_owned());
        if is_mistake || !case.is_context_of_mistake() {
            (case.context)(&mut context);
        }
        lint::lint(&setup.config, &context)
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(self.directory.path().join(name), text).unwrap();
        }
    }
}

/// What is wrong with what the linter says of a case, if anything.
fn linted(stage: &Stage, set: &VersionSet, case: &Case) -> Result<(), String> {
    stage.write(case.mistake_files);
    let mistake = stage.lint(set, case, &stage.setup(case.mistake, case.env), true);
    let named = mistake.findings.iter().any(|finding| finding.rule.name == case.rule);
    if !named {
        return Err(format!("the mistake is not named; found {:#?}", mistake.findings));
    }
    stage.write(case.files);
    let sound = stage.lint(set, case, &stage.setup(case.sound, case.sound_env), false);
    let alarms: Vec<_> =
        sound.findings.iter().filter(|finding| finding.level > Level::Note).collect();
    if !alarms.is_empty() {
        return Err(format!("the working configuration alarms: {alarms:#?}"));
    }
    Ok(())
}

async fn seen(litellm: &LiteLlm, set: &VersionSet, case: &Case) -> Result<(), String> {
    let stage = Stage::new().await;
    stage.write(case.mistake_files);
    let expect = (case.expect)(set.name.as_str());
    let mut setup = stage.setup(case.mistake, case.env);
    (setup.args, setup.hidden) = (case.args, case.hidden);
    observe(litellm, &stage, &setup, &expect).await.map_err(|why| format!("mistake: {why}"))?;
    let stage = Stage::new().await;
    stage.write(case.files);
    let setup = stage.setup(case.sound, case.sound_env);
    let expect = (case.works)(set.name.as_str());
    observe(litellm, &stage, &setup, &expect).await.map_err(|why| format!("working: {why}"))
}

async fn observe(
    litellm: &LiteLlm,
    stage: &Stage,
    setup: &Setup,
    expect: &Expect,
) -> Result<(), String> {
    let boot = litellm.boot(stage.directory.path(), setup).await;
    match (expect, boot) {
        (Expect::Exits(code, word), Boot::Exited { code: real, log }) => {
            if *code == real && log.contains(word) {
                return Ok(());
            }
            Err(format!("it ended with {real}, not {code}, or without `{word}`:\n{}", end(&log)))
        }
        (Expect::Exits(code, _), Boot::Up(_)) => {
            Err(format!("it starts, and should end with {code}"))
        }
        (_, Boot::Exited { code, log }) => {
            Err(format!("it does not start ({code}):\n{}", end(&log)))
        }
        (Expect::Sees(see), Boot::Up(proxy)) => {
            let seen = see(&proxy, &stage.upstream).await;
            seen.map_err(|why| format!("{why}\nlog:\n{}", end(&proxy.log())))
        }
    }
}

/// The end of a log.
fn end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Which cases are booted.
fn chosen(cases: &[Case]) -> Vec<usize> {
    let wanted = std::env::var("GOAT_LITELLM_PROOF").unwrap_or_default();
    if let Some(rules) = wanted.strip_prefix("only=") {
        return (0..cases.len())
            .filter(|it| rules.split(',').any(|rule| rule == cases[*it].rule))
            .collect();
    }
    if wanted == "all" {
        return (0..cases.len()).collect();
    }
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let seed = wanted.parse().unwrap_or(today);
    println!("seed {seed}: GOAT_LITELLM_PROOF={seed} boots the same cases");
    (0..cases.len())
        .filter(|index| (*index as u64 + seed).is_multiple_of(6) && !cases[*index].is_slow())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_and_no_working_configuration_alarms() {
    let mut wrong = Vec::new();
    for set in VersionSet::all() {
        for case in cases().iter().filter(|case| case.is_of(&set.name)) {
            let stage = Stage::new().await;
            if let Err(why) = linted(&stage, set, case) {
                wrong.push(format!("{} ({}, {}): {why}", case.rule, case.what, set.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn every_rule_has_a_case() {
    let proved: BTreeSet<&str> = cases().iter().map(|case| case.rule).collect();
    let unproved: Vec<_> =
        RULES.iter().map(|rule| rule.name).filter(|name| !proved.contains(name)).collect();
    assert!(unproved.is_empty(), "{unproved:?}");
}

async fn prove(set: &'static str) {
    let begun = Instant::now();
    let litellm = Arc::new(tokio::task::block_in_place(|| LiteLlm::start(set)));
    let set = VersionSet::named(set).unwrap();
    let all: &'static [Case] = Box::leak(cases().into_boxed_slice());
    let permits = Arc::new(Semaphore::new(AT_A_TIME));
    let mut running = tokio::task::JoinSet::new();
    for index in chosen(all).into_iter().filter(|index| all[*index].is_of(&set.name)) {
        let (litellm, permits) = (Arc::clone(&litellm), Arc::clone(&permits));
        running.spawn(async move {
            let _permit = permits.acquire().await.unwrap();
            (index, seen(&litellm, set, &all[index]).await)
        });
    }
    let (mut count, mut wrong) = (0, Vec::new());
    while let Some(done) = running.join_next().await {
        let (index, result) = done.unwrap();
        count += 1;
        if let Err(why) = result {
            wrong.push(format!("{} ({}): {why}", all[index].rule, all[index].what));
        }
    }
    let rules: BTreeSet<_> = chosen(all).iter().map(|index| all[*index].rule).collect();
    let took = begun.elapsed().as_secs();
    println!(
        "{}: {count} mistakes and as many working configurations of {} rules on LiteLLM {} in {took} s, {} wrong",
        set.name,
        rules.len(),
        set.litellm,
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(count > 0, "no case was booted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_proxy_does_what_the_rules_say_langfuse_2() {
    prove("langfuse-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_proxy_does_what_the_rules_say_langfuse_3() {
    prove("langfuse-3").await;
}
