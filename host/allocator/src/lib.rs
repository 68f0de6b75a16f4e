//! The memory allocator: mimalloc for Rust and OpenSSL, the C library for large blocks.
//!
//! A handshake allocates and frees several hundred blocks, most of them in OpenSSL. A program that
//! links this crate uses mimalloc for Rust. After [`serve_openssl`], OpenSSL uses it too, but for
//! blocks of a few sizes. Other C code keeps the allocator of the C library. Replacing that one for
//! the whole process, like mimalloc's `override`, crashes if a preloaded library allocates while
//! mimalloc starts.
//!
//! [`return_large_blocks`] configures the C library for the large blocks, and [`use_small_pages`] the
//! system.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};
use std::ops::RangeInclusive;

// Linked for its functions.
use mimalloc::MiMalloc;
use openssl_sys as _;

#[global_allocator]
static GLOBAL: BySize = BySize;

/// Minimum size of a block from the C library, in bytes: a multiple of the system's page size.
const LARGE: usize = 32 << 10;

/// An allocator that uses mimalloc, and the C library for large blocks, which are mapped one by
/// one. mimalloc retains a block that another thread frees until the thread that allocated it works
/// again. With large responses, that amounts to hundreds of megabytes.
struct BySize;

// SAFETY: both are allocators, and the size of a block determines which one it belongs to.
#[expect(unsafe_code, reason = "it is an allocator")]
unsafe impl GlobalAlloc for BySize {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller fulfills the contract of `GlobalAlloc`.
        unsafe { if layout.size() < LARGE { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller fulfills the contract of `GlobalAlloc`.
        unsafe {
            if layout.size() < LARGE {
                MiMalloc.alloc_zeroed(layout)
            } else {
                System.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller fulfills the contract, and the size determines the allocator of the
        // block.
        unsafe {
            if layout.size() < LARGE {
                MiMalloc.dealloc(block, layout);
            } else {
                System.dealloc(block, layout);
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller fulfills the contract, and the size determines the allocator of the
        // block.
        unsafe {
            match (layout.size() < LARGE, new_size < LARGE) {
                (true, true) => MiMalloc.realloc(block, layout, new_size),
                (false, false) => System.realloc(block, layout, new_size),
                _ => {
                    let new_layout = Layout::from_size_align_unchecked(new_size, layout.align());
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        std::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}

/// Configures the C library to return freed large blocks to the system immediately. By default it
/// retains blocks of a size that was freed before. If the addresses of the process are limited
/// (`ulimit -v`), all threads share one arena: each further one would reserve 64 MiB of addresses.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        let mut limit =
            libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the calls read a limit into a structure on the stack, and set a number.
        #[expect(unsafe_code, reason = "functions of the C library's")]
        unsafe {
            libc::getrlimit(libc::RLIMIT_AS, &raw mut limit);
            if limit.rlim_cur != libc::RLIM_INFINITY {
                libc::mallopt(libc::M_ARENA_MAX, 1);
            }
        }
        let threshold = c_int::try_from(LARGE).unwrap_or(c_int::MAX);
        // SAFETY: the call sets a number. If it fails, memory is returned later.
        #[expect(unsafe_code, reason = "a function of the C library's")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, threshold);
        }
    }
}

/// Keeps the process from using huge pages. mimalloc asks for them, and each one of 2 MiB that a few
/// blocks touch stays in memory: 14 MB of a gateway without clients.
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call sets a flag of the process. If it fails, more memory is used.
        #[expect(unsafe_code, reason = "a function of the C library's")]
        unsafe {
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        }
    }
}

/// Ranges of sizes that OpenSSL gets from the C library, in bytes. An association holds four such blocks
/// for as long as it lasts: the session, the connection and two record layers. mimalloc would round them
/// up by a tenth to a fifth.
const FROM_C_LIBRARY: [RangeInclusive<usize>; 2] = [897..=960, 4097..=5632];

type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);

// SAFETY: the declarations match mimalloc.h and OpenSSL's crypto.h; the bindings do not declare them.
#[expect(unsafe_code, reason = "functions of mimalloc and OpenSSL")]
unsafe extern "C" {
    /// Returns whether a block is one of mimalloc. Any pointer is allowed.
    fn mi_is_in_heap_region(block: *const c_void) -> bool;
    fn CRYPTO_set_mem_functions(malloc: Malloc, realloc: Realloc, free: Free) -> c_int;
}

#[expect(unsafe_code, reason = "OpenSSL calls it")]
unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: any size is allowed.
    unsafe {
        if FROM_C_LIBRARY.iter().any(|sizes| sizes.contains(&size)) {
            libc::malloc(size)
        } else {
            libmimalloc_sys::mi_malloc(size)
        }
    }
}

#[expect(unsafe_code, reason = "OpenSSL calls it")]
unsafe extern "C" fn realloc(
    block: *mut c_void,
    size: usize,
    _: *const c_char,
    _: c_int,
) -> *mut c_void {
    // Like OpenSSL's own function.
    if size == 0 {
        // SAFETY: as below.
        unsafe { free(block, std::ptr::null(), 0) };
        return std::ptr::null_mut();
    }
    // SAFETY: OpenSSL passes only blocks from these functions, or null. A block stays in its allocator.
    unsafe {
        if block.is_null() || mi_is_in_heap_region(block) {
            libmimalloc_sys::mi_realloc(block, size)
        } else {
            libc::realloc(block, size)
        }
    }
}

#[expect(unsafe_code, reason = "OpenSSL calls it")]
unsafe extern "C" fn free(block: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: OpenSSL passes only blocks from these functions, or null.
    unsafe {
        if mi_is_in_heap_region(block) {
            libmimalloc_sys::mi_free(block);
        } else {
            libc::free(block);
        }
    }
}

/// Makes OpenSSL allocate with mimalloc. Returns `false` if OpenSSL has already allocated with the
/// C library, and keeps doing so. Call it before any other function of OpenSSL.
#[must_use]
pub fn serve_openssl() -> bool {
    // SAFETY: the three functions form a complete allocator. OpenSSL accepts them only before its
    // first allocation.
    #[expect(unsafe_code, reason = "a function of OpenSSL's")]
    unsafe {
        CRYPTO_set_mem_functions(malloc, realloc, free) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::LARGE;

    #[test]
    fn block_content_survives_resizing() {
        super::return_large_blocks();
        let mut bytes: Vec<u8> = vec![1; 10];
        for size in [LARGE - 1, LARGE, 20 * LARGE, LARGE + 1, LARGE - 1, 100] {
            bytes.truncate(size);
            bytes.shrink_to_fit();
            bytes.reserve_exact(size - bytes.len());
            assert_eq!(bytes.get(..10), Some(&[1; 10][..]), "{size}");
            bytes.resize(size, 2);
        }
        assert!(vec![0_u8; 3 * LARGE].iter().all(|byte| *byte == 0));
    }

    #[test]
    #[expect(unsafe_code, reason = "they are OpenSSL's functions")]
    fn openssl_blocks_survive_resizing() {
        use std::ptr::null;
        for start in [100, 900, 5000, 20_000] {
            // SAFETY: the block is used within its size, and freed once.
            unsafe {
                let mut block = super::malloc(start, null(), 0).cast::<u8>();
                block.write(7);
                for size in [4096, 4097, 5632, 5633, 10, 900, 5000] {
                    block = super::realloc(block.cast(), size, null(), 0).cast();
                    assert_eq!(block.read(), 7, "{start} {size}");
                    block.add(size - 1).write(1);
                }
                assert!(super::realloc(block.cast(), 0, null(), 0).is_null());
            }
        }
        // SAFETY: nothing is freed.
        unsafe { super::free(std::ptr::null_mut(), null(), 0) };
    }

    #[test]
    fn openssl_takes_it_before_it_has_allocated() {
        assert!(super::serve_openssl());
        openssl_sys::init();
    }
}
