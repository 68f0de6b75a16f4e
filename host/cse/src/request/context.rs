//! The context of a request during its execution.

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Map, Value};

use crate::access::decision::Originator;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::record::{Attributes, Record, Seconds};
use crate::request::parameters::{Options, ResultContent};
use crate::resource::address::{self, Resolved};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// A request with its parsed parts.
pub(crate) struct Context<'a> {
    /// Settings of the CSE.
    pub(crate) settings: &'a Settings,
    /// Request.
    pub(crate) request: &'a RequestPrimitive,
    /// Parsed parameters.
    pub(crate) options: Options,
    /// Time at which the whole request is executed.
    pub(crate) now: Seconds,
    /// Budget.
    pub(crate) budget: &'a RequestBudget,
}

impl<'a> Context<'a> {
    /// Returns the originator.
    pub(crate) fn originator<'r>(&self, read: &'r dyn Read) -> Result<Originator<'r>, Refusal>
    where
        'a: 'r,
    {
        Originator::of_request(read, self.settings, self.request, self.now)
    }

    /// Returns the resource of the target.
    pub(crate) fn target(&self, read: &dyn Read) -> Result<Resolved, Refusal> {
        address::resolve(read, self.settings, &self.request.to, self.now)
    }

    /// Returns the representation in the content: the attributes of one resource of type `ty`.
    pub(crate) fn representation(&self, ty: ResourceType) -> Result<Attributes, Refusal> {
        let wrong = || Refusal::Content(ty.root());
        let content = self.request.content.as_ref().ok_or_else(wrong)?;
        let mut members: Map<String, Value> =
            serde_json::from_slice(content.bytes()).map_err(|_| wrong())?;
        match members.remove(ty.root()) {
            Some(Value::Object(attributes)) if members.is_empty() => Ok(attributes),
            _ => Err(wrong()),
        }
    }

    /// Returns the given representation for a response that is compared with it, or else no
    /// attributes.
    pub(crate) fn to_compare_with(&self, representation: &Attributes) -> Attributes {
        if self.options.content == ResultContent::Modified {
            representation.clone()
        } else {
            Attributes::new()
        }
    }

    /// Returns the structured address of a resource, in the form of the target.
    pub(crate) fn structured(&self, read: &dyn Read, of: &Record) -> Result<String, StoreError> {
        let address = address::structured(read, of)?;
        Ok(self.in_scope(&address))
    }

    /// Converts a CSE-relative address to the form of the target.
    pub(crate) fn in_scope(&self, address: &str) -> String {
        address::in_scope_of(&self.request.to, self.settings, address)
    }

    /// Creates the response, with or without content.
    pub(crate) fn answer(&self, rsc: Rsc, content: Option<Value>) -> ResponsePrimitive {
        let mut response = ResponsePrimitive::to(self.request, rsc);
        response.content = content.map(|c| c.to_string().into());
        response
    }
}
