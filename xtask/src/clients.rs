//! Clients of other projects for WebSocket and MQTT: packages of PyPI and npm.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process, project::Project, python};

/// Packages of npm, with their hashes.
const NODE_FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Debian 12 has Python 3.11, so its absence is not an error.
const WITHOUT_PYTHON: &str = "skipped: clients in Python, which need Python 3.13 or newer on the \
                              search path or in pyenv";

/// Returns the folder of the packages: `python`, a virtual environment, and `node`.
pub fn folder() -> Result<PathBuf> {
    Ok(python::cache()?.join("clients"))
}

/// Installs the pinned packages, those in Python only if a suitable Python is installed.
pub fn install(project: &Project) -> Result<()> {
    let sources = project.root.join("tests/clients");
    match python_with_psk() {
        Some(program) => python::Environment {
            name: "clients in Python",
            program,
            folder: folder()?.join("python"),
            requirements: sources.join("requirements.txt"),
            check: &["-c", "import cbor2, paho.mqtt.client, websockets"],
        }
        .install()?,
        None => println!("{WITHOUT_PYTHON}"),
    }
    install_node(&sources, &folder()?.join("node"))
}

/// Returns the reason why tests leave out the clients in Python, or `None` if they use them.
pub fn skipped() -> Option<&'static str> {
    python_with_psk().is_none().then_some(WITHOUT_PYTHON)
}

fn install_node(sources: &Path, folder: &Path) -> Result<()> {
    let _lock = python::lock(folder)?;
    let stamp = folder.join("installed.json");
    let wanted = fs::read_to_string(sources.join("package-lock.json"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("Installing clients in JavaScript in {}", folder.display());
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for file in NODE_FILES {
        fs::copy(sources.join(file), folder.join(file)).context(file)?;
    }
    // Only packages with the hashes of the lock file, and no package executes code.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
    process::run(&mut npm)?;
    // Written last, so that an interrupted installation is not used.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Finds a Python whose TLS has pre-shared keys, which Python 3.13 has.
fn python_with_psk() -> Option<PathBuf> {
    let question = "import ensurepip, ssl, sys, venv; sys.exit(not getattr(ssl, 'HAS_PSK', False))";
    let named = ["python3", "python3.14", "python3.13"].map(PathBuf::from);
    named
        .into_iter()
        .chain(pythons_of_pyenv())
        .find(|program| process::succeeds(Command::new(program).args(["-c", question])))
}

/// Returns the programs of all versions that pyenv has installed. Its shims start only one of them.
fn pythons_of_pyenv() -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(env::home_dir()?.join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let mut found: Vec<_> =
        versions.into_iter().flatten().flatten().map(|v| v.path().join("bin/python3")).collect();
    found.sort();
    found
}
