//! Changes of the resources of a CSE that does not run, by its operator.
//!
//! The requests are executed like those of an originator, with all checks of their contents, but with
//! all privileges. They send no notifications.

use std::path::Path;
use std::time::SystemTime;

use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::cse::{EmbeddedCse, Handled, OpenError};
use crate::import::Import;
use crate::record::seconds;
use crate::resource::address::{self, Resolved};
use crate::settings::Settings;

/// The reason why a resource is not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The store cannot be opened.
    #[error("a running gateway has its store open: stop it first, or use a copy ({0})")]
    Open(#[from] OpenError),
    /// The store does not exist.
    #[error("there is no store")]
    NoStore,
    /// The address or the representation has a wrong form.
    #[error("{0}")]
    Form(&'static str),
    /// The CSE has refused the change.
    #[error("{rsc}: {why}")]
    Refused {
        /// Response Status Code.
        rsc: u16,
        /// Reason.
        why: String,
    },
}

/// The resources of a CSE that does not run.
pub struct Operator {
    cse: EmbeddedCse,
}

impl Operator {
    /// Opens the store of a CSE with these settings. No gateway can have it open.
    ///
    /// # Errors
    /// Returns an error if the file does not exist or cannot be opened.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OperatorError> {
        if !path.exists() {
            return Err(OperatorError::NoStore);
        }
        let cse = EmbeddedCse::open(path, Settings { is_operated: true, ..settings })?;
        Ok(Self { cse })
    }

    /// Updates a resource. Returns its new representation.
    ///
    /// # Errors
    /// Returns an error if the CSE refuses the update.
    pub fn update(&self, address: &str, representation: &Value) -> Result<Value, OperatorError> {
        self.change((Operation::Update, address, None), representation)
    }

    /// Creates a resource of the type with this number. Returns its representation.
    ///
    /// # Errors
    /// Returns an error if the CSE refuses the creation.
    pub fn create(
        &self,
        parent: &str,
        ty: u16,
        representation: &Value,
    ) -> Result<Value, OperatorError> {
        self.change((Operation::Create, parent, Some(ty)), representation)
    }

    /// Starts an import of exported resources.
    #[must_use]
    pub fn import(&self) -> Import<'_> {
        Import::new(self.cse.state())
    }

    /// Returns the owner of the resource at an address, if there is a resource.
    fn owner(&self, address: &str) -> Result<Option<Option<String>>, OperatorError> {
        let target = target(address)?;
        let snapshot = self.cse.store().snapshot(&RequestBudget::unlimited());
        let snapshot = snapshot.map_err(OpenError::from)?;
        let now = seconds(SystemTime::now());
        let found = address::resolve(snapshot.read(), self.cse.settings(), &target, now);
        Ok(match found {
            Ok(Resolved::Resource(found)) => Some(found.record.owner),
            Ok(Resolved::Instance { container, .. }) => Some(container.record.owner),
            Err(_) => None,
        })
    }

    fn change(
        &self,
        (operation, address, ty): (Operation, &str, Option<u16>),
        representation: &Value,
    ) -> Result<Value, OperatorError> {
        // The names in the resource denote those of its owner.
        let owner = self.owner(address)?.flatten();
        let from = owner.unwrap_or_else(|| self.cse.settings().cse_id.to_string());
        let content = Content::parse(representation.to_string().into());
        let content = content.map_err(|_| OperatorError::Form("the representation is invalid"))?;
        let request = RequestPrimitive {
            resource_type: ty,
            release: self.cse.settings().release_versions.last().cloned(),
            content: Some(content),
            ..RequestPrimitive::own(operation, target(address)?, from, "operator".into())
        };
        if [ResourceType::Ae, ResourceType::RemoteCse, ResourceType::AeAnnc]
            .into_iter()
            .any(|registration| request.creates(registration))
        {
            return Err(OperatorError::Form("an AE or a CSE must register itself"));
        }
        let budget = RequestBudget::unlimited();
        match self.cse.handle(&request, &budget, SystemTime::now()) {
            Handled::Done(answer) => result(&answer.response),
            Handled::Verify(_) => Err(OperatorError::Form(
                "the targets of the subscription must agree to it, for which the gateway must run",
            )),
            _ => Err(OperatorError::Form("the address is not that of one resource")),
        }
    }
}

fn target(address: &str) -> Result<Target, OperatorError> {
    Target::from_address(address).map_err(|_| OperatorError::Form("the address is invalid"))
}

fn result(response: &ResponsePrimitive) -> Result<Value, OperatorError> {
    let content = response.content.as_ref();
    let content = content.and_then(|content| serde_json::from_slice(content).ok());
    let content: Value = content.unwrap_or(json!(null));
    if response.rsc.is_success() {
        return Ok(content);
    }
    let why = content.get("m2m:dbg").and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(OperatorError::Refused { rsc: response.rsc.code(), why })
}

#[cfg(test)]
mod tests;
