//! The fuzz target `coap`; see [`saegis_fuzz::coap`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| saegis_fuzz::coap(input));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    saegis_fuzz::replay(saegis_fuzz::coap)
}
