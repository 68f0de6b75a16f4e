//! `[modules]`: folders, grants and limits of modules, and the resources of modules with I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use saegis_policy::{Capability, ConfigValues, Document, Grants, Limits, OutgoingHttp, Target};
use serde::Deserialize;

use crate::config::folders::Folders;
use crate::config::signature;
use saegis_onem2m::serde::all_parsed;

/// Policy modules: their folders, limits and capabilities.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Modules {
    /// Folder of modules, `NAME.wasm`, and manifests, `NAME.toml`.
    pub folder: PathBuf,
    /// Folder of compiled modules. No other user may write there.
    pub code_cache: PathBuf,
    /// Names of modules that must be present. A reload without one of them is rejected.
    pub required: Vec<String>,
    /// Maximum computing time of one decision.
    pub deadline_milliseconds: u64,
    /// Maximum memory of one decision.
    pub memory_bytes: usize,
    /// Maximum concurrent decisions. Modules that wait for I/O may compute as many more. Further
    /// decisions wait up to 2 seconds. Half are for credential lookups of handshakes, half for all
    /// other decisions. An IPv4 address, or an IPv6 network of 48 bits, may use one in 32 of all for
    /// its lookups, and a credential for the checks of its requests.
    pub concurrent_decisions: usize,
    /// Whether addresses for the memories of all concurrent decisions are reserved at the start:
    /// about 2 TiB, without using memory. `false` maps the memory of each decision when it starts,
    /// which takes longer. Use it where addresses are limited, as with `ulimit -v`,
    /// `vm.overcommit_memory=2` or a 32-bit processor.
    pub pool: bool,
    /// Maximum time of one decision of a module with `outgoing-http` or `key-value`, waiting
    /// included. It cannot exceed `limits.handshake-seconds`. The default is 5000, or that limit if
    /// it is lower.
    waiting_milliseconds: Option<u64>,
    /// Maximum concurrent decisions of modules with `outgoing-http` or `key-value`. Up to 1,024
    /// further decisions wait up to 2 seconds. Half are for credential lookups of handshakes, of
    /// which one address or network of 56 bits may use half.
    pub waiting_decisions: usize,
    /// Capabilities that manifests may request, by module name. `"*"` applies to all modules and
    /// defaults to `policy-tables`, `log`, `clock` and `service-subscription`.
    pub grants: BTreeMap<String, Vec<Capability>>,
    /// Hosts that a module with `outgoing-http` may request, by module name.
    outgoing_http: BTreeMap<String, Http>,
    /// Storage of a module with `key-value`, by module name.
    key_value: BTreeMap<String, Quota>,
    /// Folder of the stores of modules with `key-value`, `NAME.redb`.
    pub key_value_folder: PathBuf,
    /// Values that a module with `config` reads, by module name.
    config: BTreeMap<String, Values>,
    /// Maximum calls of one instance, by module name. The manifest must request it too.
    reuse: BTreeMap<String, u32>,
    /// Keys that must have signed modules and manifests. Without it, signatures are not required.
    pub require_signature: Option<signature::Keys>,
}

impl Default for Modules {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            folder: "policies/modules".into(),
            code_cache: "state/code-cache".into(),
            required: Vec::new(),
            deadline_milliseconds: milliseconds(limits.deadline),
            memory_bytes: limits.memory,
            concurrent_decisions: limits.concurrent_calls,
            pool: limits.pool,
            waiting_milliseconds: None,
            waiting_decisions: limits.waiting_calls,
            grants: BTreeMap::new(),
            outgoing_http: BTreeMap::new(),
            key_value: BTreeMap::new(),
            key_value_folder: "state/key-value".into(),
            config: BTreeMap::new(),
            reuse: BTreeMap::new(),
            require_signature: None,
        }
    }
}

