//! Identities, keys and certificates in the format of each contender.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use saegis_test_ca::{Authority, Example, ExampleNames, Name, Request};

/// Name in the server's certificate.
pub const SERVER: &str = "mn-cse-123456.in-cse.in.provider.com";
/// Files with the certificates of AEs and with their keys, in the same order.
pub const CLIENT_CERTIFICATES: &str = "clients.pem";
/// See [`CLIENT_CERTIFICATES`].
pub const CLIENT_KEYS: &str = "clients.key";

/// Returns the AE-ID-Stem in a certificate, by the certificate's number from 1.
pub fn ae(number: u64) -> String {
    format!("Clight-AE{number}")
}

/// Arguments of `saegis-load credentials`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the files.
    #[arg(long)]
    folder: PathBuf,
    /// Numbers of identities with keys. Each number has its own files.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    identities: Vec<u64>,
    /// Number of AEs with a certificate.
    #[arg(long, default_value_t = 16)]
    certificates: u64,
}

/// An identity and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The psk_identity, a KpsaID.
    pub psk_identity: String,
    /// The Kpsa: text, because libcoap's server takes no other. stunnel requires at least 16 bytes.
    pub key: [u8; 16],
    /// Its AE-ID-Stem.
    pub originator: String,
}

impl Identity {
    /// Returns the identity of a number.
    pub fn of(number: u64) -> Self {
        let text = format!("Kt7qLm2x{number:08}");
        let mut key = [0; 16];
        key.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Self {
            psk_identity: format!("AE{number:012}-Light@in.provider.com"),
            key,
            originator: format!("Clight-{number:07}"),
        }
    }
}

/// Writes all files.
///
/// # Errors
/// Fails if a file cannot be written.
pub fn make(args: &Args) -> Result<()> {
    fs::create_dir_all(&args.folder)?;
    for &number in &args.identities {
        // A table for Saegis, and one for stunnel and GnuTLS.
        let mut table = String::from("ae_id,kpsa,kpsa_id\n");
        let mut pairs = String::new();
        // For mosquitto, which compares topics with the psk_identity.
        let mut pairs_of_aes = String::new();
        // For libcoap, with the hint that its server sends.
        let mut matches = String::new();
        for n in 0..number {
            let Identity { psk_identity, key, originator } = Identity::of(n);
            let _ = writeln!(matches, "CoAP,{psk_identity},{}", String::from_utf8_lossy(&key));
            let key = key.iter().fold(String::new(), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            });
            let _ = writeln!(table, "{originator},{key},{psk_identity}");
            let _ = writeln!(pairs, "{psk_identity}:{key}");
            let _ = writeln!(pairs_of_aes, "{originator}:{key}");
        }
        put(&args.folder, &format!("{number}.csv"), table)?;
        put(&args.folder, &format!("{number}.psk"), pairs)?;
        put(&args.folder, &format!("{number}.ae.psk"), pairs_of_aes)?;
        put(&args.folder, &format!("{number}.coap.psk"), matches)?;
    }
    let first = Identity::of(0).key;
    put(&args.folder, "first.key", String::from_utf8_lossy(&first).into_owned())?;
    certificates(&args.folder, args.certificates)
}

fn certificates(folder: &Path, number: u64) -> Result<()> {
    let names = ExampleNames {
        service_provider: "in.provider.com".into(),
        in_cse: "in-cse".into(),
        ..ExampleNames::default()
    };
    let made = Example::new(&names)?;
    put(folder, "server-ca.pem", made.cse_authority.pem().into())?;
    // Without a URI constraint, because an AE-ID has no scheme and peers refuse it under one.
    let aes = Authority::new(&Request::new("Authority of AEs"))?;
    put(folder, "client-ca.pem", aes.pem().into())?;
    let (mut chains, mut keys) = (String::new(), String::new());
    for number in 1..=number {
        let names = ExampleNames { ae: ae(number), ..names.clone() };
        let own = aes.issue(&Request::new(&names.ae).name(Name::uri(names.absolute_ae_id())))?;
        chains.push_str(own.chain_pem());
        keys.push_str(&own.key_pem());
    }
    put(folder, CLIENT_CERTIFICATES, chains)?;
    put(folder, CLIENT_KEYS, keys)?;
    put(folder, "server.pem", made.mn_cse.chain_pem().into())?;
    put(folder, "server.key", made.mn_cse.key_pem())?;
    // haproxy requires both in one file.
    put(folder, "server-both.pem", made.mn_cse.chain_pem().to_string() + &made.mn_cse.key_pem())
}

fn put(folder: &Path, name: &str, text: String) -> Result<()> {
    let path = folder.join(name);
    let write = || {
        fs::write(&path, text)?;
        // The table contains keys, and the gateway refuses a world-readable table.
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600))
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    // nginx and Envoy accept any mode, and Saegis warns about world-readable keys.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, mode).with_context(|| path.display().to_string())
}
