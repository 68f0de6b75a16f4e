//! Certificate of an AE from a MEF, by Enrollment over Secure Transport (RFC 7030, TS-0003 clause
//! 8.3.6.2). The key is generated here and never sent. One file has the certificate and the key, so
//! that both are replaced at once.

use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use saegis_certificate::{Flavour, Summary, summary};
use saegis_client::{Binding, Session};
use saegis_est::client::{MAX_RESPONSE, NewKey};
use saegis_est::{Operation, SubjectName};
use saegis_gateway::config::private_file;
use saegis_onem2m::id::CseId;
use saegis_onem2m::timestamp;
use saegis_policy::{Fault, Faults};
use serde_json::json;
use zeroize::Zeroizing;

use super::config::{AeConfig, CertificateFiles, Mef, Proof, Registrar};
use super::connect::establish;
use super::error::{AeError, broken};

/// Maximum size of a file with certificates, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Part of its lifetime that a certificate has left when it is renewed: a third.
const RENEWAL_DIVISOR: u32 = 3;

/// Enrolls the AE: gets a first certificate with the credential for the MEF.
///
/// # Errors
/// Fails if the configuration has no MEF or no credential for it, or if the MEF refuses the request.
pub async fn enroll(file: &Path, config: &AeConfig, as_json: bool) -> Result<(), AeError> {
    let (mef, files) = parts(file, config)?;
    let missing = || fault(file, "mef.credential is missing: the MEF authenticates the AE with it");
    let proof = mef.credential.as_ref().ok_or_else(missing)?;
    let issued = request(mef, proof, files, Operation::Enroll).await?;
    report(&issued, files, "enrolled", as_json);
    Ok(())
}

/// Renews the certificate, if it is due or `force` is set.
///
/// # Errors
/// Fails if there is no certificate to renew, or if the MEF refuses the request.
pub async fn renew(
    file: &Path,
    config: &AeConfig,
    force: bool,
    as_json: bool,
) -> Result<(), AeError> {
    let (mef, files) = parts(file, config)?;
    let current = current(files)?;
    if !force && !is_due(&current, SystemTime::now()) {
        report(&current, files, "not due yet", as_json);
        return Ok(());
    }
    let issued = request(mef, &renewal_proof(mef, files), files, Operation::Reenroll).await?;
    report(&issued, files, "renewed", as_json);
    Ok(())
}

/// Enrolls an AE that has no certificate, and renews a certificate that is due. A renewal that fails
/// is reported, and the certificate continues to be used.
///
/// # Errors
/// Fails if the AE has no certificate and does not get one.
pub async fn ensure(file: &Path, config: &AeConfig) -> Result<(), AeError> {
    let (mef, files) = parts(file, config)?;
    if matches!(files.certificate.try_exists(), Ok(false))
        && let Some(proof) = &mef.credential
    {
        return request(mef, proof, files, Operation::Enroll).await.map(drop);
    }
    if is_due(&current(files)?, SystemTime::now()) {
        let renewal = request(mef, &renewal_proof(mef, files), files, Operation::Reenroll).await;
        if let Err(e) = renewal {
            crate::output::print_error(&format!("the certificate was not renewed: {e}"), 0);
        }
    }
    Ok(())
}

fn parts<'a>(
    file: &Path,
    config: &'a AeConfig,
) -> Result<(&'a Mef, &'a CertificateFiles), AeError> {
    let mef = config.mef.as_ref().ok_or_else(|| fault(file, "[mef] is missing"))?;
    match &config.credential {
        Proof::Certificate(files) => Ok((mef, files)),
        Proof::Key(_) => {
            Err(fault(file, "credential.certificate is missing: the MEF issues a certificate"))
        }
    }
}

fn fault(file: &Path, what: &str) -> AeError {
    AeError::Config(Faults(vec![Fault::of(file, what)]))
}

/// Returns the summary of the current certificate.
fn current(files: &CertificateFiles) -> Result<Summary, AeError> {
    let text = saegis_policy::read_file(&files.certificate, MAX_FILE);
    let text = text.map_err(|fault| AeError::Config(Faults(vec![fault])))?;
    let bad = |why: String| fault(&files.certificate, &why);
    let der = CertificateDer::from_pem_slice(&text);
    let der = der.map_err(|_| bad("has no certificate in it (PEM)".into()))?;
    summary(&der).map_err(|e| bad(e.to_string()))
}