/// Hosts that a module may request, and the limits of each request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Http {
    /// Hosts, each as `https://host` or `http://host:port`. Loopback and private addresses are
    /// allowed if listed.
    #[serde(deserialize_with = "all_parsed")]
    hosts: Vec<Target>,
    /// Maximum size of the content of a request.
    #[serde(default = "content")]
    request_bytes: u64,
    /// Maximum size of the content of a response. Its header may have 16 KiB more.
    #[serde(default = "content")]
    response_bytes: u64,
    /// Timeout for a request, from the name resolution to the last byte of the response.
    #[serde(default = "request_time")]
    milliseconds: u64,
    /// Maximum concurrent requests of all calls of the module. One call may have 32.
    #[serde(default = "requests")]
    concurrent_requests: usize,
    /// PEM file of the authorities of these hosts. Without it, the authorities of the system are
    /// used.
    ca: Option<PathBuf>,
}

fn content() -> u64 {
    64 << 10
}

fn request_time() -> u64 {
    2000
}

fn requests() -> usize {
    1024
}

/// Storage of a module.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Quota {
    /// Maximum size of keys and values, plus 32 bytes per entry.
    quota_bytes: u64,
}

/// Values that a module reads.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Values {
    /// Values by name.
    #[serde(default)]
    values: BTreeMap<String, String>,
    /// Files of secrets, by name. Only the user or the group of the gateway may be able to read
    /// them. A line break at the end is removed.
    #[serde(default)]
    secrets: BTreeMap<String, PathBuf>,
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum number of concurrent decisions of modules with I/O.
const MAX_WAITING: usize = 4096;

fn check_range(document: &mut Document<'_>, entry: &str, value: u64, from: u64, to: u64) {
    if !(from..=to).contains(&value) {
        document.add_fault(entry, &format!("must be from {from} to {to}"));
    }
}

impl Modules {
    /// Resolves paths relative to the folder of the configuration, or to the state folder.
    pub fn place(&mut self, folders: &Folders) {
        if let Some(keys) = &mut self.require_signature {
            keys.place(folders);
        }
        let secrets = self.config.values_mut().flat_map(|config| config.secrets.values_mut());
        let authorities = self.outgoing_http.values_mut().filter_map(|http| http.ca.as_mut());
        let own = [&mut self.folder, &mut self.code_cache, &mut self.key_value_folder];
        for path in own.into_iter().chain(secrets).chain(authorities) {
            folders.place(path);
        }
    }

    /// Checks what types cannot express. `handshake` is the time limit of a handshake.
    pub fn check(&self, handshake: Duration, document: &mut Document<'_>) {
        if let Some(keys) = &self.require_signature {
            keys.check(document);
        }
        let mut range =
            |entry: &str, value, from, to| check_range(document, entry, value, from, to);
        let most = u64::from(u32::MAX);
        range("modules.deadline-milliseconds", self.deadline_milliseconds, 1, most);
        range("modules.memory-bytes", self.memory_bytes as u64, 64 << 10, 1 << 30);
        range("modules.concurrent-decisions", self.concurrent_decisions as u64, 1, 1000);
        let waiting = self.waiting_decisions as u64;
        range("modules.waiting-decisions", waiting, 1, MAX_WAITING as u64);
        let time = milliseconds(handshake).max(1);
        if self.waiting_milliseconds.is_some_and(|whole| !(1..=time).contains(&whole)) {
            let what = format!(
                "must be from 1 to {time}, the time limit of a handshake (limits.handshake-seconds)"
            );
            document.add_fault("modules.waiting-milliseconds", &what);
        }
        for (name, http) in &self.outgoing_http {
            let entry = |of: &str| format!("modules.outgoing-http.{name}.{of}");
            let mut range =
                |of: &str, value, from, to| check_range(document, &entry(of), value, from, to);
            range("request-bytes", http.request_bytes, 0, 64 << 20);
            range("response-bytes", http.response_bytes, 0, 64 << 20);
            range("milliseconds", http.milliseconds, 1, 60_000);
            range("concurrent-requests", http.concurrent_requests as u64, 1, 10_000);
            if http.hosts.is_empty() {
                document.add_fault(&entry("hosts"), "must name at least one host");
            }
        }
        for (name, quota) in &self.key_value {
            let entry = format!("modules.key-value.{name}.quota-bytes");
            check_range(document, &entry, quota.quota_bytes, 64, 256 << 20);
        }
        for (name, values) in &self.config {
            if let Some(twice) = values.values.keys().find(|key| values.secrets.contains_key(*key))
            {
                let entry = format!("modules.config.{name}.secrets.{twice}");
                document.add_fault(&entry, "is also the name of a value; rename one of them");
            }
        }
        for (name, calls) in &self.reuse {
            if *calls == 0 {
                document.add_fault(&format!("modules.reuse.{name}"), "must be at least 1");
            } else if name == "*" {
                document.add_fault("modules.reuse.*", "must name a single module");
            }
        }
        self.check_grants(document);
    }

