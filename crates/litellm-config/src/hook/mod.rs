//! The hook that checks keys inside of the proxy: LiteLLM's `custom_auth`.
//!
//! It takes the master key and the tokens of crate `goat-keys`, and nothing else. The file goes beside the
//! configuration; a generated configuration names it and turns on the two switches
//! without which LiteLLM ignores what a hook grants.

/// The file's name, beside the configuration.
pub const FILE_NAME: &str = "goat_auth.py";

/// What `general_settings.custom_auth` says.
pub const CUSTOM_AUTH: &str = "goat_auth.user_api_key_auth";

/// The variable with the keys that sign tokens, for the hook.
pub const SIGNING_KEY_VARIABLE: &str = "GOAT_TASK_SIGNING_KEY";

/// The variable that names the file of revoked runs.
pub const REVOKED_RUNS_VARIABLE: &str = "GOAT_REVOKED_RUNS";

/// The file's text.
pub fn source() -> &'static str {
    include_str!("goat_auth.py")
}
