//! Which requests pass, and what they need for it.

use http::{Method, StatusCode};

use super::answer::Refusal;
use super::path::{Path, Pattern};
use crate::plan::{Access, Route};

/// The list of a door.
pub(crate) struct Routes(Vec<Entry>);

struct Entry {
    methods: Vec<Method>,
    pattern: Pattern,
    passage: Passage,
}

/// What a request needs, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) access: Access,
    /// Another port than the door's.
    pub(crate) upstream: Option<u16>,
}

impl Routes {
    /// Of a plan that was checked; what could not be understood fits nothing.
    pub(crate) fn new(routes: &[Route]) -> Self {
        let entry = |route: &Route| {
            let methods = route.methods.iter().map(|method| method.parse().ok());
            let methods = methods.collect::<Option<Vec<_>>>()?;
            let pattern = Pattern::parse(&route.path)?;
            let passage = Passage { access: route.access, upstream: route.upstream };
            Some(Entry { methods, pattern, passage })
        };
        Self(routes.iter().filter_map(entry).collect())
    }

    /// What the first entry that fits asks for.
    pub(crate) fn passage(&self, method: &Method, path: &Path<'_>) -> Result<Passage, Refusal> {
        let mut fitting = self.0.iter().filter(|entry| entry.pattern.fits(path)).peekable();
        if fitting.peek().is_none() {
            return Err(Refusal { status: StatusCode::NOT_FOUND, why: "no such route" });
        }
        let takes = |entry: &&Entry| entry.methods.is_empty() || entry.methods.contains(method);
        let refusal =
            Refusal { status: StatusCode::METHOD_NOT_ALLOWED, why: "not with this method" };
        fitting.find(takes).map(|entry| entry.passage).ok_or(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Result<Access, u16> {
        let route = |methods: &[&str], path: &str, access| Route {
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            path: path.to_owned(),
            access,
            upstream: None,
        };
        let routes = Routes::new(&[
            route(&["GET"], "/health", Access::Open),
            route(&["POST"], "/v1/chat/completions", Access::User),
            route(&["GET"], "/key/*", Access::Admin),
            route(&[], "/key/*", Access::Credentials),
        ]);
        let path = Path::parse(path).unwrap();
        let passage = routes.passage(&method.parse().unwrap(), &path);
        passage.map(|passage| passage.access).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn what_is_not_listed_does_not_pass() {
        assert_eq!(asked("GET", "/health"), Ok(Access::Open));
        assert_eq!(asked("POST", "/health"), Err(405));
        assert_eq!(asked("POST", "/v1/chat/completions"), Ok(Access::User));
        assert_eq!(asked("GET", "/key/info"), Ok(Access::Admin));
        assert_eq!(asked("DELETE", "/key/info"), Ok(Access::Credentials));
        assert_eq!(asked("GET", "/"), Err(404));
        assert_eq!(asked("GET", "/Health"), Err(404));
    }
}
