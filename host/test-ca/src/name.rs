//! Subject alternative names, and name constraints.

use std::net::IpAddr;

use crate::TrialError;
use crate::der::{self, CONSTRUCTED, CONTEXT, OCTET_STRING, SEQUENCE, element};

/// id-on-hardwareModuleName (RFC 4108).
const HARDWARE_MODULE: &str = "1.3.6.1.5.5.7.8.4";

/// A subject alternative name, or a constraint of such names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Dns(String),
    Uri(String),
    Ip(IpAddr),
    Hardware(String, Vec<u8>),
    Device(String, String),
    Der(Vec<u8>),
}

impl Name {
    /// Creates a domain name; as a constraint, it covers that name and all below it.
    #[must_use]
    pub fn dns(name: impl Into<String>) -> Self {
        Self(Form::Dns(name.into()))
    }

    /// Creates a URI, or an absolute identifier of oneM2M such as `//in.provider.com/mn-1/Clight`.
    /// As a constraint it is a host, or with a leading dot all hosts below it.
    #[must_use]
    pub fn uri(uri: impl Into<String>) -> Self {
        Self(Form::Uri(uri.into()))
    }

    /// Creates an IP address, which cannot be a constraint.
    #[must_use]
    pub fn ip(address: impl Into<IpAddr>) -> Self {
        Self(Form::Ip(address.into()))
    }

    /// Creates the name of a hardware module (RFC 4108): the object identifier of its type, and its
    /// serial number.
    #[must_use]
    pub fn hardware(kind: impl Into<String>, serial: impl Into<Vec<u8>>) -> Self {
        Self(Form::Hardware(kind.into(), serial.into()))
    }

    /// Creates an M2M device identifier (TS-0001 Annex H): the object identifier of its M2M Device
    /// Indication, such as `0.2.481.1`, and the rest of it.
    #[must_use]
    pub fn device(indication: impl Into<String>, rest: impl Into<String>) -> Self {
        Self(Form::Device(indication.into(), rest.into()))
    }

    /// Creates any GeneralName from its DER.
    #[must_use]
    pub fn der(der: impl Into<Vec<u8>>) -> Self {
        Self(Form::Der(der.into()))
    }

    /// Encodes the GeneralName (RFC 5280 clause 4.2.1.6).
    pub(crate) fn to_der(&self) -> Result<Vec<u8>, TrialError> {
        Ok(match &self.0 {
            Form::Dns(name) => element(CONTEXT | 2, name.as_bytes()),
            Form::Uri(uri) => element(CONTEXT | 6, uri.as_bytes()),
            Form::Ip(IpAddr::V4(address)) => element(CONTEXT | 7, &address.octets()),
            Form::Ip(IpAddr::V6(address)) => element(CONTEXT | 7, &address.octets()),
            Form::Hardware(kind, serial) => {
                let module = [der::oid(kind)?, element(OCTET_STRING, serial)].concat();
                other(HARDWARE_MODULE, &element(SEQUENCE, &module))?
            }
            Form::Device(indication, rest) => other(indication, &der::relative_oid(rest)?)?,
            Form::Der(der) => der.clone(),
        })
    }
}

fn other(kind: &str, value: &[u8]) -> Result<Vec<u8>, TrialError> {
    let value = element(CONTEXT | CONSTRUCTED, value);
    Ok(element(CONTEXT | CONSTRUCTED, &[der::oid(kind)?, value].concat()))
}

/// Encodes subject alternative names (RFC 5280 clause 4.2.1.6).
pub(crate) fn alternatives(names: &[Name]) -> Result<Vec<u8>, TrialError> {
    let names: Vec<_> = names.iter().map(Name::to_der).collect::<Result<_, _>>()?;
    Ok(element(SEQUENCE, &names.concat()))
}

/// Encodes name constraints (RFC 5280 clause 4.2.1.10).
pub(crate) fn constraints(permitted: &[Name], excluded: &[Name]) -> Result<Vec<u8>, TrialError> {
    let mut lists = Vec::new();
    for (tag, names) in [(0, permitted), (1, excluded)] {
        if !names.is_empty() {
            let trees = names.iter().map(|name| Ok(element(SEQUENCE, &name.to_der()?)));
            let trees: Vec<_> = trees.collect::<Result<_, TrialError>>()?;
            lists.extend(element(CONTEXT | CONSTRUCTED | tag, &trees.concat()));
        }
    }
    Ok(element(SEQUENCE, &lists))
}
