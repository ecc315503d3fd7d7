//! Keys that open the door.

use goat_keys::Claims;
use http::StatusCode;
use secret_string::SecretString;
use subtle::{Choice, ConstantTimeEq as _};

use super::answer::Refusal;
use super::credentials::Credentials;
use super::tasks::TaskTokens;
use crate::environment::Environment;
use crate::error::Result;
use crate::plan::{Access, DoorSpec};

const NO_KEY: Refusal = Refusal { status: StatusCode::UNAUTHORIZED, why: "no key was sent" };
const WRONG_KEY: Refusal =
    Refusal { status: StatusCode::UNAUTHORIZED, why: "the key is not valid" };
const EXPIRED: Refusal = Refusal {
    status: StatusCode::UNAUTHORIZED,
    why: "the key has expired: its task's time is over",
};
const REVOKED: Refusal =
    Refusal { status: StatusCode::UNAUTHORIZED, why: "the keys of this run were revoked" };
const NOT_ADMIN: Refusal =
    Refusal { status: StatusCode::FORBIDDEN, why: "this key does not open this route" };

/// Keys of users and of administrators.
pub(crate) struct Keys {
    users: Vec<SecretString>,
    admins: Vec<SecretString>,
    tasks: Option<TaskTokens>,
}

impl Keys {
    pub(crate) fn read(spec: &DoorSpec, environment: &Environment) -> Result<Self> {
        let wanted_by = format!("door `{}`", spec.name);
        let read = |names: &[String]| {
            names
                .iter()
                .map(|name| environment.need(name, &wanted_by).cloned())
                .collect::<Result<_>>()
        };
        let tasks = spec.task_keys.as_ref();
        let tasks = tasks.map(|tasks| TaskTokens::read(tasks, environment, &spec.name));
        let (users, admins) = (read(&spec.user_keys)?, read(&spec.admin_keys)?);
        Ok(Self { users, admins, tasks: tasks.transpose()? })
    }

    /// Whether what a request shows is enough; where that is a task's token, what it grants.
    pub(crate) fn allow(
        &self,
        access: Access,
        shown: Credentials<'_>,
    ) -> Result<Option<Claims>, Refusal> {
        match (access, shown) {
            (Access::Open | Access::Login, _) => Ok(None),
            (_, Credentials::None) => Err(NO_KEY),
            (Access::Credentials, _) => Ok(None),
            (Access::User | Access::Admin, Credentials::Other) => Err(WRONG_KEY),
            (Access::User, Credentials::Key(key)) if TaskTokens::is_token(key) => {
                self.token(key).map(Some)
            }
            (Access::Admin, Credentials::Key(key)) if TaskTokens::is_token(key) => {
                self.token(key).and(Err(NOT_ADMIN))
            }
            (Access::User, Credentials::Key(key)) => {
                let known = is_one_of(key, &self.users) | is_one_of(key, &self.admins);
                if known.into() { Ok(None) } else { Err(WRONG_KEY) }
            }
            (Access::Admin, Credentials::Key(key)) => {
                let (admin, user) = (is_one_of(key, &self.admins), is_one_of(key, &self.users));
                match (admin.into(), user.into()) {
                    (true, _) => Ok(None),
                    (false, true) => Err(NOT_ADMIN),
                    (false, false) => Err(WRONG_KEY),
                }
            }
        }
    }
}

impl Keys {
    /// What checks tokens of tasks, where the door takes them.
    pub(crate) fn tasks(&self) -> Option<&TaskTokens> {
        self.tasks.as_ref()
    }

    fn token(&self, key: &[u8]) -> Result<Claims, Refusal> {
        let tasks = self.tasks.as_ref().ok_or(WRONG_KEY)?;
        match tasks.verify(key) {
            Ok(claims) => Ok(claims),
            Err(goat_keys::Error::Expired { .. }) => Err(EXPIRED),
            Err(goat_keys::Error::Revoked { .. }) => Err(REVOKED),
            Err(_) => Err(WRONG_KEY),
        }
    }
}

/// Compares with all of them, so that the time tells neither which one it is nor how much of it is right.
fn is_one_of(key: &[u8], known: &[SecretString]) -> Choice {
    let equal = |found: Choice, known: &SecretString| found | known.expose().as_bytes().ct_eq(key);
    known.iter().fold(Choice::from(0), equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(access: Access, shown: Credentials<'_>) -> u16 {
        let keys = Keys {
            users: vec!["user".into()],
            admins: vec!["admin".into(), "old".into()],
            tasks: None,
        };
        keys.allow(access, shown).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn who_may_what() {
        let shown = [
            Credentials::None,
            Credentials::Other,
            Credentials::Key(b"user"),
            Credentials::Key(b"admin"),
            Credentials::Key(b"old"),
            Credentials::Key(b"use"),
            Credentials::Key(b""),
        ];
        let row = |access| shown.map(|shown| status(access, shown));
        assert_eq!(row(Access::Open), [200; 7]);
        assert_eq!(row(Access::Login), [200; 7]);
        assert_eq!(row(Access::Credentials), [401, 200, 200, 200, 200, 200, 200]);
        assert_eq!(row(Access::User), [401, 401, 200, 200, 200, 401, 401]);
        assert_eq!(row(Access::Admin), [401, 401, 403, 200, 200, 401, 401]);
    }
}
