//! Functions, their definitions and classes in the database.

use modal_proto::client::{
    AutoscalerSettings, FunctionData, FunctionOptions, FunctionPrecreateRequest,
};
use prost::Message;
use sqlx::{SqliteConnection, SqlitePool};

use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{AppId, ClassId, DefinitionId, FunctionId};

/// A function, or a variant of one.
#[derive(Debug, Clone)]
pub(crate) struct FunctionRecord {
    pub(crate) id: FunctionId,
    pub(crate) app: AppId,
    /// Its name in the app; of a class `Name.*`.
    pub(crate) name: String,
    /// Of a variant: what it is a variant of.
    pub(crate) base: Option<FunctionId>,
    pub(crate) serialized_params: Vec<u8>,
    pub(crate) options: FunctionOptions,
    pub(crate) announced: FunctionPrecreateRequest,
    pub(crate) definition: Option<DefinitionId>,
    pub(crate) autoscaler: AutoscalerSettings,
}

#[derive(sqlx::FromRow)]
struct Row {
    function_id: String,
    app_id: String,
    name: String,
    base_id: Option<String>,
    serialized_params: Vec<u8>,
    options: Vec<u8>,
    announced: Vec<u8>,
    definition_id: Option<String>,
    autoscaler: Vec<u8>,
}

const COLUMNS: &str = "function_id, app_id, name, base_id, serialized_params, options, announced, \
                       definition_id, autoscaler";

impl Row {
    fn read(self) -> Result<FunctionRecord> {
        Ok(FunctionRecord {
            id: FunctionId::parse(&self.function_id)?,
            app: AppId::parse(&self.app_id)?,
            name: self.name,
            base: self.base_id.as_deref().map(FunctionId::parse).transpose()?,
            serialized_params: self.serialized_params,
            options: decode(&self.options)?,
            announced: decode(&self.announced)?,
            definition: self.definition_id.as_deref().map(DefinitionId::parse).transpose()?,
            autoscaler: decode(&self.autoscaler)?,
        })
    }
}

/// A protobuf message of the database.
pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes)
        .map_err(|source| Error::Database { operation: "read a message", source: source.into() })
}

