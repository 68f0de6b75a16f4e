//! The embedded CSE: enough of a registrar to be useful without another CSE.
//!
//! It hosts `<CSEBase>`, `<AE>`, `<container>` and `<contentInstance>`, with the virtual resources
//! `la` and `ol` of a container, `<accessControlPolicy>`, `<remoteCSE>`, `<node>`, and on an IN-CSE
//! the service subscriptions, in one durable store. What it answered with CREATED, UPDATED or
//! DELETED is on disk: the answer is given after the commit.
//!
//! A request comes to [`Registrar::handle`] after the security checks, so its From is authentic.
//! It goes through the steps of TS-0004 clause 7.2.2.2 in their order: release version, parameters,
//! target, privilege, representation, operation. Each step is a module; each refuses with a
//! reason that goes to the originator.
//!
//! The calls block on the disk: an asynchronous caller puts them on a thread that may wait.

mod access;
mod access_tables;
mod address;
mod attributes;
mod context;
mod create;
mod delete;
mod discovery;
mod filter;
mod identity;
mod instances;
mod links;
mod options;
mod policy;
mod record;
mod refusal;
mod registrar;
mod registrees;
mod remote_cse;
mod representation;
mod retrieve;
mod service_subscription;
mod settings;
mod store;
mod update;
mod values;
mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use registrar::{OpenError, Registrar, SWEEP_BATCH};
pub use service_subscription::{AppRule, ServiceSubscription};
pub use settings::{Limits, Settings, SettingsError};
pub use store::StoreError;
