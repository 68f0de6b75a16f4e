//! The WebAssembly policy runtime: decisions made by sandboxed modules over policy files.
//!
//! All modules and policy files that were loaded together are one immutable [`Generation`]. A
//! [`Policy`] holds the one in force; [`Policy::reload`] builds the next one aside and puts it in
//! force only if it is whole and good. A handshake or a request takes the generation once and
//! keeps to it.
//!
//! Each decision gets a fresh sandbox that lives for that one call, bounded in time and memory,
//! with no authority but the capabilities that the module's manifest asks for and the settings
//! grant. A decision that goes wrong in any way is a refusal, and says why.

mod artefact;
mod bindings;
mod build;
mod call;
mod capability;
mod certificates;
mod decision;
mod document;
mod fault;
mod files;
mod generation;
mod host;
mod log_budget;
mod maf;
mod manifest;
mod module;
mod observe;
mod sandbox;
mod settings;
mod signature;
mod subscription;
mod table;
mod watch;

pub use artefact::{Artefacts, KeptArtefact, KeptFile};
pub use capability::Capability;
pub use certificates::Certificates;
pub use decision::{
    Allowance, CertificateQuery, KeyRegistration, Lookup, Mapping, ModuleFault, PskQuery, Refusal,
    Registration, Rules, Verdict,
};
pub use document::Document;
pub use fault::{Fault, Faults};
pub use files::{read_file, read_private_key};
pub use generation::{Generation, ModuleSummary, Policy, Reload, TableSummary};
pub use maf::{Known, MafKey, MafKeys};
pub use module::Hook;
pub use observe::{Decided, Observer, Outcome};
pub use settings::{Grants, Limits, Settings};
pub use signature::{
    BadSignature, KeyId, NoPublicKey, Required, Signed, TrustedKey, look_at_signature,
    signature_file,
};
pub use subscription::{NoNode, Rule, Subscription};
pub use table::Table;
pub use watch::{WatchError, Watcher, watch};
