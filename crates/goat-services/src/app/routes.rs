//! What the doors let through, for those who check it from outside.

use service_supervisor::plan::Route;

/// Routes of administrators that the proxy's door answers by itself.
pub const OWN_ROUTES: [(&str, &str); 2] =
    [("POST", "/goat/keys/revoke"), ("GET", "/goat/keys/spent")];

/// The routes of the proxy's door.
pub fn litellm_routes() -> Vec<Route> {
    super::litellm::door().routes
}

/// The routes of Langfuse's door.
pub fn langfuse_routes() -> Vec<Route> {
    super::langfuse::door().routes
}
