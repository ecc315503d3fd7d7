//! Why an image could not be built, in words for whoever wrote its definition.

use crate::error::Error;
use crate::ids::InvalidId;
use crate::image::base::BaseError;
use crate::image::context::NoMatch;
use crate::image::recipe::{Problem, RecipeError, Step, shorten};
use crate::image::reference::Unavailable;
use crate::image::step::StepError;
use crate::image::users::UnknownUser;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(in crate::image) enum BuildError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("the definition has no `FROM`")]
    Empty,
    #[error("step `{step}` cannot be read: {problem}")]
    Word { step: String, problem: Problem },
    #[error("step `{step}` failed")]
    Step { step: String, source: StepError },
    #[error("step `{step}` cannot be run")]
    User { step: String, source: UnknownUser },
    #[error("step `{step}` cannot be run")]
    Context { step: String, source: NoMatch },
    #[error("step `{step}`: {reason}")]
    Refused { step: String, reason: String },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("no base for `{image}` can be made")]
    Base { image: String, source: BaseError },
    #[error("its base image {id} could not be built: {reason}")]
    BaseImage { id: String, reason: String },
    #[error("the function failed: {reason}")]
    Function { reason: String },
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error(transparent)]
    Server(#[from] Error),
}

impl BuildError {
    /// For `map_err` where a word of `step` is replaced.
    pub(super) fn word(step: &Step) -> impl FnOnce(Problem) -> Self {
        let step = shorten(&step.text);
        move |problem| Self::Word { step, problem }
    }

    pub(super) fn refused(step: &Step, reason: impl Into<String>) -> Self {
        Self::Refused { step: shorten(&step.text), reason: reason.into() }
    }
}
