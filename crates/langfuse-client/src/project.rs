//! The project that the keys belong to.

use serde::{Deserialize, Serialize};

use crate::{client::Client, error::Result, http_call::Call, ids::ProjectId, json::Extra};

/// A project. Versions 3 and 4 say more, in `extra`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// What else the server said, such as `organization`.
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Deserialize)]
struct Projects {
    data: Vec<Project>,
}

impl Client {
    /// The projects of the keys: one. Also the way to check keys.
    ///
    /// # Errors
    /// [`crate::Error::Auth`] where the keys are not accepted.
    pub async fn projects(&self) -> Result<Vec<Project>> {
        let projects: Projects = Call::get(self, "list projects", &["projects"]).read(self).await?;
        Ok(projects.data)
    }
}
