//! The agent's binary: checked before it is put into a sandbox.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Architecture of a Linux program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// This machine's.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// The name in commands: `amd64`, `arm64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name in target triples.
    pub fn rust_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Debian's dynamic loader (glibc, `sysdeps/unix/sysv/linux/*/shlib-versions`).
    fn glibc_loader(self) -> &'static str {
        match self {
            Self::Amd64 => "/lib64/ld-linux-x86-64.so.2",
            Self::Arm64 => "/lib/ld-linux-aarch64.so.1",
        }
    }

    /// `e_machine` of an ELF header (System V ABI, registry of machine numbers).
    fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

/// A binary that a sandbox can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentBinary {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Whether it needs nothing of the image: no dynamic loader.
    pub is_static: bool,
    /// The dynamic loader that it needs, where it needs one.
    pub loader: Option<String>,
}

impl AgentBinary {
    /// Checks that the file is a Linux program for that architecture.
    pub fn open(path: &Path, arch: Arch) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
        let bad = |reason: String| Error::BadAgent { path: path.to_owned(), reason };
        let elf = Elf::parse(&bytes).ok_or_else(|| bad("it is no 64-bit Linux program".into()))?;
        if elf.machine != arch.elf_machine() {
            return Err(bad(format!("it is not built for {}", arch.name())));
        }
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let (is_static, loader) = (elf.loader.is_none(), elf.loader);
        Ok(Self { path: path.to_owned(), sha256, is_static, loader })
    }

    /// Refuses a program that the usual image has no loader for. What other images have is not known
    /// before they are built.
    pub fn for_image(self, image: Option<&str>, arch: Arch) -> Result<Self> {
        match &self.loader {
            Some(loader) if image.is_none() && loader != arch.glibc_loader() => {
                let reason = format!(
                    "it needs the loader `{loader}`, which the image has not: link it statically, or \
                     give an --image that has it"
                );
                Err(Error::BadAgent { path: self.path, reason })
            }
            _ => Ok(self),
        }
    }
}

/// As much of an ELF header as matters here.
struct Elf {
    machine: u16,
    /// `PT_INTERP`: what loads it.
    loader: Option<String>,
}

impl Elf {
    fn parse(bytes: &[u8]) -> Option<Self> {
        const LITTLE_ENDIAN_64: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
        const PT_INTERP: u32 = 3;
        if !bytes.starts_with(&LITTLE_ENDIAN_64) {
            return None;
        }
        let is_program = matches!(u16_at(bytes, 16)?, 2 | 3);
        let machine = u16_at(bytes, 18)?;
        let table = usize::try_from(u64_at(bytes, 32)?).ok()?;
        let (size, count) = (usize::from(u16_at(bytes, 54)?), usize::from(u16_at(bytes, 56)?));
        let mut loader = None;
        for entry in 0..count {
            let header = table.checked_add(entry.checked_mul(size)?)?;
            if u32_at(bytes, header)? == PT_INTERP {
                loader = Some(text_at(bytes, header)?);
            }
        }
        is_program.then_some(Self { machine, loader })
    }
}

/// What a program header points at, up to its first NUL.
fn text_at(bytes: &[u8], header: usize) -> Option<String> {
    let from = usize::try_from(u64_at(bytes, header.checked_add(8)?)?).ok()?;
    let size = usize::try_from(u64_at(bytes, header.checked_add(32)?)?).ok()?;
    let text = bytes.get(from..from.checked_add(size)?)?;
    let text = text.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_test_is_a_program_for_this_machine_and_not_static() {
        let path = std::env::current_exe().unwrap();
        let agent = AgentBinary::open(&path, Arch::host().unwrap()).unwrap();
        assert!(!agent.is_static);
        let mut other = agent.clone().for_image(None, Arch::host().unwrap()).unwrap();
        other.loader = Some("/lib/ld-musl-x86_64.so.1".into());
        let arch = Arch::host().unwrap();
        assert!(other.clone().for_image(Some("alpine"), arch).is_ok());
        let error = other.for_image(None, arch).unwrap_err();
        assert!(error.to_string().contains("`/lib/ld-musl-x86_64.so.1`"), "{error}");
        assert_eq!(agent.sha256.len(), 64);
        let other = if Arch::host() == Some(Arch::Amd64) { Arch::Arm64 } else { Arch::Amd64 };
        let error = AgentBinary::open(&path, other).unwrap_err();
        assert!(error.to_string().contains("it is not built for"), "{error}");
    }

    #[test]
    fn scripts_and_torn_files_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bytes in [&b"#!/bin/sh\n"[..], b"", b"\x7fELF\x02\x01"] {
            std::fs::write(file.path(), bytes).unwrap();
            let error = AgentBinary::open(file.path(), Arch::Amd64).unwrap_err();
            assert!(error.to_string().ends_with("it is no 64-bit Linux program"), "{error}");
        }
    }
}
