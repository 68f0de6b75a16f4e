//! The WebAssembly policy runtime: sandboxed modules make decisions over policy files.
//!
//! All modules and policy files that were loaded together are one immutable [`Generation`]. A
//! [`Policy`] holds the one in force. [`Policy::reload`] builds the next one in the background and puts
//! it in force only if it has no fault. A handshake or a request takes the generation once and keeps it.
//!
//! Each decision gets a fresh sandbox for one call, unless the instances of its module may be reused.
//! The sandbox is bounded in time and memory. It has only the capabilities that the manifest of the
//! module asks for and the settings grant. A decision that fails in any way is a refusal with a reason.

// From the bottom to the top: a folder imports nothing from those below it in this list.

/// Values and policy files, which everything above works on.
mod data {
    pub mod background_thread;
    pub mod decision;
    pub mod disk;
    pub mod document;
    pub mod fault;
    pub mod files;
    pub mod service_subscription;
    pub mod shown;
    pub mod table;
    pub mod text;
}

/// The declarations of a module: manifest, hooks, capabilities, signature.
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

/// The imports of modules, as the host implements them.
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

/// Calls of modules, each bounded in time, memory and number.
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
}

/// A decision: its question, the chain of modules, the answer, its record and its shadows.
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
}

/// Generations: loading, checking and replacing all modules and policy files as a whole.
mod generation {
    pub mod builder;
    pub mod certificate_file;
    pub mod certificates;
    pub mod expiry;
    pub mod generation;
    pub mod oci_artifacts;
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
pub use data::service_subscription::{NoNode, Rule, Subscription};
pub use data::shown::{Shown, needs_escape};
pub use data::table::Table;
pub use data::text::decode;
pub use decision::answer::{Answer, Difference};
pub use decision::question::{NoQuestion, Question};
pub use decision::record::{Decision, Recorder, ReplayOutcome};
pub use decision::shadow::ShadowSummary;
pub use generation::certificates::Certificates;
pub use generation::expiry::{Expiry, ExpiryKind};
pub use generation::generation::{Generation, ModuleSummary, TableSummary};
pub use generation::settings::{Changes, ConfigurationFile, Settings};
pub use host::key_value::Stores;
pub use host::maf_keys::{Known, MafKey, MafKeys};
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
pub use policy::{Policy, Reload, ReloadCause};
pub use sandbox::limits::Limits;
pub use sandbox::meter::Used;
pub use sandbox::observer::{Comparison, CompletedCall, CompletedComparison, Observer, Outcome};
pub use watcher::{Watcher, watch};
