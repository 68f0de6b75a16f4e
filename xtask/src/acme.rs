//! ACME, a oneM2M CSE in Python that the suites run behind the gateway.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    project::Project,
    python::{self, cache},
};

/// Returns the folder of ACME's virtual environment.
pub fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("acme"))
}

/// Installs ACME with the pinned packages of the suites.
pub fn install(project: &Project) -> Result<()> {
    python::Environment {
        name: "ACME",
        program: "python3".into(),
        folder: folder()?,
        requirements: project.root.join("tests/interop/requirements.txt"),
        compiled: None,
        check: &["-c", "import acmecse"],
    }
    .install()
}
