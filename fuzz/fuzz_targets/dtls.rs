//! The fuzz target `dtls`; see [`saegis_fuzz::dtls`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| saegis_fuzz::dtls(input));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    saegis_fuzz::replay(saegis_fuzz::dtls)
}
