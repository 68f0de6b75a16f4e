//! WebAssembly policy runtime: sandboxed modules make decisions with policy files.
//!
//! # Model
//!
//! - A [`Generation`] is an immutable set of modules and policy files that were loaded together.
//! - A [`Policy`] has the generation in force. [`Policy::reload`] builds the next one in the background
//!   and puts it in force only if it has no fault.
//! - A handshake or a request takes [`Policy::current`] once, and uses that generation to its end.
//! - [`watch`] reloads the policy after changes on disk.
//!
//! # Decisions
//!
//! A generation answers five questions, one for each [`Hook`] of the contract in `wit/`. Examples are
//! [`Generation::lookup`] for the credential of a psk_identity and [`Generation::check_originator`] for
//! a request. A question passes through the chain of modules that export the hook.
//!
//! Each call of a module runs in a fresh sandbox, unless the module may reuse instances. The sandbox is
//! limited in time and memory ([`Limits`]). It has only the [`Capability`]s that the manifest requests
//! and the [`Grants`] allow. A call that fails in any way is a refusal with a [`ModuleFault`].
//!
//! Decisions can be recorded ([`Recorder`]), replayed ([`Generation::replay`]) and compared with those
//! of shadow modules ([`ShadowSummary`]).
//!
//! # Policy tables
//!
//! A policy table is a CSV file whose column names define its columns. Modules read single rows, and
//! never a key. Faults have a position and a remedy:
//!
//! ```
//! use std::path::Path;
//!
//! use saegis_policy::Table;
//!
//! let file = Path::new("psk-lookup-table.csv");
//! let text = "kpsa_id,kpsa,ae_id\n\
//!             light@in.provider.com,1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d,Clight\n";
//! let table = Table::parse(file, text.as_bytes()).unwrap();
//! let row = table.find("light@in.provider.com").unwrap();
//! assert_eq!(table.text(row, "ae_id"), Some("Clight"));
//! assert_eq!(table.text(row, "kpsa"), None, "keys are not readable as text");
//!
//! let text = "kpsa_id,kpsa,ae_id\nlight@in.provider.com,1a2b3x,Clight\n";
//! let faults = Table::parse(file, text.as_bytes()).err().unwrap();
//! assert_eq!(
//!     faults[0].to_string(),
//!     "psk-lookup-table.csv:2:23: kpsa has an invalid hexadecimal digit",
//! );
//! ```

// From bottom to top: a folder does not import from those below it in this list.

/// Values and policy files, the base of all other folders.
mod data {
    pub mod background_thread;
    pub mod decision;
    pub mod disk;
    pub mod document;
    pub mod excerpt;
    pub mod fault;
    pub mod files;
    pub mod parsed_file;
    pub mod roles;
    pub mod service_subscription;
    pub mod shown;
    pub mod table;
    pub mod text;
    pub mod token;
    pub mod token_issuers;
}

/// Declarations of a module: manifest, hooks, capabilities, signature.
mod module {
    pub mod artifact_source;
    pub mod capability;
    pub mod contract;
    pub mod grants;
    pub mod hook;
    pub mod http_target;
    pub mod inspect;
    pub mod manifest;
    pub mod signature;
}

/// Imports of modules, as implemented by the host.
mod host {
    pub mod bindings;
    pub mod call;
    pub mod capabilities;
    pub mod config;
    pub mod contract_imports;
    pub mod cpu_time;
    pub mod handles;
    pub mod key_value;
    pub mod linker;
    pub mod log_rate_limit;
    pub mod maf_keys;
    pub mod outgoing_http;
    pub mod wasi;
    pub mod wasi_imports;
}

/// Calls of modules, limited in time, memory and number.
mod sandbox {
    pub mod cpu_slot;
    pub mod engine;
    pub mod hooks;
    pub mod installed;
    pub mod instance_cache;
    pub mod invocation;
    pub mod limits;
    pub mod meter;
    pub mod module;
    #[cfg(saegis_bench)]
    pub mod native;
    pub mod observer;
    pub mod reply;
    pub mod slots;
    pub mod slow_compilation;
}

/// Decisions: question, chain of modules, answer, record and shadows.
mod decision {
    pub mod answer;
    pub mod chain;
    pub mod evaluate;
    pub mod originator_allowances;
    pub mod question;
    pub mod record;
    pub mod shadow;
    pub mod shadow_queue;
    pub mod shadows;
    pub mod token_cache;
}

/// Generations: loading, checking and replacing all modules and policy files together.
mod generation {
    pub mod authorization;
    pub mod builder;
    pub mod certificate_file;
    pub mod certificates;
    pub mod comparison;
    pub mod difference;
    pub mod expiry;
    pub mod generation;
    pub mod oci_artifacts;
    pub mod parsed_files;
    pub mod removals;
    pub mod replacement;
    pub mod settings;
}

mod module_harness;
mod policy;
pub mod summary;
mod watcher;

pub use data::decision::{
    Allowance, CertificateQuery, KeyRegistration, Lookup, Mapping, ModuleFault, PskQuery, Refusal,
    Registration, Rules, Verdict,
};
pub use data::disk::DiskState;
pub use data::document::Document;
pub use data::fault::{Fault, Faults};
pub use data::files::{read_file, read_private_key};
pub use data::roles::Roles;
pub use data::service_subscription::{NoNode, Rule, Subscription};
pub use data::shown::{Shown, needs_escape};
pub use data::table::{RowChanges, Table};
pub use data::text::decode;
pub use data::token::{TokenError, check_token};
pub use data::token_issuers::{FILE as TOKEN_ISSUERS, TokenIssuers};
pub use decision::answer::{Answer, Difference};
pub use decision::question::{InvalidQuestion, Question};
pub use decision::record::{Decision, Recorder, ReplayOutcome};
pub use decision::shadow::{ShadowDifference, ShadowSummary};
pub use generation::certificates::Certificates;
pub use generation::difference::GenerationDifference;
pub use generation::expiry::{Expiry, ExpiryKind};
pub use generation::generation::{Generation, ModuleSummary, TableSummary};
pub use generation::settings::{Changes, ConfigurationFile, Settings};
pub use host::key_value::Stores;
pub use host::maf_keys::{MafKey, MafKeyState, MafKeys};
pub use host::outgoing_http::CannedResponse;
pub use module::artifact_source::{ArtifactSource, StoredArtifact, StoredFile};
pub use module::capability::Capability;
pub use module::contract::{CONTRACT, is_our_contract};
pub use module::grants::{ConfigValues, Grants, OutgoingHttp};
pub use module::hook::Hook;
pub use module::http_target::{BadTarget, Target};
pub use module::inspect::{Description, Import, Kind, Needs};
pub use module::signature::{
    BadSignature, KeyId, NoPublicKey, Required, Signed, TrustedKey, look_at_signature,
    signature_file,
};
pub use module_harness::{ModuleHarness, TestContext};
pub use policy::{Guard, Guarding, Policy, Reload, ReloadCause};
pub use sandbox::hooks::EXPIRED;
pub use sandbox::limits::Limits;
pub use sandbox::meter::Used;
pub use sandbox::observer::{Comparison, CompletedCall, CompletedComparison, Observer, Outcome};
pub use watcher::{Watcher, watch};
