//! The two kinds of sandboxes: version 2, which everything but a GPU gets, and version 1.

use crate::{ids::SandboxId, rpc::Method};

/// How a sandbox is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxVersion {
    /// The older kind: what sandboxes with a GPU are.
    V1,
    /// What all others are.
    V2,
}

impl SandboxVersion {
    /// The version that an id is of: those of version 1 end in 22 letters and digits.
    pub(crate) fn of(id: &SandboxId) -> Self {
        let name = id.as_str().trim_start_matches(SandboxId::PREFIX);
        if name.len() == 22 && name.chars().all(|c| c.is_ascii_alphanumeric()) {
            Self::V1
        } else {
            Self::V2
        }
    }

    /// The RPC of this version, where both have one of the same shape.
    pub(crate) fn choose<Q, A>(
        self,
        v1: &'static Method<Q, A>,
        v2: &'static Method<Q, A>,
    ) -> &'static Method<Q, A> {
        match self {
            Self::V1 => v1,
            Self::V2 => v2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_version() {
        let of = |id: &str| SandboxVersion::of(&id.parse().unwrap());
        assert_eq!(of("sb-abcdefghABCDEFGH123456"), SandboxVersion::V1);
        assert_eq!(of("sb-01M83X7M99S3NKMFGQDDJAXW1Y"), SandboxVersion::V2);
        assert_eq!(of("sb-1"), SandboxVersion::V2);
    }
}
