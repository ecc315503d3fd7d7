//! What a linter says.

use std::ops::Range;

use serde::Serialize;

use crate::{
    rule::Rule,
    yaml::{Node, Place},
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing; everything works.
    Note,
    /// It works, but not as it reads: something has no effect.
    Warning,
    /// The proxy does not start, a model does not answer, traces, money or keys are lost.
    Error,
}

impl Level {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One change to the text of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// Bytes that go.
    pub range: Range<usize>,
    /// What comes in their place.
    pub text: String,
}

/// A mistake in the file, with what comes of it and the way out.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What kind of mistake.
    pub rule: &'static Rule,
    /// How bad.
    pub level: Level,
    /// Where in the text.
    pub place: Place,
    /// Where in the configuration, as `model_list[2].litellm_params.api_key`.
    pub path: String,
    /// What is wrong here. Never holds the value of a key.
    pub message: String,
    /// How to mend it, where there is more to say than the rule does.
    pub mend: Option<String>,
    /// The change that mends it and can do no harm.
    pub fix: Vec<Edit>,
}

impl Finding {
    /// The same, less or more bad than the rule says.
    pub(crate) fn level(&mut self, level: Level) -> &mut Self {
        self.level = level;
        self
    }

    /// The same with a better word on mending.
    pub(crate) fn mend(&mut self, mend: impl Into<String>) -> &mut Self {
        self.mend = Some(mend.into());
        self
    }

    /// The same with a change that mends it.
    pub(crate) fn fix(&mut self, range: Range<usize>, text: impl Into<String>) -> &mut Self {
        self.fix.push(Edit { range, text: text.into() });
        self
    }
}

/// What the rules found so far.
pub(crate) struct Findings {
    pub(crate) rule: &'static Rule,
    pub(crate) all: Vec<Finding>,
}

impl Findings {
    /// A mistake at this node.
    pub(crate) fn at(
        &mut self,
        node: &Node,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.push(node.place, path.into(), message.into())
    }

    /// A mistake of the whole file.
    pub(crate) fn whole(&mut self, path: &str, message: impl Into<String>) -> &mut Finding {
        let place = Place { line: 1, column: 1, start: 0, end: 0 };
        self.push(place, path.to_owned(), message.into())
    }

    pub(crate) fn push(&mut self, place: Place, path: String, message: String) -> &mut Finding {
        self.all.push(Finding {
            rule: self.rule,
            level: self.rule.level,
            place,
            path,
            message,
            mend: None,
            fix: Vec::new(),
        });
        self.all.last_mut().expect("it was just put there")
    }
}
