//! RPM package.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::{
    package::release::{DESCRIPTION, Release},
    package::tree,
    process::run,
    project::Project,
};

/// Writes the package, and returns its name.
pub fn write(project: &Project, release: &Release) -> Result<String> {
    let (root, top) = (release.work.join("rpm-files"), release.work.join("rpm"));
    tree::write(project, release, &root)?;
    // Only Debian has a folder for packages.
    let zsh = root.join("usr/share/zsh");
    fs::rename(zsh.join("vendor-completions"), zsh.join("site-functions"))?;
    fs::create_dir_all(&top)?;
    let spec = fs::read_to_string(project.root.join("packaging/rpm/saegis.spec"))?;
    let spec = spec.replace("@VERSION@", &release.version).replace("@DESCRIPTION@", DESCRIPTION);
    let file = top.join("saegis.spec");
    fs::write(&file, spec)?;
    let architecture =
        if release.architecture == "armv7" { "armv7hl" } else { &release.architecture };
    let define = |name: &str, value: &str| format!("--define={name} {value}");
    let built = top.join("out");
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild
        .arg("-bb")
        .arg("--quiet")
        .arg(format!("--target={architecture}"))
        .arg(define("_topdir", &top.display().to_string()))
        .arg(define("_rpmdir", &built.display().to_string()))
        .arg(define("_build_id_links", "none"))
        .arg("--buildroot")
        .arg(&root)
        .arg(&file);
    run(&mut rpmbuild)?;
    let name = format!("saegis-{}-1.{architecture}.rpm", release.version);
    fs::copy(built.join(architecture).join(&name), release.out.join(&name))
        .context("rpmbuild wrote no package")?;
    Ok(name)
}
