//! Debian packages, if they can be installed.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Context, Result, bail};

use crate::process;

/// Returns whether packages can be installed: as root with apt-get.
pub fn can_install() -> bool {
    process::on_path("apt-get") && fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Returns whether all these packages are installed. Without dpkg, none are.
pub fn has(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        Command::new("dpkg-query")
            .args(["--show", "--showformat", "${db:Status-Status}", package])
            .output()
            .is_ok_and(|output| output.status.success() && output.stdout == b"installed")
    })
}

/// Installs missing packages, or fails with the command that installs them.
pub fn require(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let request =
        format!("more programs are needed; run `{}` as root on Debian", install_line(missing));
    if !can_install() {
        bail!(request);
    }
    install(missing).context(request)
}

/// Installs packages without questions and without recommended packages.
pub fn install(packages: &[&str]) -> Result<()> {
    println!("Installing from Debian: {}", packages.join(" "));
    process::run(apt_get().args(["-qq", "update"]))?;
    process::run(apt_get().args(["-qq", "install", "-y", "--no-install-recommends"]).args(packages))
}

/// Returns the command that installs the packages.
pub fn install_line(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
