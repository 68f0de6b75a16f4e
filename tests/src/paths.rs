//! Where what is driven is.

use std::path::{Path, PathBuf};

/// The gateway's program: the environment variable `SAEGIS_BIN`, or beside the test's own.
pub fn binary() -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().expect("the test knows its own file");
        // target/debug/deps/this-test
        own.parent().and_then(Path::parent).expect("cargo's folders").join("saegis")
    };
    present(std::env::var_os("SAEGIS_BIN").map_or_else(beside, PathBuf::from))
}

/// A policy module, in the folder that the environment variable `SAEGIS_COMPONENTS` names, or
/// where they are built.
pub fn component(name: &str) -> PathBuf {
    present(components().join(format!("{name}.wasm")))
}

/// Where the code of compiled modules is kept: beside the modules.
pub fn code_cache() -> PathBuf {
    components().with_file_name("code-cache")
}

fn components() -> PathBuf {
    let built = || repository().join("guest-modules/target/components");
    std::env::var_os("SAEGIS_COMPONENTS").map_or_else(built, PathBuf::from)
}

/// ACME's program, in the virtual environment that the environment variable `SAEGIS_ACME` names, or
/// where `cargo xtask test` installs it.
pub fn acme() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        let home = || set("HOME").expect("HOME is set").join(".cache/saegis");
        set("SAEGIS_CACHE").unwrap_or_else(home)
    };
    let folder = set("SAEGIS_ACME").unwrap_or_else(|| cache().join("acme"));
    present(folder.join("bin/acmecse"))
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in it").to_path_buf()
}

fn present(file: PathBuf) -> PathBuf {
    assert!(
        file.is_file(),
        "{} is not there; run `cargo xtask test`, which builds all that the suites need",
        file.display()
    );
    file
}
