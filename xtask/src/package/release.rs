//! Parts that all packages share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// Parts of a package.
pub struct Release {
    pub binary: PathBuf,
    pub version: String,
    /// Architecture in the names of Rust.
    pub architecture: String,
    /// Whether it is for a test of the package, which is then not compressed.
    pub is_trial: bool,
    /// Folder for the packages.
    pub out: PathBuf,
    /// Folder for intermediate files.
    pub work: PathBuf,
}

/// Short description of the package.
pub const SUMMARY: &str = "oneM2M security gateway";
/// Description of the package.
pub const DESCRIPTION: &str = "Saegis establishes security associations (oneM2M TS-0003) in front of \
     a CSE. Sandboxed policy modules decide who may connect and which originator a request may use.";

/// Returns the architecture of a program, from its ELF header.
pub fn architecture(binary: &Path) -> Result<String> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let machine = bytes.get(18..20).filter(|_| bytes.starts_with(b"\x7fELF"));
    let name = match machine {
        Some([62, 0]) => "x86_64",
        Some([183, 0]) => "aarch64",
        Some([40, 0]) => "armv7",
        _ => bail!("{} is not a program for a known processor", binary.display()),
    };
    Ok(name.into())
}

/// Returns the minimum version of the GNU C library that a program requires.
pub fn glibc(binary: &Path) -> Result<String> {
    let bytes = fs::read(binary)?;
    let marker = b"GLIBC_2.";
    let minors = bytes.windows(marker.len() + 2).filter(|window| window.starts_with(marker));
    let minors = minors.filter_map(|window| {
        let digits = window.iter().skip(marker.len()).take_while(|byte| byte.is_ascii_digit());
        digits.map(|&byte| char::from(byte)).collect::<String>().parse::<u32>().ok()
    });
    Ok(format!("2.{}", minors.max().context("the binary does not use the GNU C library")?))
}

/// Returns the SHA-256 digest of a file, in hexadecimal digits.
pub fn digest(file: &Path) -> Result<String> {
    let line = process::output(Command::new("sha256sum").arg(file))?;
    Ok(line.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

/// Writes JSON into a file.
pub fn write_json(file: &Path, value: &Value) -> Result<()> {
    fs::write(file, format!("{value:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architecture_is_read_from_header() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(architecture(&own).unwrap(), std::env::consts::ARCH);
        let minor: u32 = glibc(&own).unwrap().strip_prefix("2.").unwrap().parse().unwrap();
        assert!(minor > 10, "{minor}");
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(architecture(&script).is_err());
    }
}
