//! Questions of people: a role that can only read, a limit of time, and of rows.

use std::time::Duration;

use futures::StreamExt as _;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, PgConnection, Row as _,
    SqlSafeStr as _, Statement as _, TypeInfo as _, ValueRef as _,
};

use super::cluster::{Cluster, READER, SUPERUSER};
use super::error::{PostgresError, Result};
use super::roles::QUERY_SECONDS;

/// Rows that are answered at most.
const MAX_ROWS: usize = 10_000;
/// Bytes of values that are answered at most.
const MAX_BYTES: usize = 16 << 20;

/// What a query answers: values as PostgreSQL writes them, the last result of several.
#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    columns: Vec<String>,
    /// PostgreSQL's names of the columns' types.
    types: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    /// Whether there was more.
    truncated: bool,
}

/// Why there is no answer.
pub(super) enum QueryError {
    /// The query itself is to blame.
    Asked(String),
    /// Something here is.
    Here(PostgresError),
}

impl From<PostgresError> for QueryError {
    fn from(error: PostgresError) -> Self {
        Self::Here(error)
    }
}

/// Asks as a role that can only read.
pub(super) async fn ask(cluster: &Cluster, sql: &str) -> std::result::Result<Table, QueryError> {
    let mut connection = cluster.connect(READER, &cluster.spec.database).await?;
    let process = pid(&mut connection).await?;
    // The server has the same limit, which the query may lift.
    let limit = Duration::from_secs(QUERY_SECONDS + 2);
    match tokio::time::timeout(limit, collect(&mut connection, sql)).await {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(sqlx::Error::Database(error))) => Err(QueryError::Asked(error.message().to_owned())),
        Ok(Err(error)) => Err(PostgresError::sql("ask the server")(error).into()),
        Err(_) => {
            end(cluster, process).await?;
            Err(QueryError::Asked(format!("the query took longer than {QUERY_SECONDS} s")))
        }
    }
}

async fn collect(connection: &mut PgConnection, sql: &str) -> sqlx::Result<Table> {
    let mut table = Table::default();
    let mut bytes = 0;
    let mut is_over = false;
    let mut results = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_many(&mut *connection);
    while let Some(result) = results.next().await {
        let Some(row) = result?.right() else {
            is_over = true;
            continue;
        };
        if std::mem::take(&mut is_over) {
            table = Table::default();
        }
        if table.columns.is_empty() {
            table.columns = row.columns().iter().map(|it| it.name().to_owned()).collect();
            table.types = row.columns().iter().map(|it| it.type_info().name().to_owned()).collect();
        }
        let values = values(&row)?;
        bytes += values.iter().flatten().map(String::len).sum::<usize>();
        if table.rows.len() == MAX_ROWS || bytes > MAX_BYTES {
            table.truncated = true;
            // Whatever else there is, nobody waits for it.
            break;
        }
        table.rows.push(values);
    }
    drop(results);
    if table.columns.is_empty() {
        table.name_columns(connection, sql).await;
    }
    Ok(table)
}

impl Table {
    /// Without a row nothing names the columns, so the server is asked. It can't say for several statements, and a
    /// table without names is an answer, too.
    async fn name_columns(&mut self, connection: &mut PgConnection, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
        let Ok(statement) = connection.prepare(sql).await else { return };
        let columns = statement.columns();
        self.columns = columns.iter().map(|it| it.name().to_owned()).collect();
        self.types = columns.iter().map(|it| it.type_info().name().to_owned()).collect();
    }
}

/// As text, which is how the server answers queries that were not prepared.
fn values(row: &PgRow) -> sqlx::Result<Vec<Option<String>>> {
    let value = |index| {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(None);
        }
        value.as_str().map(|text| Some(text.to_owned())).map_err(sqlx::Error::Decode)
    };
    (0..row.columns().len()).map(value).collect()
}

async fn pid(connection: &mut PgConnection) -> Result<i32> {
    let what = "begin a query";
    let row = connection.fetch_one("SELECT pg_backend_pid()").await;
    row.and_then(|row| row.try_get(0)).map_err(PostgresError::sql(what))
}

/// Ends a query that would go on for nobody.
async fn end(cluster: &Cluster, process: i32) -> Result<()> {
    let what = "end a query";
    let mut connection = cluster.connect(SUPERUSER, SUPERUSER).await?;
    let ended = sqlx::query("SELECT pg_terminate_backend($1)").bind(process);
    ended.execute(&mut connection).await.map_err(PostgresError::sql(what))?;
    connection.close().await.map_err(PostgresError::sql(what))
}
