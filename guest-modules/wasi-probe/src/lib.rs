//! Test module that imports WASI, like the default builds of most languages, and returns what it
//! finds, which must be nothing.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:wasi-probe;

            world wasi-probe {
                import wasi:cli/environment@0.2.0;
                import wasi:cli/stdout@0.2.0;
                import wasi:filesystem/preopens@0.2.0;
                export saegis:policy/credential-lookup@0.1.0;
            }

            package wasi:io@0.2.0 {
                interface error {
                    resource error;
                }
                interface streams {
                    use error.{error};
                    variant stream-error {
                        last-operation-failed(error),
                        closed,
                    }
                    resource output-stream {
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                    }
                }
            }

            package wasi:cli@0.2.0 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                }
                interface stdout {
                    use wasi:io/streams@0.2.0.{output-stream};
                    get-stdout: func() -> output-stream;
                }
            }

            package wasi:filesystem@0.2.0 {
                interface types {
                    resource descriptor;
                }
                interface preopens {
                    use types.{descriptor};
                    get-directories: func() -> list<tuple<descriptor, string>>;
                }
            }
        ",
        generate_all,
    });
    export!(WasiProbe);
    use super::WasiProbe;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Guest, Query};
use bindings::wasi::cli::{environment, stdout};
use bindings::wasi::filesystem::preopens;

struct WasiProbe;

impl Guest for WasiProbe {
    fn lookup(query: Query) -> Answer {
        if !query.psk_identity.starts_with("wasi-probe") {
            return Answer::NotMine;
        }
        let out = stdout::get_stdout();
        for n in 0..100 {
            // The result does not matter here.
            let _ = out.blocking_write_and_flush(format!("printed {n}\n").as_bytes());
        }
        Answer::Refused(format!(
            "found {} variables, {} arguments, {} folders",
            environment::get_environment().len(),
            environment::get_arguments().len(),
            preopens::get_directories().len(),
        ))
    }
}
