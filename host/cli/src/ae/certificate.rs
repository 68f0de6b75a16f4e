//! Loads the certificate and the trust anchors of an AE from files.

use std::path::Path;
use std::sync::Arc;

use saegis_certificate::{
    Anchor, Flavour, KeyKind, Names, OwnCertificate, Trust, TrustBuilder, pem,
};
use saegis_onem2m::id::CseId;
use saegis_policy::{Fault, Faults};

use crate::ae::config::CertificateFiles;

/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Loads the files that the configuration names.
///
/// # Errors
/// Returns all faults of the files.
pub fn load(
    files: &CertificateFiles,
    registrar: &CseId,
    flavour: Flavour,
) -> Result<(Arc<Trust>, OwnCertificate), Faults> {
    let fault = |path: &Path, what: String| Faults(vec![Fault::of(path, what)]);
    // Names of clients are irrelevant here.
    let names = Names::of(registrar.clone(), None);
    let mut trust = TrustBuilder::new(names);
    for path in &files.trust_anchors {
        let bad = |e: String| fault(path, e);
        let all = pem::certificates(&read(path)?).map_err(|e| bad(e.to_string()))?;
        for der in all {
            let anchor = Anchor::new(der, &[flavour], &KeyKind::ALL, &[]);
            trust.add_anchor(anchor.map_err(|e| bad(e.to_string()))?);
        }
    }
    let chain = pem::certificates(&read(&files.certificate)?);
    let chain = chain.map_err(|e| fault(&files.certificate, e.to_string()))?;
    let key = saegis_policy::read_private_key(&files.key, MAX_FILE);
    let key = key.map_err(|fault| Faults(vec![fault]))?;
    let key = pem::private_key(&key);
    let key = key.map_err(|e| fault(&files.key, e.to_string()))?;
    let own = OwnCertificate::new(chain, key);
    let own = own.map_err(|e| fault(&files.certificate, e.to_string()))?;
    Ok((Arc::new(trust.build()), own))
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Faults> {
    saegis_policy::read_file(path, MAX_FILE).map_err(|fault| Faults(vec![fault]))
}
