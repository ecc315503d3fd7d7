//! Which port a web function has, over restarts and deployments.

use std::net::Ipv4Addr;

use sqlx::SqlitePool;
use tokio::net::TcpListener;

use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::records::FunctionRecord;
use crate::ids::FunctionId;

/// The table of ports.
pub(super) struct Ports {
    db: SqlitePool,
}

impl Ports {
    pub(super) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// The port that a function was given, if it was.
    pub(super) async fn of(&self, function: &FunctionId, method: &str) -> Result<Option<u16>> {
        let port: Option<i64> = sqlx::query_scalar(
            "SELECT port FROM web_endpoints WHERE function_id = ? AND method = ?",
        )
        .bind(function.as_str())
        .bind(method)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a port"))?;
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    }

    /// Every port that some function has.
    pub(super) async fn all(&self) -> Result<Vec<u16>> {
        let ports: Vec<i64> = sqlx::query_scalar("SELECT DISTINCT port FROM web_endpoints")
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list the ports"))?;
        Ok(ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect())
    }

    /// Listens on the function's port: its own, else the last of this name, else a free one. A port
    /// that somebody else has taken meanwhile is given up.
    pub(super) async fn listen(
        &self,
        ctx: &Ctx,
        record: &FunctionRecord,
        function: &FunctionId,
        method: &str,
    ) -> Result<TcpListener> {
        let label = label(ctx, record, method).await?;
        let own = self.of(function, method).await?;
        let wanted = match own {
            Some(port) => Some(port),
            None => self.last(&label).await?,
        };
        let listener = bind(wanted).await?;
        let port = listener.local_addr().map_err(failed_on(0))?.port();
        sqlx::query(
            "INSERT INTO web_endpoints VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (function_id, method) DO UPDATE SET port = excluded.port",
        )
        .bind(function.as_str())
        .bind(method)
        .bind(label)
        .bind(port)
        .bind(clock::unique_now())
        .execute(&self.db)
        .await
        .map_err(Error::database("record a port"))?;
        Ok(listener)
    }

    async fn last(&self, label: &str) -> Result<Option<u16>> {
        let port: Option<i64> = sqlx::query_scalar(
            "SELECT port FROM web_endpoints WHERE label = ? ORDER BY created_at DESC LIMIT 1",
        )
        .bind(label)
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a port"))?;
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    }
}

/// What a function is called for people: environment, app, function, method.
async fn label(ctx: &Ctx, record: &FunctionRecord, method: &str) -> Result<String> {
    let app = ctx.apps.get(&record.app).await?;
    let environment = ctx.environments.name_of(&app.environment_id).await?;
    Ok(format!("{environment}/{}/{}/{method}", app.description, record.name))
}

async fn bind(wanted: Option<u16>) -> Result<TcpListener> {
    if let Some(port) = wanted
        && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed_on(0))
}

fn failed_on(port: u16) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Listen { address: (Ipv4Addr::LOCALHOST, port).into(), source }
}
