//! A cache of compiled modules that all tests share.
//!
//! A gateway compiles each module once and stores the code in `state/code-cache`. A debug build
//! takes seconds for that, and each test has its own folder. A folder next to the components
//! therefore collects the compiled code. Each gateway starts with copies, so a gateway cannot
//! change the code of another one. File names are digests of module and settings, so entries do not
//! become outdated.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::paths;

/// Code cache inside the folder of a gateway.
const OWN: &str = "state/code-cache";

/// Maximum number of cached files. Each build of a module adds some.
const MAX_CACHED_FILES: usize = 400;

/// Copies the cached code into a gateway's folder, unless the gateway has compiled code already.
pub(crate) fn fill(gateway: &Path) {
    let own = gateway.join(OWN);
    if !own.exists() {
        // An error only makes the test slower.
        copy_missing(&paths::code_cache(), &own).ok();
    }
}

/// Adds the code that a gateway has compiled to the cache.
pub(crate) fn save(gateway: &Path) {
    let cache = paths::code_cache();
    let own = gateway.join(OWN);
    if own.is_dir() && count(&cache) < MAX_CACHED_FILES {
        copy_missing(&own, &cache).ok();
    }
}

/// Copies the files that one cache has and the other lacks. Folders are named after the compiler.
fn copy_missing(from: &Path, to: &Path) -> io::Result<()> {
    for compiler in entries(&from.join("modules"))? {
        let folder = to.join("modules").join(compiler.file_name().unwrap_or_default());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for file in entries(&compiler)?.iter().filter(|path| is_code(path)) {
            let target = folder.join(file.file_name().unwrap_or_default());
            if !target.exists() {
                copy(file, &target)?;
            }
        }
    }
    Ok(())
}

/// Copies a file atomically, because other tests may read it.
fn copy(file: &Path, target: &Path) -> io::Result<()> {
    let temporary = target.with_extension(std::process::id().to_string());
    fs::copy(file, &temporary)?;
    fs::rename(temporary, target)
}

/// Returns whether a file is compiled code. Statistics and partial files have an extension.
fn is_code(path: &Path) -> bool {
    path.extension().is_none()
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn count(cache: &Path) -> usize {
    let compilers = entries(&cache.join("modules")).unwrap_or_default();
    compilers.iter().map(|folder| entries(folder).map_or(0, |files| files.len())).sum()
}
