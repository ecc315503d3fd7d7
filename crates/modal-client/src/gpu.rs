//! GPUs, as requests name them: a kind and how many.

use std::{fmt, str::FromStr};

use modal_proto::client as api;

/// A kind of GPU and how many of them: `"H100:2".parse()` or `Gpu::new("H100").count(2)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gpu {
    kind: String,
    count: u32,
}

/// Text that names no GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GPU; write a kind such as `H100`, or `H100:2` for two of them")]
pub struct InvalidGpu(String);

impl Gpu {
    /// One GPU of this kind, by Modal's name of it in any case: `T4`, `L4`, `A100-80GB`, `H100`, `any`.
    pub fn new(kind: impl AsRef<str>) -> Self {
        Self { kind: kind.as_ref().to_uppercase(), count: 1 }
    }

    /// This many of them.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    pub(crate) fn config(&self) -> api::GpuConfig {
        api::GpuConfig { gpu_type: self.kind.clone(), count: self.count, ..Default::default() }
    }
}

/// What a request says where no GPU is wanted: an empty message rather than none, as Modal's clients send it.
pub(crate) fn config_of(gpu: Option<&Gpu>) -> api::GpuConfig {
    gpu.map(Gpu::config).unwrap_or_default()
}

impl FromStr for Gpu {
    type Err = InvalidGpu;

    fn from_str(text: &str) -> Result<Self, InvalidGpu> {
        let invalid = || InvalidGpu(text.to_owned());
        let (kind, count) = text.split_once(':').unwrap_or((text, "1"));
        let count = count.parse().ok().filter(|&count| count > 0).ok_or_else(invalid)?;
        if kind.is_empty() { Err(invalid()) } else { Ok(Self::new(kind).count(count)) }
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str(&self.kind),
            count => write!(f, "{}:{count}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_a_kind_and_a_count() {
        assert_eq!("h100:2".parse::<Gpu>().unwrap(), Gpu::new("H100").count(2));
        assert_eq!("L4".parse::<Gpu>().unwrap().to_string(), "L4");
        for text in ["", ":2", "H100:", "H100:0", "H100:two"] {
            assert!(text.parse::<Gpu>().is_err(), "{text}");
        }
    }
}
