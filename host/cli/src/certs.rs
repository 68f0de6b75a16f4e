//! `saegis certs`: certificates for trials, and what is in a file of certificates.

mod error;
mod init;
mod inspect;
mod verify;
mod write;

pub use error::CertsError;

/// Arguments of `saegis certs`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make authorities and certificates for a trial of the worked example.
    Init(init::Args),
    /// Say what is in a file of certificates or keys, and what a gateway makes of it.
    Inspect(inspect::Args),
}

/// Runs one verb, and returns the process's exit code.
///
/// # Errors
/// Why it came to nothing.
pub async fn run(args: Args, as_json: bool) -> Result<u8, CertsError> {
    match args.verb {
        Verb::Init(args) => init::run(&args, as_json).map(|()| 0),
        Verb::Inspect(args) => inspect::run(&args, as_json).await,
    }
}
