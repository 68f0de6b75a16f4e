//! The certification authority.

use rcgen::{Certificate, RevokedCertParams, SerialNumber};
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use crate::TrialError;
use crate::issued::{Issued, RevocationList};
use crate::request::{Request, Validity};

/// A root authority, or one below another.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    serial: Vec<u8>,
    /// Its own certificate and those above it, without the root's; and the same in PEM.
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
}

impl Authority {
    /// Creates a root, which signs itself.
    ///
    /// # Errors
    /// Returns an error if the certificate cannot be created.
    pub fn new(request: &Request) -> Result<Self, TrialError> {
        let params = request.params(true)?;
        let key = request.key.generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            serial: serial(&params),
            issuer: Issuer::new(params, key),
            chain: Vec::new(),
            chain_pem: String::new(),
        })
    }

    /// Creates an authority below this one.
    ///
    /// # Errors
    /// Returns an error if the certificate cannot be created.
    pub fn sub_authority(&self, request: &Request) -> Result<Self, TrialError> {
        let params = request.params(true)?;
        let key = request.key.generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (chain, chain_pem) = self.below(&certificate);
        Ok(Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            serial: serial(&params),
            issuer: Issuer::new(params, key),
            chain,
            chain_pem,
        })
    }

    /// Issues a certificate with a new key.
    ///
    /// # Errors
    /// Returns an error if the certificate cannot be created.
    pub fn issue(&self, request: &Request) -> Result<Issued, TrialError> {
        let params = request.params(false)?;
        let key = request.key.generate()?;
        let (chain, pem) = self.below(&params.signed_by(&key, &self.issuer)?);
        Ok(Issued { chain, pem, key, serial: serial(&params) })
    }

    /// Issues a certificate for an existing public key, and returns its chain. The kind of key in
    /// the request is ignored.
    ///
    /// # Errors
    /// Returns an error if the certificate cannot be created.
    pub fn certify(
        &self,
        request: &Request,
        key: &impl PublicKeyData,
    ) -> Result<Vec<CertificateDer<'static>>, TrialError> {
        let certificate = request.params(false)?.signed_by(key, &self.issuer)?;
        Ok(self.below(&certificate).0)
    }

    /// Issues a revocation list with these serial numbers, for a year.
    ///
    /// # Errors
    /// Returns an error if the list cannot be created.
    pub fn revoke(&self, serials: &[&[u8]]) -> Result<RevocationList, TrialError> {
        self.revoke_for(serials, Validity::default())
    }

    /// Issues a revocation list with these serial numbers. `validity` has the times of this and the
    /// next update.
    ///
    /// # Errors
    /// Returns an error if the list cannot be created.
    pub fn revoke_for(
        &self,
        serials: &[&[u8]],
        validity: Validity,
    ) -> Result<RevocationList, TrialError> {
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: validity.from.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: validity.from.into(),
            next_update: validity.until.into(),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer)?;
        Ok(RevocationList { pem: list.pem()?, list })
    }

    /// Returns the authority's certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the authority's certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the authority's key in PEM (PKCS #8).
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Returns the serial number of the authority's certificate.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Returns the chain of an issued certificate.
    fn below(&self, certificate: &Certificate) -> (Vec<CertificateDer<'static>>, String) {
        let chain = [std::slice::from_ref(certificate.der()), &self.chain].concat();
        (chain, certificate.pem() + &self.chain_pem)
    }
}

fn serial(params: &rcgen::CertificateParams) -> Vec<u8> {
    params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default()
}
