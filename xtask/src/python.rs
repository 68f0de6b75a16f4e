//! Programs from PyPI, each set in a virtual environment of its own.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// What Debian calls what `python3 -m venv` needs.
pub const PACKAGE: &str = "python3-venv";

/// Whether there is a Python that is new enough and can make virtual environments.
pub fn is_there() -> bool {
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

/// Where cargo's subcommands from PyPI are.
pub fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("cargo-tools"))
}

/// The search path of cargo: behind all that is installed come those subcommands.
pub fn search_path() -> Option<OsString> {
    let own = tools().ok()?.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(env::split_paths(&path).chain([own])).ok()
}

/// A virtual environment.
pub struct Environment {
    /// What is installed there.
    pub name: &'static str,
    pub folder: PathBuf,
    /// The file of all packages in it.
    pub requirements: PathBuf,
    /// What its Python does without a failure if it is whole.
    pub check: &'static [&'static str],
}

impl Environment {
    /// Sees to exactly those packages.
    pub fn install(&self) -> Result<()> {
        let Self { name, folder, requirements, check } = self;
        let parent = folder.parent().context("the cache is no folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // The lock goes with this process.
        let lock = folder.with_extension("lock");
        let lock = File::create(lock).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.with_context(|| format!("cannot lock {}", parent.display()))?;

        let wanted = fs::read_to_string(requirements)
            .with_context(|| format!("cannot read {}", requirements.display()))?;
        let stamp = folder.join("installed.txt");
        // The Python that it was installed with may be gone.
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
            && process::succeeds(python(folder).args(*check))
        {
            return Ok(());
        }
        if !is_there() {
            bail!("{name} needs a python3 on the search path that is 3.11 or newer and has venv");
        }
        println!("Installing {name} in {}", folder.display());
        match fs::remove_file(&stamp) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", stamp.display()));
            }
            _ => {}
        }
        process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
        // What is not in the list is not installed, and no package runs code of its own to be built.
        let pip = ["-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "install"];
        let exact = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off"];
        process::run(python(folder).args(pip).args(exact).arg("--requirement").arg(requirements))?;
        process::run(python(folder).args(["-m", "pip", "--disable-pip-version-check", "check"]))?;
        // Last, so that an installation that was interrupted is none.
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }
}

/// The Python of the virtual environment, which nothing from outside changes.
fn python(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("bin/python"));
    process::forget(&mut command, |variable| variable.starts_with("PYTHON"));
    command
}