fn is_due(current: &Summary, now: SystemTime) -> bool {
    let lifetime = current.not_after.duration_since(current.not_before).unwrap_or_default();
    current.not_after.duration_since(now).unwrap_or_default() <= lifetime / RENEWAL_DIVISOR
}

/// Returns the current certificate as the credential for the MEF.
fn renewal_proof(mef: &Mef, files: &CertificateFiles) -> Proof {
    Proof::Certificate(CertificateFiles {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        trust_anchors: mef.trust_anchors.clone(),
    })
}

/// Requests a certificate, checks it, and replaces the file. Returns its summary.
async fn request(
    mef: &Mef,
    proof: &Proof,
    files: &CertificateFiles,
    operation: Operation,
) -> Result<Summary, AeError> {
    let broken = |why: String| broken(format!("the MEF {}: {why}", mef.fqdn));
    let base = CseId::parse("mef").map_err(|e| broken(e.to_string()))?;
    let place = Registrar {
        address: mef.address.clone(),
        cse_id: base,
        domain_name: Some(mef.fqdn.clone()),
        timeout_seconds: mef.timeout_seconds,
    };
    let from = mef.client_id.to_string();
    let mut session = establish((&place, Flavour::Fqdn), proof, from, Binding::Http).await?;
    let protocol = session.protocol;
    let name = SubjectName::AeId(mef.client_id.to_string());
    let key = NewKey::generate(&name).map_err(|e| broken(e.to_string()))?;
    let done = async {
        let authorities = ask(&mut session, Operation::CaCertificates, "").await?;
        let enrolled = ask(&mut session, operation, key.content()).await?;
        Ok((authorities, enrolled))
    };
    let done: Result<_, AeError> = done.await;
    session.close().await;
    let (authorities, enrolled) = done.map_err(|e| e.explained(protocol))?;
    let chain = key.accept(&name, &enrolled, &authorities, SystemTime::now());
    let chain = chain.map_err(|e| broken(e.to_string()))?;
    let own = chain.first().ok_or_else(|| broken("there is no certificate".into()))?;
    let issued = summary(own).map_err(|e| broken(e.to_string()))?;
    let mut text = Zeroizing::new(String::from(key.expose_pem()));
    for der in &chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        text.push_str(&saegis_est::client::base64_lines(der));
        text.push_str("-----END CERTIFICATE-----\n");
    }
    let path = files.certificate.as_path();
    private_file::replace(path, text.as_bytes())
        .map_err(|e| fault(path, &format!("cannot be written: {e}")))?;
    Ok(issued)
}

/// Sends a request of EST, and returns the content of the response.
async fn ask(session: &mut Session, operation: Operation, content: &str) -> Result<Bytes, AeError> {
    let mut request = Request::builder().uri(operation.path());
    if operation.has_content() {
        request = request.method(Method::POST).header("Content-Type", "application/pkcs10");
    }
    let request = request.body(Bytes::copy_from_slice(content.as_bytes()));
    let request = request.map_err(|e| broken(e.to_string()))?;
    let response = session.exchange(request, MAX_RESPONSE).await?;
    let (parts, content) = response.into_parts();
    if parts.status == StatusCode::OK {
        return Ok(content);
    }
    let why = String::from_utf8_lossy(&content);
    // The text goes to a terminal.
    let why: String = why.trim().chars().filter(|c| !c.is_control()).take(1000).collect();
    Err(AeError::NotEnrolled { operation: operation.name(), status: parts.status.as_u16(), why })
}

fn report(certificate: &Summary, files: &CertificateFiles, what: &str, as_json: bool) {
    let not_after = timestamp::format(certificate.not_after);
    let path = saegis_policy::Shown(&files.certificate).to_string();
    let text = if as_json {
        let serial = &certificate.serial;
        json!({ "result": what, "file": path, "serial": serial, "not_after": not_after })
            .to_string()
    } else {
        format!("{what}: {path}, valid until {not_after}")
    };
    crate::output::print(&text);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use saegis_test_ca::{Authority, Request, Validity};

    use super::*;

    #[test]
    fn certificate_is_renewed_in_last_third() {
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 3600);
        let validity = Validity { from: now, until: now + 90 * day };
        let root = Authority::new(&Request::new("root").valid(validity)).unwrap();
        let current = summary(root.der()).unwrap();
        assert!(!is_due(&current, now + 59 * day));
        assert!(is_due(&current, now + 61 * day));
        assert!(is_due(&current, now + 91 * day));
    }
}
