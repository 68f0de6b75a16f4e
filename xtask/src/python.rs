//! Programs from PyPI, each in its own virtual environment.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::ErrorKind,
    iter,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// Debian's package for `python3 -m venv`.
pub const PACKAGE: &str = "python3-venv";

/// Returns whether a suitable Python with virtual environments is installed.
pub fn is_there() -> bool {
    let question = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";
    process::succeeds(Command::new("python3").args(["-c", question]))
}

/// Returns the cache of programs that the tests install. It outlives a checkout, and checkouts may
/// share it.
pub fn cache() -> Result<PathBuf> {
    match env::var_os("SAEGIS_CACHE") {
        Some(folder) if !folder.is_empty() => {
            absolute(folder).context("SAEGIS_CACHE is not a folder")
        }
        _ => Ok(env::home_dir().context("the home folder is unknown")?.join(".cache/saegis")),
    }
}

/// Returns the folder of cargo's subcommands from PyPI.
pub fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("cargo-tools"))
}

/// Returns the search path of cargo, which ends with those subcommands.
pub fn search_path() -> Option<OsString> {
    let own = tools().ok()?.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(env::split_paths(&path).chain([own])).ok()
}

/// A virtual environment.
pub struct Environment {
    /// Name of the installed program.
    pub name: &'static str,
    /// Python that creates the virtual environment.
    pub program: PathBuf,
    pub folder: PathBuf,
    /// Requirements file with all packages.
    pub requirements: PathBuf,
    /// Requirements file with packages that are compiled, with those of the other file.
    pub compiled: Option<PathBuf>,
    /// Python arguments that succeed if the environment is complete.
    pub check: &'static [&'static str],
}

impl Environment {
    /// Installs exactly those packages.
    pub fn install(&self) -> Result<()> {
        let Self { name, program, folder, requirements, compiled, check } = self;
        let _lock = lock(folder)?;
        let mut wanted = String::new();
        for file in iter::once(requirements).chain(compiled) {
            let text = fs::read_to_string(file);
            wanted += &text.with_context(|| format!("cannot read {}", file.display()))?;
        }
        let stamp = folder.join("installed.txt");
        // The Python of the installation may be gone.
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
        process::run(Command::new(program).args(["-m", "venv", "--clear"]).arg(folder))?;
        // Only listed packages are installed, and only those to be compiled execute code.
        let pip = ["-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "install"];
        let exact = ["--no-deps", "--require-hashes", "--progress-bar", "off"];
        let install = |form: &[&str], file: &Path| {
            let mut pip_install = python(folder);
            pip_install.args(pip).args(exact).args(form).arg("--requirement").arg(file);
            process::run(&mut pip_install)
        };
        install(&["--only-binary", ":all:"], requirements)?;
        if let Some(compiled) = compiled {
            install(&["--no-binary", ":all:", "--no-build-isolation"], compiled)?;
        }
        process::run(python(folder).args(["-m", "pip", "--disable-pip-version-check", "check"]))?;
        // Written last, so that an interrupted installation is not used.
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }
}

/// Locks an installation. The lock is released when the file is closed.
pub fn lock(folder: &Path) -> Result<File> {
    let parent = folder.parent().context("the cache is not a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let lock = File::create(folder.with_extension("lock"));
    let lock = lock.and_then(|file| file.lock().map(|()| file));
    lock.with_context(|| format!("cannot lock {}", parent.display()))
}

/// Returns the Python of the virtual environment, isolated from the environment variables.
fn python(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("bin/python"));
    process::forget(&mut command, |variable| variable.starts_with("PYTHON"));
    command
}
