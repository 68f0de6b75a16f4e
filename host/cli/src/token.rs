//! `saegis token`: issues, shows and revokes tokens of an issuer in `token-issuers.toml`.

mod error;
mod issue;
mod revoke;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use saegis_gateway::config::Config;
use saegis_jose::{MAX_JWS, UnverifiedJws};
use saegis_policy::{Fault, Faults, TOKEN_ISSUERS, TokenIssuers, check_token};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::output::print;
pub use error::TokenCommandError;
use issue::Issue;

/// Arguments of `saegis token`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Sign a token with the private key of an issuer
    Issue(Box<Issue>),
    /// Print the claims of a token, and whether a gateway accepts it
    Show {
        /// File with the token; `-` is the standard input
        file: PathBuf,
        /// Configuration of a gateway, whose policy checks the token
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Add a Token-ID to the revoked tokens of the gateway, and load the change
    Revoke {
        /// Token-ID: the claim jti
        id: String,
        /// Configuration of the gateway
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
    },
}

/// Runs a verb.
///
/// # Errors
/// Fails if an argument, a file or the token is not valid.
pub fn run(args: Args, as_json: bool) -> Result<(), TokenCommandError> {
    match args.verb {
        Verb::Issue(issue) => issue::issue(&issue, as_json),
        Verb::Show { file, config } => show(&file, config.as_deref(), as_json),
        Verb::Revoke { id, config } => {
            let activation = revoke::revoke(&id, &Config::load(&config)?)?;
            if as_json {
                print(&json!({ "revoked": id, "activation": activation }).to_string());
            } else {
                print(&format!("revoked {id}: {activation}"));
            }
            Ok(())
        }
    }
}

/// Reads a token from a file.
///
/// # Errors
/// Fails if the file cannot be read, or is too long for a token.
pub fn read_token(file: &Path) -> Result<Zeroizing<String>, TokenCommandError> {
    let failed = TokenCommandError::file(file);
    let mut text = Zeroizing::new(String::new());
    let max = MAX_JWS as u64 + 2;
    let read = match file == Path::new("-") {
        true => io::stdin().take(max).read_to_string(&mut text),
        false => fs::File::open(file).and_then(|file| file.take(max).read_to_string(&mut text)),
    };
    read.map_err(failed)?;
    let token = Zeroizing::new(text.trim_end().to_owned());
    if token.len() > MAX_JWS {
        let what = format!("a token has at most {MAX_JWS} bytes");
        return Err(TokenCommandError::Argument(what));
    }
    Ok(token)
}

/// Prints the claims of a token, but not its signature.
fn show(file: &Path, config: Option<&Path>, as_json: bool) -> Result<(), TokenCommandError> {
    let token = read_token(file)?;
    let read = UnverifiedJws::read(&token).map_err(|e| TokenCommandError::Token(e.to_string()))?;
    let checked = match config {
        Some(config) => {
            let issuers = issuers_of(&Config::load(config)?)?;
            Some(check_token(&issuers, &token, SystemTime::now()))
        }
        None => None,
    };
    let claims = read.unverified_payload();
    if as_json {
        let mut shown = json!({
            "algorithm": read.algorithm().name(), "key": read.key_id(), "claims": claims,
        });
        if let (Some(checked), Some(shown)) = (&checked, shown.as_object_mut()) {
            let refused = checked.as_ref().err().map(ToString::to_string);
            shown.insert("accepted".into(), checked.is_ok().into());
            shown.insert("reason".into(), refused.map_or(Value::Null, Value::String));
        }
        print(&shown.to_string());
    } else {
        print(&format!("algorithm {}", read.algorithm()));
        if let Some(key) = read.key_id() {
            print(&format!("key       {key:?}"));
        }
        for (name, value) in claims.as_object().into_iter().flatten() {
            print(&format!("{name:<9} {value}"));
        }
        match &checked {
            None => print("its signature was not checked; --config names a gateway that does"),
            Some(Ok(())) => print("accepted, if its holder sends it"),
            Some(Err(_)) => {}
        }
    }
    match checked {
        Some(Err(error)) => Err(TokenCommandError::Token(error.to_string())),
        _ => Ok(()),
    }
}

/// Returns the issuers of a gateway.
fn issuers_of(config: &Config) -> Result<TokenIssuers, TokenCommandError> {
    let file = config.policy.folder.join(TOKEN_ISSUERS);
    let text = fs::read_to_string(&file)
        .map_err(|e| Faults(vec![Fault::of(&file, format!("cannot be read: {e}"))]))?;
    let (cse, provider) = (&config.cse.cse_id, config.cse.service_provider.as_deref());
    Ok(TokenIssuers::parse(&file, &text, cse, provider).map_err(Faults)?)
}
