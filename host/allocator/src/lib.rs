//! The allocator: mimalloc, for Rust and for OpenSSL, and the C library for large blocks.
//!
//! A handshake allocates and frees some hundred times, most of it in OpenSSL. Whoever links this crate
//! has mimalloc for what Rust allocates; OpenSSL takes it after [`serve_openssl`]. What else there
//! is of C keeps the allocator of the C library: to replace that one for the whole process, as
//! mimalloc's `override` does, ends where a library that is preloaded allocates while mimalloc starts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};

// What has to be linked for the function to be there.
use mimalloc::MiMalloc;
use openssl_sys as _;

#[global_allocator]
static GLOBAL: BySize = BySize;

/// Size from which a block comes from the C library, in bytes: a multiple of the system's pages.
const LARGE: usize = 32 << 10;

/// mimalloc for all but large blocks, which the C library maps one by one. A block that another thread
/// frees stays with mimalloc until the thread that allocated it works again: with large answers that
/// is hundreds of megabytes.
struct BySize;

// SAFETY: each of the two is an allocator, and the size of a block says from which it came.
#[expect(unsafe_code, reason = "it is an allocator")]
unsafe impl GlobalAlloc for BySize {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { if layout.size() < LARGE { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe {
            if layout.size() < LARGE {
                MiMalloc.alloc_zeroed(layout)
            } else {
                System.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's, and the block has come from where its size says.
        unsafe {
            if layout.size() < LARGE {
                MiMalloc.dealloc(block, layout);
            } else {
                System.dealloc(block, layout);
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's, and the block has come from where its size says.
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

/// Has the C library give large blocks back to the system as soon as they are freed. By itself it keeps
/// blocks of a size that was freed before.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        let threshold = c_int::try_from(LARGE).unwrap_or(c_int::MAX);
        // SAFETY: it sets a number. Where it is refused, memory is given back later.
        #[expect(unsafe_code, reason = "a function of the C library's")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, threshold);
        }
    }
}

type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);

// SAFETY: as OpenSSL's crypto.h declares it; the binding has no declaration of it.
#[expect(unsafe_code, reason = "a function of OpenSSL's")]
unsafe extern "C" {
    fn CRYPTO_set_mem_functions(malloc: Malloc, realloc: Realloc, free: Free) -> c_int;
}

#[expect(unsafe_code, reason = "OpenSSL calls it")]
unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: every size may be asked for.
    unsafe { libmimalloc_sys::mi_malloc(size) }
}

#[expect(unsafe_code, reason = "OpenSSL calls it")]
unsafe extern "C" fn realloc(
    block: *mut c_void,
    size: usize,
    _: *const c_char,
    _: c_int,
) -> *mut c_void {
    // As OpenSSL's own does.
    if size == 0 {
        // SAFETY: as below.
        unsafe { libmimalloc_sys::mi_free(block) };
        return std::ptr::null_mut();
    }
    // SAFETY: OpenSSL hands over what it has from these functions, or null.
    unsafe { libmimalloc_sys::mi_realloc(block, size) }
}

#[expect(unsafe_code, reason = "OpenSSL calls it")]
unsafe extern "C" fn free(block: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: OpenSSL hands over what it has from these functions, or null.
    unsafe { libmimalloc_sys::mi_free(block) }
}

/// Has OpenSSL allocate with mimalloc. To be called before anything else of OpenSSL's: once it has
/// allocated with the C library it stays with that, and the answer is false.
#[must_use]
pub fn serve_openssl() -> bool {
    // SAFETY: the three functions are a whole allocator, and OpenSSL takes them only as long as
    // nothing has been allocated with others.
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
    fn openssl_takes_it_before_it_has_allocated() {
        assert!(super::serve_openssl());
        openssl_sys::init();
    }
}
