//! The fuzz target `sealed_entry`; see [`saegis_fuzz::sealed_entry`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| saegis_fuzz::sealed_entry(input));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    saegis_fuzz::replay(saegis_fuzz::sealed_entry)
}
