//! The certificates of the worked example: lights, a home gateway, and a service provider.

use crate::TrialError;
use crate::authority::Authority;
use crate::issued::{Issued, RawKey};
use crate::name::Name;
use crate::request::{Key, Request, Validity};

/// The names of the worked example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleNames {
    /// Domain name of the service provider.
    pub service_provider: String,
    /// CSE-ID of the IN-CSE, without a slash.
    pub in_cse: String,
    /// CSE-ID of the MN-CSE, the registrar CSE of the AE, without a slash.
    pub mn_cse: String,
    /// AE-ID-Stem of the AE.
    pub ae: String,
    /// M2M-Node-ID of the node, a URI.
    pub node: String,
    /// Object identifier of the device's type, and its serial number.
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
            // The arc that is reserved for documentation.
            device: ("1.3.6.1.4.1.32473.1".into(), vec![0, 0, 1]),
        }
    }
}

impl ExampleNames {
    /// Returns the public domain name of the IN-CSE.
    #[must_use]
    pub fn in_cse_domain(&self) -> String {
        format!("{}.{}", self.in_cse, self.service_provider)
    }

    /// Returns the public domain name of the MN-CSE.
    #[must_use]
    pub fn mn_cse_domain(&self) -> String {
        format!("{}.{}", self.mn_cse, self.in_cse_domain())
    }

    /// Returns the domain name of the MAF.
    #[must_use]
    pub fn maf_domain(&self) -> String {
        format!("maf.{}", self.service_provider)
    }

    /// Returns the domain name of the MEF.
    #[must_use]
    pub fn mef_domain(&self) -> String {
        format!("mef.{}", self.service_provider)
    }

    /// Returns the absolute AE-ID of the AE. An S-type AE-ID contains no CSE-ID.
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

/// The certificates of the worked example. Each flavor has its own authority, which may issue names
/// of the service provider only.
pub struct Example {
    /// Authority for CSE-ID certificates.
    pub cse_authority: Authority,
    /// Authority for AE-ID certificates.
    pub ae_authority: Authority,
    /// Authority for Node-ID certificates.
    pub node_authority: Authority,
    /// Authority for device certificates, as a device maker runs it.
    pub device_authority: Authority,
    /// Authority for FQDN certificates.
    pub fqdn_authority: Authority,
    /// CSE-ID certificate of the IN-CSE.
    pub in_cse: Issued,
    /// CSE-ID certificate of the MN-CSE.
    pub mn_cse: Issued,
    /// AE-ID certificate of the AE.
    pub ae: Issued,
    /// Node-ID certificate of the node.
    pub node: Issued,
    /// Certificate of the device.
    pub device: Issued,
    /// FQDN certificate of the MAF.
    pub maf: Issued,
    /// FQDN certificate of the MEF.
    pub mef: Issued,
    /// Key pair without a certificate.
    pub raw_key: RawKey,
}

impl Example {
    /// Creates the certificates, for a year.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be created.
    pub fn new(names: &ExampleNames) -> Result<Self, TrialError> {
        Self::valid(names, Validity::default())
    }

    /// Creates the certificates with this validity, which also applies to the authorities.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be created.
    pub fn valid(names: &ExampleNames, validity: Validity) -> Result<Self, TrialError> {
        let provider = names.service_provider.as_str();
        let of = |common_name: String| Request::new(common_name).valid(validity);
        let root = |what: &str| of(format!("Trial authority for {what} of {provider}"));
        let domains = |name: &str| Name::dns(name);
        // All domain names are below the empty name.
        let no_domain = || Name::dns("");
        let cse_authority = Authority::new(&root("CSEs").permit(domains(provider)))?;
        let ae_authority =
            Authority::new(&root("AEs").permit(Name::uri(provider)).exclude(no_domain()))?;
        // Neither a Node-ID nor a hardware identifier has a host that could be constrained.
        let node_authority = Authority::new(&root("nodes").exclude(no_domain()))?;
        let device_authority = Authority::new(&root("devices").exclude(no_domain()))?;
        let servers = root("servers").permit(domains(&names.maf_domain()));
        let fqdn_authority = Authority::new(&servers.permit(domains(&names.mef_domain())))?;
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
            mef: fqdn_authority.issue(&ask("mef", Name::dns(names.mef_domain())))?,
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
