//! As much of the ELF format as tells whether a program runs in a given image.

use anyhow::{Context as _, ensure};

/// What matters of a program's header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The processor (`e_machine`).
    pub(super) machine: u16,
    /// The dynamic loader that it asks for; none where it is static.
    pub(super) interpreter: Option<String>,
}

/// Program header type of the interpreter's path (`PT_INTERP`, System V ABI chapter 5).
const PT_INTERP: u32 = 3;

impl Header {
    /// Reads a 64-bit little-endian program.
    pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        ensure!(bytes.starts_with(b"\x7fELF"), "it does not start like an ELF file");
        ensure!(bytes.get(4..6) == Some(&[2, 1]), "it is not 64-bit little-endian ELF");
        let machine = u16_at(bytes, 18)?;
        let table = usize::try_from(u64_at(bytes, 32)?)?;
        let (size, count) = (usize::from(u16_at(bytes, 54)?), usize::from(u16_at(bytes, 56)?));
        for index in 0..count {
            let entry = table.checked_add(index * size).context("a program header lies outside")?;
            if u32_at(bytes, entry)? == PT_INTERP {
                return Ok(Self { machine, interpreter: Some(interpreter(bytes, entry)?) });
            }
        }
        Ok(Self { machine, interpreter: None })
    }
}

fn interpreter(bytes: &[u8], entry: usize) -> anyhow::Result<String> {
    let offset = usize::try_from(u64_at(bytes, entry + 8)?)?;
    let length = usize::try_from(u64_at(bytes, entry + 32)?)?;
    let end = offset.checked_add(length).context("the interpreter's name lies outside")?;
    let name = bytes.get(offset..end).context("the interpreter's name lies outside")?;
    Ok(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> anyhow::Result<[u8; N]> {
    let end = offset.checked_add(N).context("the header is cut off")?;
    let part = bytes.get(offset..end).context("the header is cut off")?;
    Ok(part.try_into()?)
}

fn u16_at(bytes: &[u8], offset: usize) -> anyhow::Result<u16> {
    Ok(u16::from_le_bytes(array_at(bytes, offset)?))
}

fn u32_at(bytes: &[u8], offset: usize) -> anyhow::Result<u32> {
    Ok(u32::from_le_bytes(array_at(bytes, offset)?))
}

fn u64_at(bytes: &[u8], offset: usize) -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(array_at(bytes, offset)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_and_a_cut_off_file_are_no_programs() {
        assert!(Header::parse(b"#!/bin/sh\n").is_err());
        assert!(Header::parse(b"\x7fELF\x02\x01\x01").is_err());
        assert!(Header::parse(b"").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_test_is_a_dynamic_program() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let header = Header::parse(&bytes).unwrap();
        assert!(header.interpreter.unwrap().contains("ld-"));
    }
}
