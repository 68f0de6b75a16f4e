//! Reduces the privileges of the process at its start, to protect secrets in memory and files.

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Makes new files and folders private to their owner, unless a mode is set explicitly.
///
/// Libraries (the database, the code cache) create files with the widest mode, so only the umask
/// covers all of them. The umask belongs to the process, so it is set before threads are started.
pub fn make_new_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Disables core dumps, and access of the same user to the memory and environment of the process.
///
/// Other programs of the same user then can neither attach to it nor read `/proc/PID/mem` and
/// `/proc/PID/environ`. Root still can.
///
/// # Errors
/// Fails if the system does not allow it.
pub fn forbid_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Raises the limit of locked memory to the hard limit, for the keys of policy tables.
///
/// A failure is not reported here. A table that cannot be locked is reported when it is loaded.
pub fn raise_locked_memory_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
}
