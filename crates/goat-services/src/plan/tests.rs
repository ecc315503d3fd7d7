use super::*;
use crate::env_file::EnvFile;

fn values(pairs: &[(&str, &str)]) -> Values {
    let names = catalog::SECRETS.iter().flat_map(|secret| secret.keys).map(|key| key.name);
    let file = EnvFile::read("/nonexistent/.env").unwrap();
    let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, it)| (*it).into());
    Values::find(names, &file, find)
}

fn plan(deployed: &Deployed, given: &[(&str, &str)], wishes: &Wishes) -> SetupPlan {
    let fingerprints = Fingerprints::with_salt("salt");
    SetupPlan::new(deployed, &values(given), &fingerprints, wishes).unwrap()
}

/// What an environment has after a plan was carried out.
fn carried_out(deployed: &Deployed, plan: &SetupPlan) -> Deployed {
    let mut deployed = deployed.clone();
    deployed.environment = true;
    for secret in &plan.secrets {
        if matches!(secret.action, Action::Make | Action::Change) {
            let here = deployed.secrets.entry(secret.name.to_owned()).or_default();
            for (name, value) in secret.given() {
                let mark = Fingerprints::with_salt("salt").of(name, value);
                here.keys.insert(name.to_owned());
                here.fingerprints.insert(name.to_owned(), mark);
            }
        }
    }
    deployed.volumes.extend(catalog::VOLUMES.iter().map(|name| (*name).to_owned()));
    deployed
}

fn shown(plan: &SetupPlan) -> String {
    let mut text = format!("environment {:?}\n", plan.environment);
    for secret in &plan.secrets {
        text.push_str(&format!("{} {:?}\n", secret.name, secret.action));
        for key in &secret.keys {
            text.push_str(&format!("  {} {:?} {:?}\n", key.name, key.state, key.source));
        }
    }
    for volume in &plan.volumes {
        text.push_str(&format!("{} {:?}\n", volume.name, volume.action));
    }
    for problem in &plan.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}

fn state(plan: &SetupPlan, name: &str) -> KeyState {
    let mut keys = plan.secrets.iter().flat_map(|secret| &secret.keys);
    keys.find(|key| key.name == name).unwrap().state
}

#[test]
fn an_empty_environment_gets_everything() {
    let given = [("OPENAI_API_KEY", "sk-mine"), ("POSTGRES_USER", "me")];
    let plan = plan(&Deployed::default(), &given, &Wishes::default());
    insta::assert_snapshot!(shown(&plan));
    assert!(!plan.is_done());
    let kept: Vec<_> = plan.for_file().map(|(name, _)| name).collect();
    assert_eq!(
        kept,
        [
            "LITELLM_MASTER_KEY",
            "GOAT_TASK_SIGNING_KEY",
            "LANGFUSE_NEXTAUTH_SECRET",
            "LANGFUSE_SALT",
            "LANGFUSE_INIT_PROJECT_PUBLIC_KEY",
            "LANGFUSE_INIT_PROJECT_SECRET_KEY",
            "LANGFUSE_INIT_USER_PASSWORD",
            "POSTGRES_PASSWORD",
        ]
    );
}

#[test]
fn a_second_time_there_is_nothing_to_do() {
    let first = plan(&Deployed::default(), &[], &Wishes::default());
    let deployed = carried_out(&Deployed::default(), &first);
    let file: Vec<(String, String)> = first
        .for_file()
        .map(|(name, value)| (name.to_owned(), value.expose().to_owned()))
        .collect();
    let file: Vec<(&str, &str)> = file.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let second = plan(&deployed, &file, &Wishes::default());
    assert!(second.is_done(), "{}", shown(&second));
    assert_eq!(state(&second, "LITELLM_MASTER_KEY"), KeyState::Same);
    assert_eq!(
        state(&second, "POSTGRES_DB"),
        KeyState::Kept,
        "a default needs no line in the file"
    );
    assert_eq!(second.for_file().count(), 0);

    let mut changed = file.clone();
    changed.retain(|(name, _)| *name != "LITELLM_MASTER_KEY");
    changed.push(("LITELLM_MASTER_KEY", "sk-other"));
    let third = plan(&deployed, &changed, &Wishes::default());
    assert!(third.is_done());
    assert_eq!(state(&third, "LITELLM_MASTER_KEY"), KeyState::Differs);
    let secret = third.secrets.iter().find(|secret| secret.name == "goat-litellm").unwrap();
    assert_eq!(secret.action, Action::LeaveAlone);
    assert_eq!(secret.given().count(), 0);
}

