//! What functions name, so that nobody takes it from them: of every version that can be deployed again.

use std::collections::BTreeSet;

use modal_proto::client::{FunctionData, FunctionOptions, VolumeMount};
use sqlx::SqlitePool;

use super::records::decode;
use crate::error::{Error, Result};
use crate::ids::NetworkFileSystemId;

/// The ids of what functions name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) images: BTreeSet<String>,
    pub(crate) mounts: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) volumes: BTreeSet<String>,
}

impl References {
    /// Of all functions whose app is not stopped: definitions in use, those before them that one can
    /// go back to, and those that are about to be deployed.
    pub(crate) async fn of_functions(db: &SqlitePool) -> Result<Self> {
        let failed = || Error::database("collect garbage");
        let definitions: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT data FROM function_definitions JOIN functions USING (function_id)
             JOIN apps USING (app_id) WHERE stopped_at IS NULL",
        )
        .fetch_all(db)
        .await
        .map_err(failed())?;
        let options: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT options FROM functions JOIN apps USING (app_id)
             WHERE stopped_at IS NULL AND length(options) > 0",
        )
        .fetch_all(db)
        .await
        .map_err(failed())?;
        let mut references = Self::default();
        for data in &definitions {
            references.add_definition(&decode(data)?);
        }
        for data in &options {
            references.add_options(&decode(data)?);
        }
        Ok(references)
    }

    fn add_definition(&mut self, data: &FunctionData) {
        for function in data.ranked_functions.iter().filter_map(|it| it.function.as_ref()) {
            self.images.insert(function.image_id.clone());
            self.mounts.extend(function.mount_ids.iter().cloned());
            self.secrets.extend(function.secret_ids.iter().cloned());
            self.add_volumes(&function.volume_mounts);
            let network = function.shared_volume_mounts.iter();
            let ids =
                network.filter_map(|it| NetworkFileSystemId::parse(&it.shared_volume_id).ok());
            self.volumes.extend(ids.map(|id| id.volume().to_string()));
        }
    }

    fn add_options(&mut self, options: &FunctionOptions) {
        self.mounts.extend(options.mount_ids.iter().cloned());
        self.secrets.extend(options.secret_ids.iter().cloned());
        self.add_volumes(&options.volume_mounts);
    }

    fn add_volumes(&mut self, mounts: &[VolumeMount]) {
        self.volumes.extend(mounts.iter().map(|mount| mount.volume_id.clone()));
    }
}

#[cfg(test)]
mod tests {
    use modal_proto::client::Function;
    use modal_proto::client::function_data::RankedFunction;
    use prost::Message as _;

    use super::*;

    #[sqlx::test]
    async fn functions_of_stopped_apps_need_nothing(db: SqlitePool) {
        let data = |image: &str| FunctionData {
            ranked_functions: vec![RankedFunction {
                function: Some(Function {
                    image_id: image.to_owned(),
                    mount_ids: vec!["mo-1".to_owned()],
                    ..Function::default()
                }),
                ..RankedFunction::default()
            }],
            ..FunctionData::default()
        };
        let options = FunctionOptions { secret_ids: vec!["st-1".into()], ..Default::default() };
        sqlx::query("INSERT INTO environments VALUES ('en-1', 'main', '', 0)")
            .execute(&db)
            .await
            .unwrap();
        for (app, stopped_at) in [("ap-1", None), ("ap-2", Some(1.0))] {
            sqlx::query("INSERT INTO apps VALUES (?, 'en-1', NULL, '', 0, 0, NULL, ?, NULL)")
                .bind(app)
                .bind(stopped_at)
                .execute(&db)
                .await
                .unwrap();
            sqlx::query(
                "INSERT INTO functions (function_id, app_id, name, serialized_params, options,
                 announced, autoscaler, created_at) VALUES (?1, ?2, 'f', X'', ?3, X'', X'', 0)",
            )
            .bind(format!("fu-{app}"))
            .bind(app)
            .bind(options.encode_to_vec())
            .execute(&db)
            .await
            .unwrap();
            for version in ["a", "b"] {
                sqlx::query("INSERT INTO function_definitions VALUES (?, ?, ?, 0)")
                    .bind(format!("de-{app}-{version}"))
                    .bind(format!("fu-{app}"))
                    .bind(data(&format!("im-{app}-{version}")).encode_to_vec())
                    .execute(&db)
                    .await
                    .unwrap();
            }
        }
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let expected = References {
            images: set(&["im-ap-1-a", "im-ap-1-b"]),
            mounts: set(&["mo-1"]),
            secrets: set(&["st-1"]),
            volumes: BTreeSet::new(),
        };
        assert_eq!(References::of_functions(&db).await.unwrap(), expected);
    }
}
