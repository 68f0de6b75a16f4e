//! What Debian's packages can give, where we are allowed to install them.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Context, Result, bail};

use crate::process;

/// Whether packages can be installed: as root, where there is apt-get.
pub fn can_install() -> bool {
    process::on_path("apt-get") && fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Whether all these packages are installed. Where dpkg is not, they are not.
pub fn has(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        Command::new("dpkg-query")
            .args(["--show", "--showformat", "${db:Status-Status}", package])
            .output()
            .is_ok_and(|output| output.status.success() && output.stdout == b"installed")
    })
}

/// Installs packages that are missing, or says who can.
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

/// Installs packages, with nothing asked and nothing that they merely recommend.
pub fn install(packages: &[&str]) -> Result<()> {
    println!("Installing from Debian: {}", packages.join(" "));
    process::run(apt_get().args(["-qq", "update"]))?;
    process::run(apt_get().args(["-qq", "install", "-y", "--no-install-recommends"]).args(packages))
}

/// What somebody who may install packages types for the same effect.
pub fn install_line(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
