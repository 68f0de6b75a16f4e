//! The fuzz target `mqtt`; see [`saegis_fuzz::mqtt`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| saegis_fuzz::mqtt(input));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    saegis_fuzz::replay(saegis_fuzz::mqtt)
}
