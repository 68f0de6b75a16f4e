//! Memory for the cells of a table, including its keys.

use std::io;
use std::path::Path;

use memmap2::MmapMut;
use region::LockGuard;
use zeroize::Zeroize as _;

use crate::data::shown::Shown;

/// Number of bytes that one system call locks, a multiple of the page size. Linux does not interrupt a
/// system call for another thread unless it is built for that: a call for a table of 66 MB delayed
/// requests by 19 ms on the same core.
const LOCKED_AT_ONCE: usize = 256 << 10;

/// Bytes in separate pages that never move, can be locked, and are overwritten when dropped.
///
/// The pages come from the system, not from the allocator. Locks apply to whole pages, so a lock on
/// a page with another allocation would end with either of the two. Untouched pages use no memory.
#[derive(Default)]
pub(super) struct Arena {
    // Dropped first: the locks must end while the pages are still mapped.
    locks: Vec<LockGuard>,
    pages: Option<MmapMut>,
    used: usize,
}

/// The capacity of an arena is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not fit into the table's memory")]
pub(super) struct ArenaFull;

impl Arena {
    /// Maps memory for `capacity` bytes. It does not grow, because growing would leave copies of
    /// keys behind.
    pub(super) fn with_capacity(capacity: usize) -> io::Result<Self> {
        Ok(Self { locks: Vec::new(), pages: Some(MmapMut::map_anon(capacity)?), used: 0 })
    }

    pub(super) fn capacity(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| pages.len())
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.pages.as_deref().and_then(|pages| pages.get(..self.used)).unwrap_or_default()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), ArenaFull> {
        self.append_zeros(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends zeros, and returns them for writing.
    pub(super) fn append_zeros(&mut self, len: usize) -> Result<&mut [u8], ArenaFull> {
        let start = self.used;
        let end = start.checked_add(len).ok_or(ArenaFull)?;
        let pages = self.pages.as_deref_mut().ok_or(ArenaFull)?;
        let appended = pages.get_mut(start..end).ok_or(ArenaFull)?;
        self.used = end;
        Ok(appended)
    }

    /// Overwrites and removes everything from byte `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.pages.as_deref_mut().and_then(|p| p.get_mut(len..self.used)) {
            rest.zeroize();
            self.used = len;
        }
    }

    /// Locks the used pages into memory. If the system refuses, logs a warning: a table that can be
    /// swapped out is better than no table.
    pub(super) fn lock(&mut self, file: &Path) {
        let Some(used) = self.pages.as_deref().and_then(|pages| pages.get(..self.used)) else {
            return;
        };
        let locks = used.chunks(LOCKED_AT_ONCE).map(|part| region::lock(part.as_ptr(), part.len()));
        match locks.collect() {
            Ok(locks) => self.locks = locks,
            Err(e) => tracing::warn!(
                event = "policy.key-lock-failed",
                file = %Shown(file),
                bytes = self.used,
                "cannot lock the keys of {} into memory, so they can be swapped out: {e}; {} KiB are needed, \
                 and twice that during a reload; raise RLIMIT_MEMLOCK (LimitMEMLOCK= in systemd)",
                Shown(file),
                self.used.div_ceil(1024),
            ),
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_appended_up_to_the_capacity() {
        let mut arena = Arena::with_capacity(8).unwrap();
        arena.append(b"abc").unwrap();
        arena.append_zeros(2).unwrap().copy_from_slice(b"de");
        assert_eq!((arena.bytes(), arena.len(), arena.capacity()), (&b"abcde"[..], 5, 8));
        assert_eq!(arena.append(b"fghi"), Err(ArenaFull));
        assert_eq!(arena.append_zeros(usize::MAX).err(), Some(ArenaFull));
        arena.append(b"fgh").unwrap();
        assert_eq!(arena.bytes(), b"abcdefgh");
        assert_eq!(Arena::default().append(b"a"), Err(ArenaFull));
    }

    #[test]
    fn removed_bytes_are_overwritten() {
        let mut arena = Arena::with_capacity(8).unwrap();
        arena.append(b"abcdef").unwrap();
        arena.truncate(2);
        assert_eq!(arena.bytes(), b"ab");
        assert_eq!(arena.append_zeros(4).unwrap(), [0; 4]);
    }

    #[test]
    fn locked_arena_works_as_before() {
        let mut arena = Arena::with_capacity(1 << 20).unwrap();
        arena.lock(Path::new("t.csv"));
        assert!(arena.locks.is_empty());
        arena.append(b"abc").unwrap();
        arena.append_zeros(LOCKED_AT_ONCE).unwrap();
        arena.lock(Path::new("t.csv"));
        assert_eq!(arena.locks.len(), 2);
        assert_eq!(arena.bytes().first_chunk(), Some(b"abc"));
        drop(std::mem::take(&mut arena));
        assert_eq!(arena.bytes(), b"");
    }
}
