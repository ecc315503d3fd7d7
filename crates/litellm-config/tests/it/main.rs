//! Against the real LiteLLM of both version sets, and the YAML reader that it uses.

mod pyyaml;
mod support;
