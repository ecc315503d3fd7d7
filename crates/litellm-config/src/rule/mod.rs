//! The rules: one mistake each, one file each.

use std::fmt;

use crate::lint::{Findings, Level, Subject};

pub(crate) mod api_base_path;
pub(crate) mod bad_duration;
pub(crate) mod budget_without_database;
pub(crate) mod custom_auth_not_enforced;
pub(crate) mod duplicate_key;
pub(crate) mod duplicate_model_name;
pub(crate) mod failures_not_logged;
pub(crate) mod fallback_shape;
pub(crate) mod health_checks_wake;
pub(crate) mod langfuse_keys;
pub(crate) mod langfuse_otel_host;
pub(crate) mod langfuse_sdk;
pub(crate) mod langfuse_server;
pub(crate) mod late_environment;
pub(crate) mod limits_per_worker;
pub(crate) mod literal_key;
pub(crate) mod literal_variable;
pub(crate) mod master_key;
pub(crate) mod missing_api_base;
pub(crate) mod missing_custom_auth;
pub(crate) mod missing_include;
pub(crate) mod missing_key;
pub(crate) mod model_list;
pub(crate) mod not_a_string;
pub(crate) mod rpm_is_a_weight;
pub(crate) mod sleeping_model_retries;
pub(crate) mod sleeping_model_timeout;
pub(crate) mod temperature_default;
pub(crate) mod unknown_alias;
pub(crate) mod unknown_block;
pub(crate) mod unknown_callback;
pub(crate) mod unknown_fallback;
pub(crate) mod unknown_info;
pub(crate) mod unknown_mode;
pub(crate) mod unknown_param;
pub(crate) mod unknown_provider;
pub(crate) mod unknown_routing_strategy;
pub(crate) mod unknown_setting;
pub(crate) mod unpriced_model;
pub(crate) mod unset_variable;
pub(crate) mod wakes_sleeping_models;
pub(crate) mod wrong_type;
pub(crate) mod yaml_syntax;

/// One kind of mistake.
pub struct Rule {
    /// As it is printed, allowed and documented.
    pub name: &'static str,
    /// How bad it is; a finding can be less so.
    pub level: Level,
    /// What the mistake is.
    pub summary: &'static str,
    /// What the real proxy does then. The tests see it do so.
    pub happens: &'static str,
    /// The way out.
    pub mend: &'static str,
    pub(crate) check: fn(&Subject<'_>, &mut Findings),
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every rule, in the order of the documentation.
pub const RULES: &[Rule] = &[
    yaml_syntax::RULE,
    duplicate_key::RULE,
    not_a_string::RULE,
    unknown_block::RULE,
    unknown_setting::RULE,
    unknown_param::RULE,
    unknown_info::RULE,
    model_list::RULE,
    missing_include::RULE,
    wrong_type::RULE,
    unknown_provider::RULE,
    unset_variable::RULE,
    literal_variable::RULE,
    literal_key::RULE,
    missing_key::RULE,
    missing_api_base::RULE,
    api_base_path::RULE,
    wakes_sleeping_models::RULE,
    duplicate_model_name::RULE,
    unpriced_model::RULE,
    sleeping_model_timeout::RULE,
    sleeping_model_retries::RULE,
    temperature_default::RULE,
    unknown_mode::RULE,
    rpm_is_a_weight::RULE,
    fallback_shape::RULE,
    unknown_fallback::RULE,
    unknown_alias::RULE,
    unknown_routing_strategy::RULE,
    unknown_callback::RULE,
    failures_not_logged::RULE,
    langfuse_sdk::RULE,
    langfuse_keys::RULE,
    langfuse_otel_host::RULE,
    langfuse_server::RULE,
    budget_without_database::RULE,
    bad_duration::RULE,
    master_key::RULE,
    custom_auth_not_enforced::RULE,
    missing_custom_auth::RULE,
    health_checks_wake::RULE,
    limits_per_worker::RULE,
    late_environment::RULE,
];

/// A rule by its name.
pub fn named(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
