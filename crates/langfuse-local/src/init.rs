//! `LANGFUSE_INIT_*`: what is missing is made, what exists is left as it is.

use sha2::{Digest as _, Sha256};
use sqlx::{PgPool, Postgres, Transaction};

use crate::{
    error::{Result, database},
    settings::{Init, Secret},
};

/// bcrypt's cost of keys and of passwords, as Langfuse 2 has them.
const KEY_COST: u32 = 11;
const PASSWORD_COST: u32 = 12;

/// The fast hash of a secret key: hex SHA-256 of the key followed by the hex SHA-256 of the salt.
pub(crate) fn fast_hash(key: &str, salt: &Secret) -> String {
    let salt = hex::encode(Sha256::digest(salt.expose()));
    hex::encode(Sha256::new().chain_update(key).chain_update(salt).finalize())
}

/// Makes organization, project, keys and user.
pub(crate) async fn provision(pool: &PgPool, init: &Init, salt: &Secret) -> Result<()> {
    let operation = "make the project";
    let mut transaction = pool.begin().await.map_err(database(operation))?;
    organization(&mut transaction, init).await.map_err(database(operation))?;
    if let (Some(project), Some((public, secret))) = (&init.project_id, &init.keys) {
        keys(&mut transaction, project, public, secret, salt).await?;
    }
    if let Some((email, password)) = &init.user {
        user(&mut transaction, init, email, password).await?;
    }
    transaction.commit().await.map_err(database(operation))
}

async fn organization(to: &mut Transaction<'_, Postgres>, init: &Init) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO organizations (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(&init.org_id)
        .bind(init.org_name.as_deref().unwrap_or("Provisioned Org"))
        .execute(&mut **to)
        .await?;
    if let Some(project) = &init.project_id {
        sqlx::query(
            "INSERT INTO projects (id, name, org_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(project)
        .bind(init.project_name.as_deref().unwrap_or("Provisioned Project"))
        .bind(&init.org_id)
        .execute(&mut **to)
        .await?;
    }
    Ok(())
}

async fn keys(
    to: &mut Transaction<'_, Postgres>,
    project: &str,
    public: &str,
    secret: &Secret,
    salt: &Secret,
) -> Result<()> {
    let operation = "make the project's keys";
    let exists: Option<bool> =
        sqlx::query_scalar("SELECT true FROM api_keys WHERE public_key = $1")
            .bind(public)
            .fetch_optional(&mut **to)
            .await
            .map_err(database(operation))?;
    if exists.is_some() {
        return Ok(());
    }
    let hashed = bcrypt_hash(secret.clone(), KEY_COST).await?;
    sqlx::query(
        "INSERT INTO api_keys (id, note, public_key, hashed_secret_key, display_secret_key, project_id, fast_hashed_secret_key)
         VALUES ($1, 'Provisioned API Key', $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(public)
    .bind(hashed)
    .bind(display(secret.expose()))
    .bind(project)
    .bind(fast_hash(secret.expose(), salt))
    .execute(&mut **to)
    .await
    .map_err(database(operation))?;
    Ok(())
}

async fn user(
    to: &mut Transaction<'_, Postgres>,
    init: &Init,
    email: &str,
    password: &Secret,
) -> Result<()> {
    let operation = "make the user";
    let email = email.to_lowercase();
    let exists: Option<bool> = sqlx::query_scalar("SELECT true FROM users WHERE email = $1")
        .bind(&email)
        .fetch_optional(&mut **to)
        .await
        .map_err(database(operation))?;
    if exists.is_some() {
        return Ok(());
    }
    let (id, hashed) =
        (uuid::Uuid::new_v4().to_string(), bcrypt_hash(password.clone(), PASSWORD_COST).await?);
    sqlx::query("INSERT INTO users (id, email, name, password) VALUES ($1, $2, $3, $4)")
        .bind(&id)
        .bind(email)
        .bind(init.user_name.as_deref().unwrap_or("Provisioned User"))
        .bind(hashed)
        .execute(&mut **to)
        .await
        .map_err(database(operation))?;
    sqlx::query("INSERT INTO organization_memberships (id, org_id, user_id, role) VALUES ($1, $2, $3, 'OWNER')")
        .bind(uuid::Uuid::new_v4().to_string())
        .bind(&init.org_id)
        .bind(id)
        .execute(&mut **to)
        .await
        .map_err(database(operation))?;
    Ok(())
}

/// What the pages of Langfuse show of a key: its first six and last four characters.
fn display(secret: &str) -> String {
    let characters: Vec<char> = secret.chars().collect();
    let head: String = characters.iter().take(6).collect();
    let tail: String = characters.iter().skip(characters.len().saturating_sub(4)).collect();
    format!("{head}...{tail}")
}

async fn bcrypt_hash(secret: Secret, cost: u32) -> Result<String> {
    let hash = tokio::task::spawn_blocking(move || bcrypt::hash(secret.expose(), cost)).await;
    hash.map_err(database("hash a key"))?.map_err(database("hash a key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_and_hashed_as_langfuse_2_does() {
        assert_eq!(display("sk-lf-1234567890"), "sk-lf-...7890");
        // printf %s "sk-lf-test$(printf %s pepper | sha256sum | cut -c-64)" | sha256sum
        assert_eq!(
            fast_hash("sk-lf-test", &Secret::new("pepper")),
            "83cb4e49790d14ebb3d5c1e4c7eebcbc89a04df2cb86bc4296f833ec96e2b681"
        );
    }
}
