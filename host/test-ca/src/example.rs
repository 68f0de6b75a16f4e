//! The certificates of the worked example: lights, a home gateway, and a service provider.

use crate::TrialError;
use crate::authority::Authority;
use crate::issued::{Issued, RawKey};
use crate::name::Name;
use crate::request::{Key, Request, Validity};

/// Who is who in the worked example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleNames {
    /// The domain name of the service provider.
    pub service_provider: String,
    /// The CSE-ID of the IN-CSE, without a slash.
    pub in_cse: String,
    /// The CSE-ID of the MN-CSE, without a slash. The AE registers there.
    pub mn_cse: String,
    /// The AE-ID-Stem of the AE.
    pub ae: String,
    /// The M2M-Node-ID of the node, a URI.
    pub node: String,
    /// The object identifier of the device's type, and its serial number.
    pub device: (String, Vec<u8>),
}

impl Default for ExampleNames {
    fn default() -> Self {
        Self {
            service_provider: "provider.com".into(),
            in_cse: "in".into(),
            mn_cse: "mn-cse-123456".into(),
            ae: "Clight-AE1".into(),
            node: "urn:gsma:imei:90420156-025763-0".into(),
            // The arc that is set aside for documentation.
            device: ("1.3.6.1.4.1.32473.1".into(), vec![0, 0, 1]),
        }
    }
}

impl ExampleNames {
    /// The public domain name of the IN-CSE.
    #[must_use]
    pub fn in_cse_domain(&self) -> String {
        format!("{}.{}", self.in_cse, self.service_provider)
    }

    /// The public domain name of the MN-CSE.
    #[must_use]
    pub fn mn_cse_domain(&self) -> String {
        format!("{}.{}", self.mn_cse, self.in_cse_domain())
    }

    /// The domain name of the MAF.
    #[must_use]
    pub fn maf_domain(&self) -> String {
        format!("maf.{}", self.service_provider)
    }

    /// The absolute AE-ID of the AE. One that the service provider has given names no CSE.
    #[must_use]
    pub fn absolute_ae_id(&self) -> String {
        let Self { service_provider, mn_cse, ae, .. } = self;
        if ae.starts_with('S') {
            format!("//{service_provider}/{ae}")
        } else {
            format!("//{service_provider}/{mn_cse}/{ae}")
        }
    }
}

/// The certificates of the worked example, each flavour under an authority of its own, which may
/// give names of the service provider and no others.
pub struct Example {
    /// Issues CSE-ID certificates.
    pub cse_authority: Authority,
    /// Issues AE-ID certificates.
    pub ae_authority: Authority,
    /// Issues Node-ID certificates.
    pub node_authority: Authority,
    /// Issues device certificates, as a maker of devices does.
    pub device_authority: Authority,
    /// Issues FQDN certificates.
    pub fqdn_authority: Authority,
    /// The IN-CSE's CSE-ID certificate.
    pub in_cse: Issued,
    /// The MN-CSE's CSE-ID certificate.
    pub mn_cse: Issued,
    /// The AE's AE-ID certificate.
    pub ae: Issued,
    /// The node's Node-ID certificate.
    pub node: Issued,
    /// The device's certificate.
    pub device: Issued,
    /// The MAF's FQDN certificate.
    pub maf: Issued,
    /// A key pair without a certificate.
    pub raw_key: RawKey,
}

impl Example {
    /// Makes the certificates, for a year.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn new(names: &ExampleNames) -> Result<Self, TrialError> {
        Self::valid(names, Validity::default())
    }

    /// Makes the certificates, for that time; the authorities' own are for as long.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn valid(names: &ExampleNames, validity: Validity) -> Result<Self, TrialError> {
        let provider = names.service_provider.as_str();
        let of = |common_name: String| Request::new(common_name).valid(validity);
        let root = |what: &str| of(format!("Trial authority for {what} of {provider}"));
        let domains = |name: &str| Name::dns(name);
        // The empty name has all domain names below it.
        let no_domain = || Name::dns("");
        let cse_authority = Authority::new(&root("CSEs").permit(domains(provider)))?;
        let ae_authority =
            Authority::new(&root("AEs").permit(Name::uri(provider)).exclude(no_domain()))?;
        // Neither a Node-ID nor a hardware identifier has a host that could be constrained.
        let node_authority = Authority::new(&root("nodes").exclude(no_domain()))?;
        let device_authority = Authority::new(&root("devices").exclude(no_domain()))?;
        let fqdn_authority = Authority::new(&root("servers").permit(domains(&names.maf_domain())))?;
        let (in_cse, mn_cse) = (names.in_cse_domain(), names.mn_cse_domain());
        let (kind, serial) = &names.device;
        let ask = |common_name: &str, name| of(common_name.into()).name(name);
        Ok(Self {
            in_cse: cse_authority.issue(&ask(&names.in_cse, Name::dns(in_cse)))?,
            mn_cse: cse_authority.issue(&ask(&names.mn_cse, Name::dns(mn_cse)))?,
            ae: ae_authority.issue(&ask(&names.ae, Name::uri(names.absolute_ae_id())))?,
            node: node_authority.issue(&ask("node", Name::uri(names.node.as_str())))?,
            device: device_authority
                .issue(&ask("device", Name::hardware(kind.as_str(), serial.as_slice())))?,
            maf: fqdn_authority.issue(&ask("maf", Name::dns(names.maf_domain())))?,
            raw_key: RawKey::new(Key::P256)?,
            cse_authority,
            ae_authority,
            node_authority,
            device_authority,
            fqdn_authority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_those_that_are_given() {
        let names = ExampleNames::default();
        assert_eq!(names.mn_cse_domain(), "mn-cse-123456.in.provider.com");
        assert_eq!(names.absolute_ae_id(), "//provider.com/mn-cse-123456/Clight-AE1");
        let given = ExampleNames { ae: "Slight".into(), ..names };
        assert_eq!(given.absolute_ae_id(), "//provider.com/Slight");
    }

    #[test]
    fn chain_contains_intermediates_without_root() {
        let root = Authority::new(&Request::new("root")).unwrap();
        let middle = root.sub_authority(&Request::new("middle")).unwrap();
        let issued = middle.issue(&Request::new("end").key(Key::P384)).unwrap();
        assert_eq!(issued.chain().len(), 2);
        assert_eq!(issued.chain_pem().matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(issued.chain()[1], *middle.der());
        assert!(Example::new(&ExampleNames::default()).is_ok());
    }
}
