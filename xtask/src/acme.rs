//! ACME, a oneM2M CSE in Python that the suites put behind the gateway.

use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{process, project::Project};

/// What Debian calls what `python3 -m venv` needs.
pub const PACKAGE: &str = "python3-venv";

/// Whether there is a Python that is new enough for ACME and can make virtual environments.
pub fn has_python() -> bool {
    let question = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";
    process::succeeds(Command::new("python3").args(["-c", question]))
}

/// Where what the tests install is. It outlives a checkout, and checkouts may share it.
pub fn cache() -> Result<PathBuf> {
    match env::var_os("SAEGIS_CACHE") {
        Some(folder) if !folder.is_empty() => {
            absolute(folder).context("SAEGIS_CACHE names no folder")
        }
        _ => Ok(env::home_dir().context("there is no home folder")?.join(".cache/saegis")),
    }
}

/// Where ACME's virtual environment is.
pub fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("acme"))
}

/// Sees to ACME, with exactly the packages that the suites were written with.
pub fn install(project: &Project) -> Result<()> {
    let folder = folder()?;
    let parent = folder.parent().context("the cache is no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // The lock goes with this process.
    let lock = File::create(parent.join("acme.lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.with_context(|| format!("cannot lock {}", parent.display()))?;

    let requirements = project.root.join("tests/interop/requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let stamp = folder.join("installed.txt");
    if is_there(&folder, &stamp, &wanted) {
        return Ok(());
    }
    if !has_python() {
        bail!("ACME needs a python3 on the search path that is 3.11 or newer and has venv");
    }
    println!("Installing ACME in {}", folder.display());
    match fs::remove_file(&stamp) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot remove {}", stamp.display()));
        }
        _ => {}
    }
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    // What is not in the list is not installed, and no package runs code of its own to be built.
    process::run(
        python(&folder)
            .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "--no-deps", "--only-binary", ":all:", "--requirement"])
            .arg(&requirements),
    )?;
    process::run(python(&folder).args(["-m", "pip", "--disable-pip-version-check", "check"]))?;
    // Last, so that an installation that was interrupted is none.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Whether it is installed as it should be, and the Python that it was installed with is still
/// there.
fn is_there(folder: &Path, stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|installed| installed == wanted)
        && process::succeeds(python(folder).args(["-c", "import acmecse"]))
}

/// The Python of the virtual environment, which nothing from outside changes.
fn python(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("bin/python"));
    process::forget(&mut command, |variable| variable.starts_with("PYTHON"));
    command
}
