//! The context of a request during its execution.

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Map, Value};

use crate::access::decision::Originator;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::record::names::Creator;
use crate::record::{Attributes, Record, Seconds, timestamp};
use crate::request::parameters::{Options, ResultContent};
use crate::resource::address::{self, Resolved, ResolvedResource};
use crate::resource::{content_instance, representation};
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
    /// Resource-ID of the group through which the request creates subscriptions whose notifications
    /// the group forwards.
    pub(crate) group: Option<&'a str>,
    /// Creator of a resource that is restored; that of another one is the originator.
    pub(crate) creator: Option<&'a Creator>,
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

    /// Returns the representation in the content: the attributes of one resource with this root
    /// name.
    pub(crate) fn representation(&self, root: &str) -> Result<Attributes, Refusal> {
        match self.only_resource() {
            Some((given, attributes)) if given == root => Ok(attributes),
            _ => Err(Refusal::Content(root.to_owned().into())),
        }
    }

    /// Returns the names of the attributes in the content.
    pub(crate) fn given_names(&self) -> Vec<String> {
        let given = self.only_resource();
        given
            .map(|(_, attributes)| attributes.into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default()
    }

    /// Returns the root name and the attributes of a resource whose root name depends on its
    /// definition.
    pub(crate) fn specialization(&self) -> Result<(String, Attributes), Refusal> {
        self.only_resource().ok_or(Refusal::Content("by its definition".into()))
    }

    /// Returns the resource in the content, if it is the only one.
    fn only_resource(&self) -> Option<(String, Attributes)> {
        let members: Map<String, Value> =
            serde_json::from_slice(self.request.content.as_ref()?.bytes()).ok()?;
        let mut members = members.into_iter();
        match (members.next(), members.next()) {
            (Some((root, Value::Object(attributes))), None) => Some((root, attributes)),
            _ => None,
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

    /// Returns the attributes of a resource that is retrieved, without its expired instances. Those
    /// of the `<CSEBase>` include the current time.
    pub(crate) fn retrieved(
        &self,
        read: &dyn Read,
        found: &mut ResolvedResource,
    ) -> Result<Attributes, StoreError> {
        content_instance::without_expired(read, &mut found.record, self.now)?;
        let mut all = representation::of_resource(self.settings, &found.record, found.expires);
        if found.record.ty == ResourceType::CseBase {
            all.insert("ctm".into(), timestamp(self.now).into());
        }
        Ok(all)
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
