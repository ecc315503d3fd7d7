//! Values that may come from the proxy's environment.

use std::fmt;

use crate::{lint::subject::ENV, yaml::Node};

/// A value of the configuration: a reference to a variable, or the value itself.
///
/// A secret is always a reference; the linter says so of one that is not, and `Debug` shows no value itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `os.environ/NAME`: LiteLLM takes the variable when it starts.
    Variable(String),
    /// The value itself.
    Literal(String),
}

impl Value {
    /// A reference to a variable.
    pub fn variable(name: impl Into<String>) -> Self {
        Self::Variable(name.into())
    }

    /// A value that everybody may see.
    pub fn literal(text: impl Into<String>) -> Self {
        Self::Literal(text.into())
    }

    pub(crate) fn of(node: &Node) -> Option<Self> {
        let text = node.as_str()?;
        Some(match text.strip_prefix(ENV) {
            Some(name) => Self::variable(name),
            None => Self::literal(text),
        })
    }

    pub(crate) fn to_node(&self) -> Node {
        match self {
            Self::Variable(name) => Node::string(format!("{ENV}{name}")),
            Self::Literal(text) => Node::string(text.clone()),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "{ENV}{name}"),
            Self::Literal(_) => f.write_str("Literal(****)"),
        }
    }
}
