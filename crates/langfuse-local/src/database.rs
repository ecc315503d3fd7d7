//! The connection to PostgreSQL and the tables.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    error::{Result, database},
    settings::Secret,
};

/// Held while tables are made, so that two servers that start at once do not collide. Any number does.
const LOCK: i64 = 0x6c61_6e67_6675_7365;

/// Connects, waiting up to half a minute for a database that is starting, and makes what tables are missing.
pub(crate) async fn open(url: &Secret) -> Result<PgPool> {
    let options: PgConnectOptions =
        url.expose().parse().map_err(database("read `DATABASE_URL`"))?;
    // Columns are timestamps without zone that mean UTC, as Prisma has them.
    let options = options.options([("timezone", "UTC")]).application_name("langfuse-local");
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(Duration::from_secs(30))
        .connect_with(options)
        .await
        .map_err(database("connect to the database"))?;
    make_tables(&pool).await?;
    Ok(pool)
}

async fn make_tables(pool: &PgPool) -> Result<()> {
    let operation = "make the tables";
    let mut transaction = pool.begin().await.map_err(database(operation))?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK);
    lock.execute(&mut *transaction).await.map_err(database(operation))?;
    let tables = sqlx::raw_sql(include_str!("schema.sql"));
    tables.execute(&mut *transaction).await.map_err(database(operation))?;
    crate::models::insert_defaults(&mut transaction).await.map_err(database(operation))?;
    transaction.commit().await.map_err(database(operation))
}
