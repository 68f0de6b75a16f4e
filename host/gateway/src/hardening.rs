//! What the process gives up at its start, so that secrets in its memory and files stay its own.

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Makes files and folders private to their owner unless their maker sets another mode.
///
/// Libraries (the database, the code cache) create files with the widest mode, so only the umask covers all.
/// It belongs to the process, so it is set before there are threads.
pub fn make_new_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Forbids core dumps, and reading the process's memory and environment under its own user.
///
/// Other programs of the same user then can neither attach to it nor read `/proc/PID/mem` and
/// `/proc/PID/environ`; root still can.
///
/// # Errors
/// When the system does not allow it.
pub fn forbid_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Raises the limit of locked memory as far as the process may, for the keys of policy tables.
///
/// A failure is not reported here: whatever then cannot be locked is.
pub fn raise_locked_memory_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
}
