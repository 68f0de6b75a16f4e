//! Paths of the program, the modules and the repository.

use std::path::{Path, PathBuf};

/// Returns the path of the gateway's program: the environment variable `SAEGIS_BIN`, or the folder
/// of the test program.
pub fn binary() -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().expect("the test knows its own file");
        // target/debug/deps/this-test
        own.parent().and_then(Path::parent).expect("cargo's folders").join("saegis")
    };
    present(std::env::var_os("SAEGIS_BIN").map_or_else(beside, PathBuf::from))
}

/// Returns the path of a policy module, in the folder of the environment variable
/// `SAEGIS_COMPONENTS` or in the build folder.
pub fn component(name: &str) -> PathBuf {
    present(components().join(format!("{name}.wasm")))
}

/// Returns the cache of compiled modules, next to the modules.
pub fn code_cache() -> PathBuf {
    components().with_file_name("code-cache")
}

fn components() -> PathBuf {
    let built = || repository().join("guest-modules/target/components");
    std::env::var_os("SAEGIS_COMPONENTS").map_or_else(built, PathBuf::from)
}

/// Returns the path of ACME's program, in the virtual environment of the environment variable
/// `SAEGIS_ACME` or where `cargo xtask test` installs it.
pub fn acme() -> PathBuf {
    present(installed("SAEGIS_ACME", "acme").join("bin/acmecse"))
}

/// Returns the folder of the packages of clients, which the environment variable `SAEGIS_CLIENTS`
/// names, or where `cargo xtask test` installs them.
pub fn clients() -> PathBuf {
    let folder = installed("SAEGIS_CLIENTS", "clients");
    present(folder.join("node/installed.json"));
    folder
}

/// Returns the folder of programs that `cargo xtask test` installs.
fn installed(variable: &str, name: &str) -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        let home = || set("HOME").expect("HOME is set").join(".cache/saegis");
        set("SAEGIS_CACHE").unwrap_or_else(home)
    };
    set(variable).unwrap_or_else(|| cache().join(name))
}

/// Returns the path of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in it").to_path_buf()
}

fn present(file: PathBuf) -> PathBuf {
    assert!(
        file.is_file(),
        "{} is missing; run `cargo xtask test`, which builds the programs and modules of the suites",
        file.display()
    );
    file
}
