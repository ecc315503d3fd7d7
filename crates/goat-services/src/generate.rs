//! New values.

use goat_keys::SigningKeys;
use secret_string::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// How a value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// So many random bytes, in hexadecimal.
    Hex(usize),
    /// `sk-` and 32 random bytes: LiteLLM wants its keys to begin so.
    LitellmKey,
    /// `pk-lf-` and a random UUID, as Langfuse makes them.
    LangfusePublicKey,
    /// `sk-lf-` and a random UUID.
    LangfuseSecretKey,
    /// What signs the tokens of tasks (crate `goat-keys`).
    TaskSigningKey,
}

impl Generator {
    /// A new value.
    pub fn make(self) -> Result<SecretString> {
        Ok(match self {
            Self::Hex(bytes) => hex(bytes)?,
            Self::LitellmKey => format!("sk-{}", hex(32)?.expose()).into(),
            Self::LangfusePublicKey => format!("pk-lf-{}", Uuid::new_v4()).into(),
            Self::LangfuseSecretKey => format!("sk-lf-{}", Uuid::new_v4()).into(),
            Self::TaskSigningKey => {
                let keys = SigningKeys::generate().map_err(Error::SigningKey)?;
                keys.expose().as_str().into()
            }
        })
    }

    /// A new value in place of `old`. Of signing keys the old one goes on checking tokens that still live.
    pub fn replace(self, old: Option<&SecretString>) -> Result<SecretString> {
        match (self, old) {
            (Self::TaskSigningKey, Some(old)) => {
                let rotated = SigningKeys::parse(old.expose()).and_then(|keys| keys.rotated());
                Ok(rotated.map_err(Error::SigningKey)?.expose().as_str().into())
            }
            _ => self.make(),
        }
    }
}

fn hex(bytes: usize) -> Result<SecretString> {
    let mut random = Zeroizing::new(vec![0_u8; bytes]);
    getrandom::fill(&mut random).map_err(Error::Random)?;
    Ok(hex::encode(&*random).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(by: Generator) -> String {
        let one = by.make().unwrap();
        assert_ne!(one, by.make().unwrap());
        let digit =
            |c: char| if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() { '.' } else { c };
        let prefix = one
            .expose()
            .rfind("lf-")
            .map_or(0, |at| at + 3)
            .max(if one.expose().starts_with("sk-") { 3 } else { 0 });
        let (head, tail) = one.expose().split_at(prefix);
        format!("{head}{}", tail.chars().map(digit).collect::<String>())
    }

    #[test]
    fn values_have_the_shape_that_their_readers_want() {
        assert_eq!(shape(Generator::Hex(16)), ".".repeat(32));
        assert_eq!(shape(Generator::LitellmKey), format!("sk-{}", ".".repeat(64)));
        let uuid = "........-....-....-....-............";
        assert_eq!(shape(Generator::LangfusePublicKey), format!("pk-lf-{uuid}"));
        assert_eq!(shape(Generator::LangfuseSecretKey), format!("sk-lf-{uuid}"));
    }

    #[test]
    fn an_old_signing_key_goes_on_checking() {
        let old = Generator::TaskSigningKey.make().unwrap();
        let new = Generator::TaskSigningKey.replace(Some(&old)).unwrap();
        assert!(new.expose().ends_with(&format!(",{}", old.expose())));
    }
}
