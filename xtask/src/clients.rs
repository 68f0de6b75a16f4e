//! Clients of other projects for HTTP, WebSocket, MQTT and CoAP: packages of PyPI and npm, and a program
//! with Mbed TLS.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, project::Project, python};

/// Packages of npm, with their hashes.
const NODE_FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Debian 12 has Python 3.11, so its absence is not an error.
const WITHOUT_PYTHON: &str = "skipped: clients in Python, which need Python 3.13 or newer on the \
                              search path or in pyenv";

/// Python-mbedtls has packages for these versions only, and aiocoap needs a module that is compiled.
const WITHOUT_COAP: &str = "skipped: CoAP clients in Python, which need Python 3.11 or 3.12 with its \
                            headers on x86-64";

/// oneM2M clients that no registry has. The suites take programs from registries only.
const UNPUBLISHED: &str = "skipped: nCube-Thyme and onem2m-client-js, which npm does not have, and \
                           onem2mlib and ACME's notebooks, which PyPI does not have";

/// The variables that give the suites the reason for which they leave out clients.
const PYTHON_SKIPPED: &str = "SAEGIS_CLIENTS_SKIPPED";
const COAP_SKIPPED: &str = "SAEGIS_COAP_CLIENTS_SKIPPED";
const UNPUBLISHED_SKIPPED: &str = "SAEGIS_UNPUBLISHED_CLIENTS_SKIPPED";

/// Returns the folder of the packages: `python`, `coap` and `agent`, which are virtual environments,
/// `node`, and `mbedtls`.
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
            compiled: None,
            check: &["-c", "import cbor2, paho.mqtt.client, websockets"],
        }
        .install()?,
        None => println!("{WITHOUT_PYTHON}"),
    }
    match python_for_coap() {
        Some(program) => python::Environment {
            name: "CoAP clients in Python",
            program,
            folder: folder()?.join("coap"),
            requirements: sources.join("coap-requirements.txt"),
            compiled: Some(sources.join("coap-compiled.txt")),
            check: &["-c", "import aiocoap, DTLSSocket.dtls, mbedtls.tls"],
        }
        .install()?,
        None => println!("{WITHOUT_COAP}"),
    }
    python::Environment {
        name: "a oneM2M client in Python",
        program: "python3".into(),
        folder: folder()?.join("agent"),
        requirements: sources.join("agent-requirements.txt"),
        compiled: None,
        check: &["-c", "import onem2m_mcp.gateway"],
    }
    .install()?;
    compile_mbedtls(project, &sources.join("mbedtls"), &folder()?.join("mbedtls"))?;
    install_node(&sources, &folder()?.join("node"))
}

/// Returns the clients that tests leave out: a variable for the suites, and the reason.
pub fn skipped() -> Vec<(&'static str, &'static str)> {
    let mut skipped = vec![(UNPUBLISHED_SKIPPED, UNPUBLISHED)];
    if python_with_psk().is_none() {
        skipped.push((PYTHON_SKIPPED, WITHOUT_PYTHON));
    }
    if python_for_coap().is_none() {
        skipped.push((COAP_SKIPPED, WITHOUT_COAP));
    }
    skipped
}

/// Compiles the client with Mbed TLS. Cargo fetches the source, because a crate contains it.
fn compile_mbedtls(project: &Project, sources: &Path, folder: &Path) -> Result<()> {
    let _lock = python::lock(folder)?;
    let (program, stamp) = (sources.join("datagrams.c"), folder.join("compiled.txt"));
    let wanted = fs::read_to_string(sources.join("Cargo.lock"))? + &fs::read_to_string(&program)?;
    if fs::read_to_string(&stamp).is_ok_and(|compiled| compiled == wanted) {
        return Ok(());
    }
    println!("Compiling a client with Mbed TLS in {}", folder.display());
    let manifest = sources.join("Cargo.toml");
    let cargo = |words: &[&str]| {
        let mut cargo = project.host_cargo();
        cargo.args(words).args(["--locked", "--manifest-path"]).arg(&manifest);
        cargo
    };
    process::run(&mut cargo(&["fetch"]))?;
    let metadata = process::output(&mut cargo(&["metadata", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let library = source_of(&metadata, "psa-crypto-sys").context("no source of Mbed TLS")?;
    let library = library.join("vendor");
    let (include, internal) = (library.join("include"), library.join("library"));
    let mut files: Vec<_> =
        fs::read_dir(&internal)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut compiler = Command::new("gcc");
    compiler.args(["-O1", "-w", "-I"]).arg(include).arg("-I").arg(internal);
    compiler.arg("-o").arg(folder.join("datagrams")).arg(&program).args(files);
    process::run(&mut compiler)?;
    // Written last, so that an interrupted compilation is not used.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Returns the folder of a package in cargo's metadata.
fn source_of(metadata: &Value, package: &str) -> Option<PathBuf> {
    let packages = metadata.get("packages")?.as_array()?;
    let found = packages.iter().find(|p| p.get("name").is_some_and(|name| name == package))?;
    Path::new(found.get("manifest_path")?.as_str()?).parent().map(Path::to_owned)
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
    find_python(&["python3", "python3.14", "python3.13"], question)
}

/// Finds a Python for which python-mbedtls has packages, with the headers to compile another module.
fn python_for_coap() -> Option<PathBuf> {
    let question = "import ensurepip, os, platform, sys, sysconfig, venv; \
                    header = os.path.join(sysconfig.get_path('include'), 'Python.h'); \
                    sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) \
                    or platform.machine() != 'x86_64' or not os.path.exists(header))";
    find_python(&["python3", "python3.12", "python3.11"], question)
}

/// Returns the first Python on the search path or in pyenv for which a script succeeds.
fn find_python(names: &[&str], question: &str) -> Option<PathBuf> {
    let named = names.iter().map(PathBuf::from);
    let mut all = named.chain(pythons_of_pyenv());
    all.find(|program| process::succeeds(Command::new(program).args(["-c", question])))
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