#[test]
fn what_was_deployed_by_others_is_left_alone_and_only_what_it_lacks_is_added() {
    let mut deployed = Deployed { environment: true, ..Deployed::default() };
    let old = |keys: &[&str]| DeployedSecret {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..DeployedSecret::default()
    };
    deployed.secrets.insert("goat-litellm".into(), old(&["LITELLM_MASTER_KEY"]));
    deployed.secrets.insert("goat-postgres".into(), old(&["POSTGRES_USER", "POSTGRES_PASSWORD"]));
    let plan = plan(&deployed, &[("LITELLM_MASTER_KEY", "sk-mine")], &Wishes::default());
    assert_eq!(state(&plan, "LITELLM_MASTER_KEY"), KeyState::Unknown);
    assert_eq!(state(&plan, "GOAT_TASK_SIGNING_KEY"), KeyState::New);
    assert_eq!(state(&plan, "POSTGRES_PASSWORD"), KeyState::Kept);
    let litellm = plan.secrets.iter().find(|secret| secret.name == "goat-litellm").unwrap();
    assert_eq!(litellm.action, Action::Change);
    assert_eq!(
        litellm.given().map(|(name, _)| name).collect::<Vec<_>>(),
        ["GOAT_TASK_SIGNING_KEY"]
    );
    assert!(!plan.for_file().any(|(name, _)| name == "POSTGRES_PASSWORD"));
}

#[test]
fn what_is_to_be_replaced_is_and_nothing_beside_it() {
    let first = plan(&Deployed::default(), &[("GROQ_API_KEY", "gsk-1")], &Wishes::default());
    let deployed = carried_out(&Deployed::default(), &first);
    let wish = |names: &[&str]| Wishes {
        rotate: names.iter().map(|name| (*name).to_owned()).collect(),
        needs_provider: false,
    };
    let plan = plan(
        &deployed,
        &[("GROQ_API_KEY", "gsk-2")],
        &wish(&["POSTGRES_PASSWORD", "GROQ_API_KEY"]),
    );
    let given: Vec<_> = plan.secrets.iter().flat_map(SecretPlan::given).map(|(it, _)| it).collect();
    assert_eq!(given, ["GROQ_API_KEY", "POSTGRES_PASSWORD"]);
    assert_eq!(plan.for_file().map(|(name, _)| name).collect::<Vec<_>>(), ["POSTGRES_PASSWORD"]);

    let nothing = super::SetupPlan::new(
        &deployed,
        &values(&[]),
        &Fingerprints::with_salt("salt"),
        &wish(&["GROQ_API_KEY"]),
    );
    insta::assert_snapshot!(nothing.unwrap().problems[0], @"`GROQ_API_KEY` is to be replaced, but nothing gives a new value: set it in the file or the environment");
    let unknown = super::SetupPlan::new(
        &deployed,
        &values(&[]),
        &Fingerprints::with_salt("salt"),
        &wish(&["master_key"]),
    );
    insta::assert_snapshot!(unknown.unwrap_err(), @"`master_key` is no key of these secrets; did you mean `LITELLM_MASTER_KEY`?");
}

#[test]
fn models_need_one_complete_provider_where_they_are_real() {
    let real = Wishes { needs_provider: true, ..Wishes::default() };
    let words = |given: &[(&str, &str)], wishes: &Wishes| {
        let problems = plan(&Deployed::default(), given, wishes).problems;
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(words(&[], &real), @"no provider of models is complete: set one of AZURE_API_KEY with AZURE_API_BASE, OPENAI_API_KEY, ANTHROPIC_API_KEY, GROQ_API_KEY");
    insta::assert_snapshot!(words(&[("AZURE_API_KEY", "x")], &real), @"Azure needs AZURE_API_BASE, too: set it, or take AZURE_API_KEY away");
    assert_eq!(words(&[("OPENAI_API_KEY", "x")], &real), "");
    assert_eq!(words(&[], &Wishes::default()), "");
}

#[test]
fn a_plan_shows_no_value() {
    let plan = plan(&Deployed::default(), &[("OPENAI_API_KEY", "sk-mine")], &Wishes::default());
    assert!(!format!("{plan:?}").contains("sk-mine"));
}
