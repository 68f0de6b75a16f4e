//! The fuzz target `resource_content`; see [`saegis_fuzz::resource_content`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| saegis_fuzz::resource_content(input));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    saegis_fuzz::replay(saegis_fuzz::resource_content)
}
