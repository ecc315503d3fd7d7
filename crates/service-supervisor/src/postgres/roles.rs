//! Who may do what in the database.

use secret_string::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::cluster::{Cluster, READER, SUPERUSER};
use super::error::{PostgresError, Result};

/// How long a query of people may take.
pub(super) const QUERY_SECONDS: u64 = 30;

/// Makes the database and its roles as they should be, also in a cluster that came from elsewhere.
pub(super) async fn settle(cluster: &Cluster, role: &str, password: &SecretString) -> Result<()> {
    let mut connection = cluster.connect(SUPERUSER, SUPERUSER).await?;
    let (owner, reader) = (identifier(role), identifier(READER));
    make_role(&mut connection, role).await?;
    make_role(&mut connection, READER).await?;
    // The one statement with a secret. The server logs no statement, not even one that fails.
    let password = literal(password.expose());
    let statements = [
        format!("ALTER ROLE {owner} WITH LOGIN PASSWORD {password}"),
        format!("ALTER ROLE {reader} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"),
        format!("GRANT pg_read_all_data TO {reader}"),
        format!("ALTER ROLE {reader} SET default_transaction_read_only = on"),
        format!("ALTER ROLE {reader} SET statement_timeout = '{QUERY_SECONDS}s'"),
    ];
    for statement in statements {
        execute(&mut connection, "set up the roles", statement).await?;
    }
    make_database(&mut connection, &cluster.spec.database, &owner).await?;
    connection.close().await.map_err(PostgresError::sql("leave the server"))
}

/// Rebuilds all indices: another C library may sort text in another order than the one that made them.
pub(super) async fn reindex(cluster: &Cluster) -> Result<()> {
    let database = &cluster.spec.database;
    let mut connection = cluster.connect(SUPERUSER, database).await?;
    let statement = format!("REINDEX DATABASE {}", identifier(database));
    execute(&mut connection, "rebuild the indices", statement).await?;
    connection.close().await.map_err(PostgresError::sql("leave the server"))
}

async fn make_role(connection: &mut PgConnection, role: &str) -> Result<()> {
    let what = "look for the roles";
    let asked = sqlx::query("SELECT 1 FROM pg_roles WHERE rolname = $1").bind(role);
    let found = asked.fetch_optional(&mut *connection).await.map_err(PostgresError::sql(what))?;
    if found.is_some() {
        return Ok(());
    }
    execute(connection, "make the roles", format!("CREATE ROLE {}", identifier(role))).await
}

async fn make_database(connection: &mut PgConnection, name: &str, owner: &str) -> Result<()> {
    let what = "look for the database";
    let asked = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(name);
    let found = asked.fetch_optional(&mut *connection).await.map_err(PostgresError::sql(what))?;
    if found.is_some() {
        return Ok(());
    }
    let statement = format!("CREATE DATABASE {} OWNER {owner}", identifier(name));
    execute(connection, "make the database", statement).await
}

/// Bytes of a segment of WAL.
pub(super) async fn segment_bytes(connection: &mut PgConnection) -> Result<u64> {
    let fail = PostgresError::sql("ask for the size of WAL");
    let asked = "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'";
    let row = connection.fetch_one(asked).await.map_err(fail)?;
    let bytes: i64 = row.try_get(0).map_err(PostgresError::sql("ask for the size of WAL"))?;
    Ok(bytes.unsigned_abs())
}

async fn execute(
    connection: &mut PgConnection,
    what: &'static str,
    statement: String,
) -> Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await;
    done.map(drop).map_err(PostgresError::sql(what))
}

/// A name that PostgreSQL reads as it is.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text that PostgreSQL reads as it is, backslashes included.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal(r"it's a \ "), r"E'it''s a \\ '");
    }
}
