//! ACME, a oneM2M CSE in Python that the suites put behind the gateway.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    project::Project,
    python::{self, cache},
};

/// Where ACME's virtual environment is.
pub fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("acme"))
}

/// Sees to ACME, with exactly the packages that the suites were written with.
pub fn install(project: &Project) -> Result<()> {
    python::Environment {
        name: "ACME",
        folder: folder()?,
        requirements: project.root.join("tests/interop/requirements.txt"),
        check: &["-c", "import acmecse"],
    }
    .install()
}
