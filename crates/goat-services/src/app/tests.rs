//! The app, as it is described.

use std::collections::BTreeMap;

use litellm_config::{Catalogue, VersionSet};

use super::*;

fn supervisor() -> Contents {
    Contents::Text("the supervisor".to_owned())
}

fn proxy(upstreams: Upstreams) -> Service {
    let catalogue = Catalogue::builtin().unwrap();
    let set = VersionSet::default_set();
    let traces = Traces::Own;
    litellm(&Litellm { set, catalogue: &catalogue, upstreams, traces }, &supervisor())
}

/// The proxy of an existing Langfuse 4.
fn existing() -> Service {
    let catalogue = Catalogue::builtin().unwrap();
    let set = VersionSet::for_langfuse(4).unwrap();
    let upstreams = Upstreams::Providers(vec!["OPENAI_API_KEY".to_owned()]);
    let traces = Traces::Existing(ExistingLangfuse {
        url: "https://langfuse.example".to_owned(),
        public_key: "pk-lf-1".into(),
        secret_key: "sk-lf-hidden".into(),
    });
    litellm(&Litellm { set, catalogue: &catalogue, upstreams, traces }, &supervisor())
}

fn replayed() -> Service {
    let program = Contents::Text("llm-replay".to_owned());
    proxy(Upstreams::Replay { program, recordings: Vec::new() })
}

fn all() -> Vec<Service> {
    let stand_in = Langfuse::StandIn(Contents::Text("langfuse-local".to_owned()));
    let keys = vec!["OPENAI_API_KEY".to_owned()];
    vec![
        replayed(),
        proxy(Upstreams::Providers(keys)),
        existing(),
        langfuse(&Langfuse::Official, &supervisor()),
        langfuse(&stand_in, &supervisor()),
        langfuse_query(&supervisor()),
    ]
}

#[test]
fn every_plan_can_be_carried_out_and_fits_into_the_startup_time() {
    for service in all() {
        let Some(server) = service.server() else { continue };
        server.plan.check().unwrap();
        assert!(server.ready_within() < server.startup, "{}", service.name);
        assert_eq!(server.plan.doors[0].port, server.port);
        for spec in &server.plan.services {
            // Behind the door: nothing but the door listens for the outside.
            let words = format!("{:?} {:?}", spec.command, spec.env);
            assert!(!words.contains("0.0.0.0"), "{words}");
        }
    }
}

#[test]
fn the_plans_read_well() {
    let plan = |service: Service| service.server().unwrap().plan.clone();
    insta::assert_json_snapshot!("litellm_plan", plan(replayed()));
    let langfuse = langfuse(&Langfuse::Official, &supervisor());
    insta::assert_json_snapshot!("langfuse_plan", plan(langfuse));
}

#[test]
fn the_shim_reads_well() {
    let (module, text) = shim(&replayed());
    assert_eq!(module, "goat_litellm");
    insta::assert_snapshot!(text);
    let (module, text) = shim(&langfuse_query(&supervisor()));
    assert_eq!(module, "goat_langfuse_query");
    insta::assert_snapshot!("the_shim_of_the_query_reads_well", text);
}

#[test]
fn the_images_read_well() {
    let image = |service: Service| {
        let commands =
            service.commands.iter().map(|line| line.chars().take(400).collect::<String>());
        std::iter::once(format!("FROM {}", service.base))
            .chain(commands)
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!("litellm_image", image(replayed()));
    insta::assert_snapshot!("langfuse_image", image(langfuse(&Langfuse::Official, &supervisor())));
}

#[test]
fn a_change_is_named_by_its_part() {
    let marks = BTreeMap::from([("goat-litellm/LITELLM_MASTER_KEY".to_owned(), "aa".to_owned())]);
    let before = Digests::of(&replayed(), &marks).unwrap();
    assert_eq!(Digests::of(&replayed(), &marks).unwrap(), before);
    let mut record = DeployRecord::default();
    assert_eq!(record.change(LITELLM, &before), Change::New);
    record.set(&replayed(), before.clone());
    assert_eq!(record.change(LITELLM, &before), Change::Unchanged);

    let rotated = BTreeMap::from([("goat-litellm/LITELLM_MASTER_KEY".to_owned(), "bb".to_owned())]);
    let changed = Digests::of(&replayed(), &rotated).unwrap();
    assert_eq!(record.change(LITELLM, &changed), Change::Changed(vec!["secrets".to_owned()]));
    let other = Digests::of(&proxy(Upstreams::Providers(Vec::new())), &marks).unwrap();
    let parts = ["configuration", "plan", "programs", "secrets"].map(str::to_owned);
    assert_eq!(record.change(LITELLM, &other), Change::Changed(parts.to_vec()));

    let tag = record.tag();
    record.set(&replayed(), changed);
    assert_ne!(record.tag(), tag);
    assert_eq!(tag.len(), 12);
}

#[test]
fn an_existing_langfuse_is_named_by_values_of_the_function_alone() {
    let service = existing();
    assert!(service.addresses.is_empty() && !service.secrets.contains(&"goat-langfuse"));
    let names: Vec<_> = service.values.keys().map(String::as_str).collect();
    assert_eq!(names, ["GOAT_LANGFUSE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"]);
    assert!(!format!("{service:?}").contains("sk-lf-hidden"));
    let plan = &service.server().unwrap().plan;
    let spool = &plan.spools[0];
    let wanted = ("GOAT_LANGFUSE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY");
    assert_eq!((&*spool.url, &*spool.public_key, &*spool.secret_key), wanted);
    assert!(spool.again_within.is_zero() && spool.kept.is_some());

    let marks = |key: &str| BTreeMap::from([(Digests::inline(SECRET), key.to_owned())]);
    const SECRET: &str = "LANGFUSE_SECRET_KEY";
    let before = Digests::of(&service, &marks("aa")).unwrap();
    let changed = Digests::of(&service, &marks("bb")).unwrap();
    assert_eq!(changed.changed_since(&before), ["secrets"]);
}

#[test]
fn the_proxy_sees_no_password_and_langfuse_no_key_of_models() {
    let names = |service: &Service| {
        let specs = service.server().unwrap().plan.services.iter();
        specs.map(|spec| format!("{:?}", spec.env)).collect::<String>()
    };
    for service in all().into_iter().filter(|service| service.server().is_some()) {
        let is_proxy = service.name == LITELLM;
        assert_eq!(names(&service).contains("USER_PASSWORD"), !is_proxy);
        assert_eq!(names(&service).contains("LITELLM_MASTER_KEY"), is_proxy);
    }
}
