//! Archive of the files, for other distributions.

use anyhow::Result;

use crate::{package::release::Release, package::tree, project::Project};

/// Writes the archive, and returns its name.
pub fn write(project: &Project, release: &Release) -> Result<String> {
    let folder = format!("saegis-{}-{}-linux-gnu", release.version, release.architecture);
    tree::write(project, release, &release.work.join("tarball").join(&folder))?;
    let name = format!("{folder}.tar.gz");
    tree::archive(&release.work.join("tarball"), &[&folder], &release.out.join(&name), true)?;
    Ok(name)
}
