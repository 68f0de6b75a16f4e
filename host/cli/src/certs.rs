//! `saegis certs`: creates certificates for a trial and inspects certificate files.

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
    /// Create authorities and certificates for a trial of the worked example
    Init(init::Args),
    /// Print the content of a certificate or key file, and whether a gateway accepts it
    Inspect(inspect::Args),
}

/// Runs one verb and returns the exit code of the process.
///
/// # Errors
/// Returns the error of the verb.
pub async fn run(args: Args, as_json: bool) -> Result<u8, CertsError> {
    match args.verb {
        Verb::Init(args) => init::run(&args, as_json).map(|()| 0),
        Verb::Inspect(args) => inspect::run(&args, as_json).await,
    }
}
