//! `cargo xtask package`: packages for installation, without a container daemon and without a network.
//!
//! All have the same tree of files, with the binary of the profile `dist`.

mod bill;
mod deb;
mod image;
mod release;
mod rpm;
mod tarball;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::{
    debian, modules,
    package::release::{Release, architecture},
    process::{self, run},
    project::{self, Project},
};

/// Arguments of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Args {
    /// Kinds of packages; without one, all that this machine can build
    kinds: Vec<Kind>,
    /// Binary to package, instead of building one with the profile `dist` and the policy modules
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Install the Debian package in a clean root, start the gateway, use it as a light, upgrade and
    /// purge it. Needs root and mmdebstrap; with systemd-nspawn, also in a booted system. The package
    /// is not compressed
    #[arg(long)]
    check: bool,
    /// Folder for the packages, instead of `packages` in the target folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A kind of package.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Debian package, with a systemd service
    Deb,
    /// RPM package, with a systemd service
    Rpm,
    /// Archive of the files
    Tarball,
    /// Container image as an OCI layout, which `skopeo` and `podman` read
    Image,
}

const ALL: [Kind; 4] = [Kind::Deb, Kind::Rpm, Kind::Tarball, Kind::Image];

impl Kind {
    /// Returns the program that builds this kind, and Debian's package of it.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Deb => ("dpkg-deb", "dpkg"),
            Self::Rpm => ("rpmbuild", "rpm"),
            Self::Tarball | Self::Image => ("tar", "tar"),
        }
    }
}

/// Builds the packages, a bill of materials and checksums.
pub fn build(project: &Project, args: &Args) -> Result<()> {
    let kinds = if args.kinds.is_empty() { possible() } else { args.kinds.clone() };
    for kind in &kinds {
        let (program, package) = kind.program();
        if !process::on_path(program) {
            bail!("{program} is missing; install it (Debian: {package})");
        }
    }
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().context("there is no such binary")?,
        None => build_binary(project)?,
    };
    let out = args.out.clone().unwrap_or_else(|| project.host_target.join("packages"));
    let work = project.host_target.join("package-work");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot empty {}", work.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let version = version(project)?;
    let architecture = architecture(&binary)?;
    let is_trial = args.check;
    let release =
        Release { binary, version, architecture, is_trial, out: out.canonicalize()?, work };
    if args.binary.is_none() {
        modules::build(project, None, false)?;
    }
    let mut written = vec![bill::write(project, &release)?];
    for kind in kinds {
        written.push(match kind {
            Kind::Deb => deb::write(project, &release)?,
            Kind::Rpm => rpm::write(project, &release)?,
            Kind::Tarball => tarball::write(project, &release)?,
            Kind::Image => image::write(project, &release)?,
        });
    }
    checksums(&release.out, &written)?;
    if args.check {
        deb::check(project, &release)?;
    }
    for file in written {
        println!("{}", release.out.join(file).display());
    }
    Ok(())
}

/// Installs a package of the debug build in a clean root, if this machine can.
pub fn test(project: &Project) -> Result<()> {
    if !debian::can_install() || !process::on_path("mmdebstrap") {
        println!(
            "The package is not installed: that needs root and mmdebstrap (Debian: mmdebstrap)"
        );
        return Ok(());
    }
    let args = Args {
        kinds: vec![Kind::Deb],
        binary: Some(project.gateway_binary("debug")),
        check: true,
        out: Some(project.host_target.join("package-test")),
    };
    build(project, &args)
}

/// Returns the kinds whose programs are installed.
fn possible() -> Vec<Kind> {
    ALL.into_iter().filter(|kind| process::on_path(kind.program().0)).collect()
}

fn build_binary(project: &Project) -> Result<PathBuf> {
    println!("Building the gateway for packages; the link-time optimization takes many minutes");
    run(project.host_cargo().args([
        "build",
        "--profile",
        "dist",
        "--locked",
        "--package",
        "saegis",
    ]))?;
    Ok(project.gateway_binary("dist"))
}

/// Returns the version of the workspace.
fn version(project: &Project) -> Result<String> {
    let metadata = project::metadata(project::cargo(), &project.root)?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let own = packages.into_iter().find(|package| package["name"] == "saegis");
    let version = own.and_then(|package| package["version"].as_str());
    Ok(version.context("cargo metadata has no package saegis")?.to_owned())
}

/// Writes the digests of files into `SHA256SUMS`.
fn checksums(folder: &Path, files: &[String]) -> Result<()> {
    let files: Vec<_> = files.iter().filter(|name| folder.join(name).is_file()).collect();
    let sums = process::output(Command::new("sha256sum").args(files).current_dir(folder))?;
    fs::write(folder.join("SHA256SUMS"), sums).context("cannot write SHA256SUMS")
}