    /// Checks that capabilities with limits are granted by name, and that each has its limits.
    fn check_grants(&self, document: &mut Document<'_>) {
        let limited = Capability::ALL.into_iter().filter(|capability| capability.wasi().is_some());
        for capability in limited {
            if self.grants.get("*").is_some_and(|every| every.contains(&capability)) {
                let what = format!("{capability} can only be granted to a module by name");
                document.add_fault("modules.grants.*", &what);
            }
            let names: Vec<&String> = match capability {
                Capability::OutgoingHttp => self.outgoing_http.keys().collect(),
                Capability::KeyValue => self.key_value.keys().collect(),
                _ => self.config.keys().collect(),
            };
            let granted = |name: &String| {
                self.grants.get(name).is_some_and(|capabilities| capabilities.contains(&capability))
            };
            for name in names.iter().filter(|name| !granted(name)) {
                // A fault in the grant itself is already reported.
                if document.is_faulty(&format!("modules.grants.{name}")) {
                    continue;
                }
                let what = format!(
                    "{name} is not granted {capability}; grant it under [modules.grants], or remove \
                     this table"
                );
                document.add_fault(&format!("modules.{capability}.{name}"), &what);
            }
            for (name, capabilities) in self.grants.iter().filter(|(name, _)| *name != "*") {
                let is_faulty = document.is_faulty(&format!("modules.{capability}.{name}"));
                if capabilities.contains(&capability) && !names.contains(&name) && !is_faulty {
                    let what = format!(
                        "{capability} requires limits; add \
                         [modules.{capability}.{name}]"
                    );
                    document.add_fault(&format!("modules.grants.{name}"), &what);
                }
            }
        }
    }

    /// Returns the limits of each call. `handshake` is the time limit of a handshake.
    pub fn limits(&self, handshake: Duration) -> Limits {
        let defaults = Limits::default();
        let waiting = self.waiting_milliseconds.map(Duration::from_millis);
        Limits {
            deadline: Duration::from_millis(self.deadline_milliseconds),
            memory: self.memory_bytes,
            concurrent_calls: self.concurrent_decisions,
            pool: self.pool,
            waiting_deadline: waiting.unwrap_or(defaults.waiting_deadline.min(handshake)),
            waiting_calls: self.waiting_decisions,
            ..defaults
        }
    }

    /// Returns the grants for manifests, and the resources of modules with I/O.
    pub fn grants(&self) -> Grants {
        let mut module = self.grants.clone();
        let any = module.remove("*").unwrap_or(Grants::default().any);
        let http = |http: &Http| OutgoingHttp {
            hosts: http.hosts.clone(),
            request_bytes: http.request_bytes,
            response_bytes: http.response_bytes,
            time: Duration::from_millis(http.milliseconds),
            concurrent: http.concurrent_requests,
            ca: http.ca.clone(),
        };
        let config = |config: &Values| ConfigValues {
            values: config.values.clone(),
            secrets: config.secrets.clone(),
        };
        let named = |name: &String| name.clone();
        Grants {
            any,
            module,
            outgoing_http: self.outgoing_http.iter().map(|(n, h)| (named(n), http(h))).collect(),
            key_value: self.key_value.iter().map(|(n, q)| (named(n), q.quota_bytes)).collect(),
            config: self.config.iter().map(|(n, v)| (named(n), config(v))).collect(),
            reuse: self.reuse.clone(),
        }
    }
}
