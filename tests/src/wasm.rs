//! Components that no policy module is, small enough to be written byte by byte.

/// A component with a core module whose memory starts with 1000 pages of 64 KiB.
pub const LARGE_MEMORY: &[u8] = b"\0asm\x0d\0\x01\0\x01\x0e\0asm\x01\0\0\0\x05\x04\x01\0\xe8\x07";

/// The start of a core module, which is a whole one.
pub const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The start of a component, which is a whole one: it imports nothing and exports nothing.
pub const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A component that imports an empty instance of a name, and nothing more.
pub fn component_that_imports(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let import = [&[1, 0, length][..], name.as_bytes(), &[5, 0]].concat();
    // Section 7, types: one, an instance type without declarations.
    let types = [7, 3, 1, 0x42, 0];
    // Section 10, imports: one, of an instance of type 0.
    let size = u8::try_from(import.len()).expect("a short name");
    assert!(size < 0x80, "lengths of more than one byte are not written here");
    [EMPTY_COMPONENT, &types, &[10, size], &import].concat()
}
