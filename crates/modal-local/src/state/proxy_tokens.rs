//! Proxy tokens: pairs that open web functions and servers with proxy authentication, and nothing else.
//!
//! A token is good for every environment until it is allowed for one; from then on for those alone that it is allowed for.

use secret_string::SecretString;
use sqlx::SqlitePool;
use subtle::ConstantTimeEq as _;

use super::cas::Sha256Hash;
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{ProxyTokenId, random_suffix};

/// What secrets begin with.
const SECRET_PREFIX: &str = "ws-";

/// A token's record.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct ProxyToken {
    pub(crate) token_id: String,
    pub(crate) name: String,
    pub(crate) scoped: bool,
    pub(crate) created_at: f64,
}

/// The proxy tokens of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct ProxyTokens {
    db: SqlitePool,
}

impl ProxyTokens {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Makes a token. Its secret is told this once.
    pub(crate) async fn create(
        &self,
        name: &str,
        scoped: bool,
    ) -> Result<(ProxyTokenId, SecretString)> {
        let id = ProxyTokenId::random();
        let secret = format!("{SECRET_PREFIX}{}{}", random_suffix(), random_suffix());
        sqlx::query(
            "INSERT INTO proxy_tokens (token_id, secret_hash, name, scoped, created_at)
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(&Sha256Hash::of(secret.as_bytes()).as_bytes()[..])
        .bind(name)
        .bind(scoped)
        .bind(clock::unique_now())
        .execute(&self.db)
        .await
        .map_err(Error::database("create a proxy token"))?;
        Ok((id, secret.into()))
    }

    pub(crate) async fn get(&self, id: &ProxyTokenId) -> Result<ProxyToken> {
        let query =
            "SELECT token_id, name, scoped, created_at FROM proxy_tokens WHERE token_id = ?";
        let found = sqlx::query_as(query).bind(id.as_str()).fetch_optional(&self.db).await;
        let found = found.map_err(Error::database("look up a proxy token"))?;
        found.ok_or_else(|| Error::not_found("proxy token", id))
    }

    /// All of them, oldest first; or those that are allowed for one environment by its id.
    pub(crate) async fn list(&self, environment: Option<&str>) -> Result<Vec<ProxyToken>> {
        sqlx::query_as(
            "SELECT token_id, name, scoped, created_at FROM proxy_tokens AS token
             WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM proxy_token_environments AS allowed
                 WHERE allowed.token_id = token.token_id AND allowed.environment_id = ?1)
             ORDER BY created_at",
        )
        .bind(environment)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("list proxy tokens"))
    }

    pub(crate) async fn rename(&self, id: &ProxyTokenId, name: &str) -> Result<()> {
        let query = sqlx::query("UPDATE proxy_tokens SET name = ? WHERE token_id = ?").bind(name);
        self.change(id, query.bind(id.as_str())).await
    }

    pub(crate) async fn delete(&self, id: &ProxyTokenId) -> Result<()> {
        let query = sqlx::query("DELETE FROM proxy_tokens WHERE token_id = ?");
        self.change(id, query.bind(id.as_str())).await
    }

    /// Allows a token for an environment; from now on it is good for none that it is not allowed for.
    pub(crate) async fn allow(&self, id: &ProxyTokenId, environment: &str) -> Result<()> {
        let query = sqlx::query("UPDATE proxy_tokens SET scoped = TRUE WHERE token_id = ?");
        self.change(id, query.bind(id.as_str())).await?;
        sqlx::query(
            "INSERT INTO proxy_token_environments (token_id, environment_id) VALUES (?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(id.as_str())
        .bind(environment)
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("allow a proxy token"))
    }

    /// Takes an environment away from a token that is allowed for it.
    pub(crate) async fn revoke(&self, id: &ProxyTokenId, environment: &str) -> Result<()> {
        self.get(id).await?;
        let query =
            "DELETE FROM proxy_token_environments WHERE token_id = ? AND environment_id = ?";
        let done = sqlx::query(query).bind(id.as_str()).bind(environment).execute(&self.db).await;
        match done.map_err(Error::database("revoke a proxy token"))?.rows_affected() {
            0 => Err(Error::not_found("environment of the proxy token", environment)),
            _ => Ok(()),
        }
    }

    /// The ids of the environments that a token is allowed for.
    pub(crate) async fn environments(&self, id: &ProxyTokenId) -> Result<Vec<String>> {
        self.get(id).await?;
        let query =
            "SELECT environment_id FROM proxy_token_environments WHERE token_id = ? ORDER BY 1";
        let found = sqlx::query_scalar(query).bind(id.as_str()).fetch_all(&self.db).await;
        found.map_err(Error::database("list environments of a proxy token"))
    }

    /// Whether the pair opens what is in an environment.
    pub(crate) async fn opens(&self, id: &[u8], secret: &[u8], environment: &str) -> Result<bool> {
        let Ok(id) = std::str::from_utf8(id) else { return Ok(false) };
        let hash: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT secret_hash FROM proxy_tokens AS token WHERE token_id = ?1 AND (NOT scoped
             OR EXISTS (SELECT 1 FROM proxy_token_environments AS allowed
                 WHERE allowed.token_id = token.token_id AND allowed.environment_id = ?2))",
        )
        .bind(id)
        .bind(environment)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("check a proxy token"))?;
        let presented = Sha256Hash::of(secret);
        Ok(hash.is_some_and(|hash| bool::from(hash.ct_eq(&presented.as_bytes()[..]))))
    }

    async fn change(
        &self,
        id: &ProxyTokenId,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<()> {
        let done = query.execute(&self.db).await;
        match done.map_err(Error::database("change a proxy token"))?.rows_affected() {
            0 => Err(Error::not_found("proxy token", id)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(tokens: &ProxyTokens, id: &ProxyTokenId, secret: &str) -> Vec<&'static str> {
        let mut opened = Vec::new();
        for environment in ["en-1", "en-2"] {
            let (id, secret) = (id.as_str().as_bytes(), secret.as_bytes());
            if tokens.opens(id, secret, environment).await.unwrap() {
                opened.push(environment);
            }
        }
        opened
    }

    #[sqlx::test(migrations = false)]
    async fn a_token_opens_everything_until_it_is_allowed_for_an_environment(db: SqlitePool) {
        let migration = include_str!("../../migrations/0023_proxy_tokens.sql");
        let environments = "CREATE TABLE environments (environment_id TEXT PRIMARY KEY);
                            INSERT INTO environments VALUES ('en-1'), ('en-2');";
        for statements in [environments, migration] {
            sqlx::raw_sql(statements).execute(&db).await.unwrap();
        }
        let tokens = ProxyTokens::new(db);
        let (id, secret) = tokens.create("ci", false).await.unwrap();
        let (other, _) = tokens.create("other", false).await.unwrap();
        assert_eq!(opened(&tokens, &id, secret.expose()).await, ["en-1", "en-2"]);
        assert!(opened(&tokens, &id, "ws-wrong").await.is_empty());
        assert!(opened(&tokens, &other, secret.expose()).await.is_empty());
        tokens.allow(&id, "en-2").await.unwrap();
        assert_eq!(opened(&tokens, &id, secret.expose()).await, ["en-2"]);
        assert_eq!(tokens.list(Some("en-2")).await.unwrap(), [tokens.get(&id).await.unwrap()]);
        tokens.revoke(&id, "en-2").await.unwrap();
        assert!(opened(&tokens, &id, secret.expose()).await.is_empty(), "for none it is allowed");
        assert!(tokens.revoke(&id, "en-2").await.unwrap_err().is_not_found());
        tokens.delete(&id).await.unwrap();
        assert!(tokens.get(&id).await.unwrap_err().is_not_found());
        assert_eq!(tokens.list(None).await.unwrap().len(), 1);
    }
}
