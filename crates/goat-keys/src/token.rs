//! A token as text.

use std::fmt;

use zeroize::Zeroizing;

/// What every token begins with. LiteLLM and the OpenAI clients want keys to begin with `sk-`.
pub const PREFIX: &str = "sk-goat1";

/// A token. It is shown nowhere: `Debug` prints stars, and its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that hands it to the sandbox.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(****)")
    }
}

/// The parts of a token, none of them checked.
pub(crate) struct Parts<'t> {
    /// Everything that is signed.
    pub(crate) signed: &'t str,
    pub(crate) key: &'t str,
    pub(crate) claims: &'t str,
    pub(crate) mac: &'t str,
}

impl<'t> Parts<'t> {
    pub(crate) fn of(token: &'t str) -> Option<Self> {
        let (signed, mac) = token.rsplit_once('.')?;
        let mut parts = signed.split('.');
        let (prefix, key, claims) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = prefix == PREFIX && parts.next().is_none();
        whole.then_some(Self { signed, key, claims, mac })
    }
}