/// From now on the function and its variants are run as this definition says; what was set for their
/// scaling by hand is forgotten.
pub(super) async fn use_definition(
    transaction: &mut SqliteConnection,
    function: &str,
    definition: &str,
) -> Result<(), sqlx::Error> {
    let done = sqlx::query(
        "UPDATE functions SET definition_id = ?1, autoscaler = X''
         WHERE (function_id = ?2 OR base_id = ?2) AND definition_id IS NOT ?1",
    )
    .bind(definition)
    .bind(function)
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() > 0 {
        // A schedule counts from the deployment.
        sqlx::query("DELETE FROM function_schedules WHERE function_id = ?")
            .bind(function)
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

/// The tables of functions. Clones share them.
#[derive(Clone)]
pub(crate) struct FunctionRecords {
    db: SqlitePool,
}

impl FunctionRecords {
    pub(crate) fn new(db: SqlitePool) -> Self {
        Self { db }
    }

    /// Makes a function that has no definition yet, or updates what is announced of it.
    pub(crate) async fn announce(
        &self,
        id: &FunctionId,
        app: &AppId,
        announced: &FunctionPrecreateRequest,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO functions (function_id, app_id, name, serialized_params, options,
             announced, autoscaler, created_at) VALUES (?, ?, ?, X'', X'', ?, X'', ?)
             ON CONFLICT (function_id) DO UPDATE SET announced = excluded.announced",
        )
        .bind(id.as_str())
        .bind(app.as_str())
        .bind(&announced.function_name)
        .bind(announced.encode_to_vec())
        .bind(clock::unique_now())
        .execute(&self.db)
        .await
        .map(drop)
        .map_err(Error::database("record a function"))
    }

    /// The variant of `base` with these parameters and options, made if there is none.
    pub(crate) async fn variant(
        &self,
        base: &FunctionRecord,
        params: &[u8],
        options: &FunctionOptions,
        hash: &str,
    ) -> Result<FunctionRecord> {
        sqlx::query(
            "INSERT INTO functions (function_id, app_id, name, base_id, variant,
             serialized_params, options, announced, autoscaler, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, X'', ?) ON CONFLICT DO NOTHING",
        )
        .bind(FunctionId::random().as_str())
        .bind(base.app.as_str())
        .bind(&base.name)
        .bind(base.id.as_str())
        .bind(hash)
        .bind(params)
        .bind(options.encode_to_vec())
        .bind(base.announced.encode_to_vec())
        .bind(clock::unique_now())
        .execute(&self.db)
        .await
        .map_err(Error::database("record a function"))?;
        let query = format!("SELECT {COLUMNS} FROM functions WHERE base_id = ? AND variant = ?");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(base.id.as_str())
            .bind(hash)
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a function"))?;
        row.ok_or_else(|| Error::not_found("function", &base.id))?.read()
    }

    pub(crate) async fn get(&self, id: &FunctionId) -> Result<FunctionRecord> {
        let query = format!("SELECT {COLUMNS} FROM functions WHERE function_id = ?");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a function"))?;
        row.ok_or_else(|| Error::not_found("function", id))?.read()
    }

    /// The functions of an app, variants too.
    pub(crate) async fn of_app(&self, app: &AppId) -> Result<Vec<FunctionRecord>> {
        let query = format!("SELECT {COLUMNS} FROM functions WHERE app_id = ? ORDER BY created_at");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(app.as_str())
            .fetch_all(&self.db)
            .await
            .map_err(Error::database("list functions"))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Keeps a definition; it is not in use yet.
    pub(crate) async fn add_definition(
        &self,
        function: &FunctionId,
        data: &FunctionData,
    ) -> Result<DefinitionId> {
        let id = DefinitionId::random();
        sqlx::query("INSERT INTO function_definitions VALUES (?, ?, ?, ?)")
            .bind(id.as_str())
            .bind(function.as_str())
            .bind(data.encode_to_vec())
            .bind(clock::unique_now())
            .execute(&self.db)
            .await
            .map_err(Error::database("record a function's definition"))?;
        Ok(id)
    }

    pub(crate) async fn definition(&self, id: &DefinitionId) -> Result<FunctionData> {
        let data: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT data FROM function_definitions WHERE definition_id = ?")
                .bind(id.as_str())
                .fetch_optional(&self.db)
                .await
                .map_err(Error::database("look up a definition"))?;
        decode(&data.ok_or_else(|| Error::not_found("definition", id))?)
    }

    /// The definition that was made last, in use or not.
    pub(crate) async fn newest_definition(
        &self,
        function: &FunctionId,
    ) -> Result<Option<DefinitionId>> {
        let id: Option<String> = sqlx::query_scalar(
            "SELECT definition_id FROM function_definitions WHERE function_id = ?
             ORDER BY created_at DESC LIMIT 1",
        )
        .bind(function.as_str())
        .fetch_optional(&self.db)
        .await
        .map_err(Error::database("look up a definition"))?;
        Ok(id.as_deref().map(DefinitionId::parse).transpose()?)
    }

    /// Uses a definition from now on, without a deployment.
    pub(crate) async fn use_definition(
        &self,
        function: &FunctionId,
        definition: &DefinitionId,
    ) -> Result<()> {
        let used = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            use_definition(&mut transaction, function.as_str(), definition.as_str()).await?;
            transaction.commit().await
        };
        used.await.map_err(Error::database("use a function's definition"))
    }

    pub(crate) async fn set_autoscaler(
        &self,
        function: &FunctionId,
        settings: &AutoscalerSettings,
    ) -> Result<()> {
        sqlx::query("UPDATE functions SET autoscaler = ? WHERE function_id = ?")
            .bind(settings.encode_to_vec())
            .bind(function.as_str())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record a function's scaling"))
    }

    /// Makes a class of an app.
    pub(crate) async fn add_class(&self, id: &ClassId, app: &AppId) -> Result<()> {
        sqlx::query("INSERT OR IGNORE INTO classes VALUES (?, ?, ?)")
            .bind(id.as_str())
            .bind(app.as_str())
            .bind(clock::unique_now())
            .execute(&self.db)
            .await
            .map(drop)
            .map_err(Error::database("record a class"))
    }

    pub(crate) async fn class_app(&self, id: &ClassId) -> Result<AppId> {
        let app: Option<String> =
            sqlx::query_scalar("SELECT app_id FROM classes WHERE class_id = ?")
                .bind(id.as_str())
                .fetch_optional(&self.db)
                .await
                .map_err(Error::database("look up a class"))?;
        Ok(AppId::parse(&app.ok_or_else(|| Error::not_found("class", id))?)?)
    }
}
