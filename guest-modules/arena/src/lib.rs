//! Global allocator for instances that live for one call.
//!
//! The default allocator grows the memory at its first allocation, which costs more than the rest
//! of a decision. This one allocates from a fixed arena in the initial memory, and frees it as a
//! whole when the last allocation is freed. An allocation that does not fit traps, and a trap is a
//! refusal.
//!
//! ```ignore
//! #[global_allocator]
//! static ARENA: saegis_arena::Arena<16384> = saegis_arena::Arena::new();
//! ```
#![cfg_attr(target_arch = "wasm32", no_std)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, UnsafeCell};

/// Arena of `SIZE` bytes.
pub struct Arena<const SIZE: usize> {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: Cell<usize>,
    live: Cell<usize>,
}

// SAFETY: wasm32-unknown-unknown without the threads feature has a single thread, so the cells are
// not shared. On other targets the arena is only used by its single-threaded tests.
unsafe impl<const SIZE: usize> Sync for Arena<SIZE> {}

impl<const SIZE: usize> Arena<SIZE> {
    /// Creates an empty arena.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; SIZE]), used: Cell::new(0), live: Cell::new(0) }
    }
}

impl<const SIZE: usize> Default for Arena<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `alloc` returns blocks of `bytes` with the requested alignment (the offset is computed
// from the address of the arena). They lie inside it and do not overlap a live block. `used` only
// grows, except for the last block and when no block is live.
unsafe impl<const SIZE: usize> GlobalAlloc for Arena<SIZE> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let free = base as usize + self.used.get();
        let Some(start) = free.checked_next_multiple_of(layout.align()) else {
            return core::ptr::null_mut();
        };
        let offset = start - base as usize;
        match offset.checked_add(layout.size()) {
            Some(end) if end <= SIZE => {
                self.used.set(end);
                self.live.set(self.live.get() + 1);
                // SAFETY: `offset` is within the arena, as `end` is.
                unsafe { base.add(offset) }
            }
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let live = self.live.get() - 1;
        self.live.set(live);
        let start = piece as usize - self.bytes.get() as usize;
        if live == 0 {
            self.used.set(0);
        } else if start + layout.size() == self.used.get() {
            self.used.set(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_apart_and_bounded() {
        let arena = Arena::<64>::new();
        let byte = Layout::from_size_align(1, 1).unwrap();
        let word = Layout::from_size_align(8, 8).unwrap();
        let all = Layout::from_size_align(64, 1).unwrap();
        // SAFETY: the layouts have a nonzero size, and each block is freed with its own layout.
        unsafe {
            let a = arena.alloc(byte);
            let b = arena.alloc(word);
            assert!((b as usize).is_multiple_of(8) && b as usize > a as usize);
            assert!(arena.alloc(all).is_null());
            arena.dealloc(b, word);
            assert_eq!(arena.alloc(byte) as usize, b as usize, "the last piece is used again");
            arena.dealloc(b, byte);
            arena.dealloc(a, byte);
            assert!(!arena.alloc(all).is_null(), "all is free when nothing is live");
        }
    }
}
