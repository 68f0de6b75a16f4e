//! `[admin.web.remote]`: the web page for other machines.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

use saegis_certificate::{OperatorName, OwnCertificate, pem};
use saegis_handshake::operator::{OperatorServer, check_server_name};
use saegis_onem2m::id::check_fqdn;
use saegis_onem2m::serde::{all_parsed, parsed};
use saegis_policy::{Document, read_file, read_private_key};
use serde::Deserialize;

use super::folders::Folders;
use super::listen_address::ListenAddress;

/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of host names, and of operators and viewers together.
const MAX_HOSTS: usize = 16;
const MAX_OPERATORS: usize = 64;

/// Web page for operators on other machines. It needs TLS 1.3 and client certificates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Remote {
    /// Address and port of the page for other machines, such as `:9466`.
    #[serde(deserialize_with = "parsed")]
    pub listen: ListenAddress,
    /// Domain names and IP addresses by which browsers open the page. Requests to others are refused.
    pub host_names: Vec<String>,
    /// Certificate chain of the page in PEM, its own certificate first. It must be valid for all host
    /// names.
    pub certificate: PathBuf,
    /// Private key of the certificate in PEM without a password. A key that every user can read is
    /// rejected.
    pub private_key: PathBuf,
    /// Authorities of the client certificates, in PEM.
    pub client_trust_anchors: PathBuf,
    /// Names in client certificates with the role `operate`: `email:`, `dns:` or `uri:` with a subject
    /// alternative name, or `cn:` with the common name.
    #[serde(default, deserialize_with = "all_parsed")]
    pub operators: Vec<OperatorName>,
    /// Names in client certificates with the role `view`.
    #[serde(default, deserialize_with = "all_parsed")]
    pub viewers: Vec<OperatorName>,
}

/// A fault of an option.
struct OptionFault(&'static str, String);

impl Remote {
    /// Resolves paths relative to the folder of the configuration.
    pub fn place(&mut self, folders: &Folders) {
        for path in self.files_mut() {
            folders.place(path);
        }
    }

    fn files_mut(&mut self) -> [&mut PathBuf; 3] {
        [&mut self.certificate, &mut self.private_key, &mut self.client_trust_anchors]
    }

    /// Returns the files, which can change while the gateway runs.
    pub fn files(&self) -> [&PathBuf; 3] {
        [&self.certificate, &self.private_key, &self.client_trust_anchors]
    }

    /// Adds a fault for each invalid option, without a look at the files.
    pub fn check(&self, document: &mut Document<'_>) {
        let mut fault = |option: &str, what: &str| {
            document.add_fault(&format!("admin.web.remote.{option}"), what);
        };
        if !(1..=MAX_HOSTS).contains(&self.host_names.len()) {
            let what =
                format!("must have from 1 to {MAX_HOSTS} names, by which browsers open the page");
            fault("host-names", &what);
        }
        for name in &self.host_names {
            if name.parse::<IpAddr>().is_err() && check_fqdn(name).is_err() {
                fault(
                    "host-names",
                    &format!("{name:?} is neither a domain name nor an IP address"),
                );
            }
        }
        let names = self.operators.len() + self.viewers.len();
        if !(1..=MAX_OPERATORS).contains(&names) {
            let what = format!(
                "must have, with viewers, from 1 to {MAX_OPERATORS} names in client certificates, such as \
                 email:ann@example.com"
            );
            fault("operators", &what);
        }
        for name in self.viewers.iter().filter(|name| self.operators.contains(name)) {
            fault("viewers", &format!("{name} is also in operators"));
        }
    }

    /// Adds a fault if a file cannot be used.
    pub fn check_files(&self, document: &mut Document<'_>) {
        if let Err(OptionFault(option, what)) = self.loaded() {
            document.add_fault(&format!("admin.web.remote.{option}"), &what);
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// Returns the reason why one cannot be used.
    pub fn load(&self) -> Result<OperatorServer, String> {
        self.loaded().map_err(|OptionFault(option, what)| format!("{option}: {what}"))
    }

    fn loaded(&self) -> Result<OperatorServer, OptionFault> {
        const CERTIFICATE: &str = "certificate";
        const KEY: &str = "private-key";
        const ANCHORS: &str = "client-trust-anchors";
        let failed = |option, what: &dyn std::fmt::Display| OptionFault(option, what.to_string());
        let chain = read_file(&self.certificate, MAX_FILE).map_err(|e| failed(CERTIFICATE, &e))?;
        let chain = pem::certificates(&chain).map_err(|e| failed(CERTIFICATE, &e))?;
        let key = read_private_key(&self.private_key, MAX_FILE).map_err(|e| failed(KEY, &e))?;
        let key = pem::private_key(&key).map_err(|e| failed(KEY, &e))?;
        let own = OwnCertificate::new(chain, key).map_err(|e| failed(CERTIFICATE, &e))?;
        for name in &self.host_names {
            check_server_name(&own, name).map_err(|e| failed(CERTIFICATE, &e))?;
        }
        let anchors =
            read_file(&self.client_trust_anchors, MAX_FILE).map_err(|e| failed(ANCHORS, &e))?;
        let anchors = pem::certificates(&anchors).map_err(|e| failed(ANCHORS, &e))?;
        let listed: HashSet<_> = self.operators.iter().chain(&self.viewers).cloned().collect();
        OperatorServer::new(&own, &anchors, listed).map_err(|e| failed(ANCHORS, &e))
    }
}
