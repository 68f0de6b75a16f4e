//! Debian package.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{
    package::release::{DESCRIPTION, Release, SUMMARY, glibc},
    package::tree,
    process::run,
    project::Project,
    python,
};

/// Writes the package, and returns its name.
pub fn write(project: &Project, release: &Release) -> Result<String> {
    let root = release.work.join("deb");
    let configuration = tree::write(project, release, &root)?;
    let (Release { version, .. }, architecture) = (release, architecture(release));
    let glibc = glibc(&release.binary)?;
    let control = format!(
        "Package: saegis\nVersion: {version}\nArchitecture: {architecture}\nSection: net\n\
         Priority: optional\nMaintainer: The Saegis authors <saegis@example.com>\n\
         Depends: libc6 (>= {glibc}), libgcc-s1, passwd\nRecommends: ca-certificates\n\
         Description: {SUMMARY}\n {DESCRIPTION}\n"
    );
    let debian = root.join("DEBIAN");
    fs::create_dir_all(&debian)?;
    fs::write(debian.join("control"), control)?;
    fs::write(debian.join("conffiles"), configuration.join("\n") + "\n")?;
    for script in ["postinst", "prerm", "postrm"] {
        let from = project.root.join("packaging/deb").join(script);
        tree::put(&from, &debian.join(script), 0o755)?;
    }
    let name = name(release);
    let mut dpkg = Command::new("dpkg-deb");
    let compression = if release.is_trial { "-Znone" } else { "-Zxz" };
    dpkg.args(["--root-owner-group", compression, "--build"])
        .arg(&root)
        .arg(release.out.join(&name));
    run(dpkg.env("SOURCE_DATE_EPOCH", "0"))?;
    Ok(name)
}

fn name(release: &Release) -> String {
    format!("saegis_{}_{}.deb", release.version, architecture(release))
}

fn architecture(release: &Release) -> &'static str {
    match &*release.architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => "armhf",
    }
}

/// Installs the package in a clean Debian root, uses it, upgrades it and purges it.
pub fn check(project: &Project, release: &Release) -> Result<()> {
    let root = python::cache()?.join("debian-root");
    let mut script = Command::new(project.root.join("packaging/deb/check.sh"));
    run(script.arg(release.out.join(name(release))).arg(root))
}
