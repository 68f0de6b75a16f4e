//! The WebAssembly policy runtime: decisions made by sandboxed modules over policy files.
//!
//! All modules and policy files that were loaded together are one immutable [`Generation`]. A
//! [`Policy`] holds the one in force; [`Policy::reload`] builds the next one aside and puts it in
//! force only if it is whole and good. A handshake or a request takes the generation once and
//! keeps to it.
//!
//! Each decision gets a fresh sandbox that lives for that one call (unless its module is one whose
//! instances may be reused), bounded in time and memory, with no authority but the capabilities that the module's manifest asks for and the settings
//! grant. A decision that goes wrong in any way is a refusal, and says why.

mod answer;
mod artifact;
mod aside;
mod ask;
mod bindings;
mod build;
mod call;
mod capability;
mod certificates;
mod checks;
mod computing;
mod config_values;
mod decision;
mod description;
mod disk;
mod document;
mod expiry;
mod fault;
mod files;
mod frame;
mod generation;
mod host;
mod installed;
mod io;
mod kept;
mod key_value;
mod lineage;
mod log_budget;
mod lone;
mod maf;
mod manifest;
mod meter;
mod module;
mod observe;
mod outgoing_http;
mod policy;
mod question;
mod queue;
mod record;
mod removals;
mod sandbox;
mod settings;
mod shadow;
mod shown;
mod signature;
mod slots;
mod subscription;
mod table;
mod text;
mod watch;

pub use answer::{Answer, Difference};
pub use artifact::{Artifacts, KeptArtifact, KeptFile};
pub use capability::Capability;
pub use certificates::Certificates;
pub use decision::{
    Allowance, CertificateQuery, KeyRegistration, Lookup, Mapping, ModuleFault, PskQuery, Refusal,
    Registration, Rules, Verdict,
};
pub use description::{Description, Import, Kind, Needs};
pub use disk::DiskState;
pub use document::Document;
pub use expiry::{Expiry, ExpiryKind};
pub use fault::{Fault, Faults};
pub use files::{read_file, read_private_key};
pub use generation::{Generation, ModuleSummary, TableSummary};
pub use key_value::Stores;
pub use lone::{LoneModule, Surroundings};
pub use maf::{Known, MafKey, MafKeys};
pub use meter::Used;
pub use module::Hook;
pub use observe::{Compared, Comparison, Decided, Observer, Outcome};
pub use outgoing_http::{BadTarget, Canned, Target};
pub use policy::{Policy, Reload, ReloadCause};
pub use question::{NoQuestion, Question};
pub use record::{Again, CONTRACT, Decision, Recorder, is_our_contract};
pub use settings::{
    Changes, ConfigValues, ConfigurationFile, Grants, Limits, OutgoingHttp, Settings,
};
pub use shadow::ShadowSummary;
pub use shown::{Shown, steers};
pub use signature::{
    BadSignature, KeyId, NoPublicKey, Required, Signed, TrustedKey, look_at_signature,
    signature_file,
};
pub use subscription::{NoNode, Rule, Subscription};
pub use table::Table;
pub use text::of as text_of;
pub use watch::{Watcher, watch};
