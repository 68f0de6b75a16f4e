//! Compiled modules, kept from one test to the next.
//!
//! A gateway compiles each module once and keeps the code in `state/code-cache`. A debug build takes
//! seconds for that, and each test has a folder of its own. So a folder beside the components holds what
//! any gateway has compiled, and a gateway starts with copies: no gateway can change what others start
//! with. The names are digests of module and settings, so nothing there becomes outdated.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::paths;

/// Where a gateway keeps compiled code, in its folder.
const OWN: &str = "state/code-cache";

/// Maximum number of files of compiled code that are kept. Each build of a module adds some.
const MAX_KEPT: usize = 400;

/// Gives a gateway's folder what is compiled already, unless it has compiled code of its own.
pub(crate) fn fill(gateway: &Path) {
    let own = gateway.join(OWN);
    if !own.exists() {
        // Without it a test is slower, and that is all.
        copy_missing(&paths::code_cache(), &own).ok();
    }
}

/// Keeps what a gateway has compiled.
pub(crate) fn keep(gateway: &Path) {
    let kept = paths::code_cache();
    let own = gateway.join(OWN);
    if own.is_dir() && count(&kept) < MAX_KEPT {
        copy_missing(&own, &kept).ok();
    }
}

/// Copies the files of one cache that another lacks. They are in folders named after the compiler.
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

/// Copies a file whole, because others may look for it.
fn copy(file: &Path, target: &Path) -> io::Result<()> {
    let aside = target.with_extension(std::process::id().to_string());
    fs::copy(file, &aside)?;
    fs::rename(aside, target)
}

/// Whether it is compiled code, and neither statistics nor half written: those have an extension.
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
