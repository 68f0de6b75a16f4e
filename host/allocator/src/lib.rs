//! The allocator: mimalloc, for Rust and for OpenSSL.
//!
//! A handshake allocates and frees some hundred times, most of it in OpenSSL. Whoever links this crate
//! has mimalloc for all that Rust allocates; OpenSSL takes it after [`serve_openssl`]. What else there
//! is of C keeps the allocator of the C library: to replace that one for the whole process, as
//! mimalloc's `override` does, ends where a library that is preloaded allocates while mimalloc starts.

use std::ffi::{c_char, c_int, c_void};

// What has to be linked for the function to be there.
use openssl_sys as _;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    #[test]
    fn openssl_takes_it_before_it_has_allocated() {
        assert!(super::serve_openssl());
        openssl_sys::init();
    }
}
