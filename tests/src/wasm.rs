//! Components that are not policy modules, small enough to be written byte by byte.

/// A component with a core module whose memory starts with 1000 pages of 64 KiB.
pub const LARGE_MEMORY: &[u8] = b"\0asm\x0d\0\x01\0\x01\x0e\0asm\x01\0\0\0\x05\x04\x01\0\xe8\x07";

/// Header of a core module, which is a complete module.
pub const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Header of a component, which is a complete component without imports and exports.
pub const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Returns a component whose only import is an empty instance of this name.
pub fn component_that_imports(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let import = [&[1, 0, length][..], name.as_bytes(), &[5, 0]].concat();
    // Section 7, types: one instance type without declarations.
    let types = [7, 3, 1, 0x42, 0];
    // Section 10, imports: one instance of type 0.
    let size = u8::try_from(import.len()).expect("a short name");
    assert!(size < 0x80, "longer lengths are not supported");
    [EMPTY_COMPONENT, &types, &[10, size], &import].concat()
}
