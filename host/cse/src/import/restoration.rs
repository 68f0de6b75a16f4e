//! The creation of exported resources in one transaction.

use std::time::SystemTime;

use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::{Value, json};

use super::comparison::{Comparison, Present};
use super::entry::Entry;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::outbox::Outbox;
use crate::operation::error::OperationError;
use crate::operation::execute::remove_in_parts;
use crate::operation::{create, update};
use crate::record::{Attributes, Seconds, seconds};
use crate::request::context::Context;
use crate::request::parameters::Options;
use crate::resource::access_rules::{PRIVILEGES, SELF_PRIVILEGES};
use crate::resource::links;
use crate::resource::schema::MEMBERS;
use crate::state::State;
use crate::store::{StoreError, Writer};

/// The reason why resources are not restored.
pub(super) struct Failure {
    /// Address of the resource that causes it.
    pub(super) address: String,
    /// Reason.
    pub(super) why: String,
}

/// The reason why a transaction ends without a commit.
enum Abort {
    /// A resource is refused.
    Failed(Failure),
    /// The remains of the resource with this resource-ID must be removed first.
    Remains(String),
    Store(StoreError),
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Restores resources together. If they name each other in a circle, policies and groups get their
/// references last.
///
/// # Errors
/// Returns the reason why none of them is restored.
pub(super) fn restore(state: &State, entries: &[&Entry], is_circle: bool) -> Result<(), Failure> {
    let now = seconds(SystemTime::now());
    let budget = RequestBudget::unlimited();
    let all = Restoration { state, budget: &budget, now };
    let of_store = |error: StoreError| Failure {
        address: entries.first().map(|entry| entry.address.clone()).unwrap_or_default(),
        why: error.to_string(),
    };
    loop {
        match state.store.write(&budget, |writer| all.run(writer, entries, is_circle)) {
            Ok(()) => return Ok(()),
            Err(Abort::Failed(failure)) => return Err(failure),
            Err(Abort::Remains(ri)) => {
                remove_in_parts(&state.store, &ri, &budget).map_err(of_store)?;
            }
            Err(Abort::Store(error)) => return Err(of_store(error)),
        }
    }
}

struct Restoration<'a> {
    state: &'a State,
    budget: &'a RequestBudget,
    now: Seconds,
}

impl Restoration<'_> {
    fn run(
        &self,
        writer: &mut Writer<'_>,
        entries: &[&Entry],
        is_circle: bool,
    ) -> Result<(), Abort> {
        let mut order = entries.to_vec();
        // Policies come before the resources that they govern, so that no access rule is deferred.
        order.sort_by_key(|entry| {
            let is_policy = entry.ty == ResourceType::AccessControlPolicy;
            (!is_policy, entry.address.matches('/').count())
        });
        let mut deferred = Vec::new();
        for entry in order {
            let mut compared = self.compare(writer, entry)?;
            let before = compared.missing.len();
            compared.missing.retain(|missing| {
                let attribute = missing.attribute.as_deref().unwrap_or_default();
                !is_circle || !deferrable(entry.ty).contains(&attribute)
            });
            if compared.missing.len() < before {
                defer(entry.ty, &mut compared.attributes, &self.own());
                deferred.push(entry);
            }
            let attributes = complete(entry, compared)?;
            self.create(writer, entry, attributes)?;
        }
        for entry in deferred {
            let mut attributes = complete(entry, self.compare(writer, entry)?)?;
            attributes.retain(|name, _| deferrable(entry.ty).contains(&name.as_str()));
            self.update(writer, entry, attributes)?;
        }
        Ok(())
    }

    fn own(&self) -> String {
        self.state.settings.cse_id.to_string()
    }

    fn compare(&self, writer: &Writer<'_>, entry: &Entry) -> Result<Comparison, Abort> {
        let settings = &self.state.settings;
        let present = Present { read: writer.read(), settings, now: self.now };
        Ok(present.compare(&entry.parent, &entry.holders, &entry.attributes)?)
    }

    fn create(
        &self,
        writer: &mut Writer<'_>,
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), Abort> {
        let request = RequestPrimitive {
            resource_type: Some(entry.ty.number()),
            ..self.request(writer, Operation::Create, &entry.parent, (entry, attributes))?
        };
        self.with_context(entry, &request, |context| {
            create::create(writer, context, &Outbox::default(), None)
        })
    }

    fn update(
        &self,
        writer: &mut Writer<'_>,
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), Abort> {
        let content = (entry, attributes);
        let request = self.request(writer, Operation::Update, &entry.address, content)?;
        self.with_context(entry, &request, |context| {
            update::update(writer, context, &Outbox::default(), None)
        })
    }

    /// Returns a request with the attributes of a resource. Its originator is the subscriber of a
    /// subscription, and else the owner of the parent.
    fn request(
        &self,
        writer: &Writer<'_>,
        operation: Operation,
        to: &str,
        (entry, attributes): (&Entry, Attributes),
    ) -> Result<RequestPrimitive, Abort> {
        let settings = &self.state.settings;
        let parent = links::resolve(writer.read(), settings, &entry.parent, self.now)?;
        let subscriber = entry.holders.subscriber.as_ref().map(|subscriber| subscriber.id.clone());
        let from = subscriber.or_else(|| parent?.owner).unwrap_or_else(|| self.own());
        let content = json!({ &entry.root: attributes });
        let content = Content::parse(content.to_string().into())
            .map_err(|_| failed(entry, "the representation is invalid"))?;
        let to = Target::from_address(to).map_err(|_| failed(entry, "the address is invalid"))?;
        Ok(RequestPrimitive {
            release: settings.release_versions.last().cloned(),
            content: Some(content),
            ..RequestPrimitive::own(operation, to, from, "operator".into())
        })
    }

    fn with_context(
        &self,
        entry: &Entry,
        request: &RequestPrimitive,
        execute: impl FnOnce(&Context<'_>) -> Result<ResponsePrimitive, OperationError>,
    ) -> Result<(), Abort> {
        let settings = &self.state.settings;
        let options = Options::read(request, &settings.definitions)
            .map_err(|error| self.refused(entry, request, &error.into()))?;
        let creator = entry.holders.own.creators.last();
        let (now, budget) = (self.now, self.budget);
        match execute(&Context { settings, request, options, now, group: None, creator, budget }) {
            Ok(_) => Ok(()),
            Err(OperationError::Refused(Refusal::Remains(ri))) => Err(Abort::Remains(ri)),
            Err(OperationError::Unverified(_)) => {
                let why = "the targets of the subscription must agree to it, for which the \
                           gateway must run";
                Err(failed(entry, why))
            }
            Err(error) => Err(self.refused(entry, request, &error.into_refusal())),
        }
    }

    fn refused(&self, entry: &Entry, request: &RequestPrimitive, refusal: &Refusal) -> Abort {
        let response = self.state.refuse(request, refusal);
        let content: Option<Value> =
            response.content.and_then(|content| serde_json::from_slice(&content).ok());
        let why = content.as_ref().and_then(|content| content.get("m2m:dbg"));
        let why = why.and_then(Value::as_str).unwrap_or_default();
        failed(entry, &format!("{}: {why}", response.rsc.code()))
    }
}

fn failed(entry: &Entry, why: &str) -> Abort {
    Abort::Failed(Failure { address: entry.address.clone(), why: why.into() })
}

/// Returns the attributes of a compared resource.
///
/// # Errors
/// Returns an error if a name in it denotes nothing, or has another holder.
fn complete(entry: &Entry, compared: Comparison) -> Result<Attributes, Abort> {
    if let Some(why) = compared.mismatch {
        return Err(failed(entry, &why));
    }
    match compared.missing.first() {
        Some(missing) => Err(failed(entry, &missing.reason())),
        None => Ok(compared.attributes),
    }
}

/// Returns the attributes that a resource can have later than at its creation. Every circle of names
/// has one of them.
fn deferrable(ty: ResourceType) -> &'static [&'static str] {
    match ty {
        ResourceType::AccessControlPolicy => &[PRIVILEGES, SELF_PRIVILEGES],
        ResourceType::Group => &[MEMBERS],
        _ => &[],
    }
}

/// Replaces deferred attributes with values that name no resource. `own` is the CSE itself, which
/// needs no privilege.
fn defer(ty: ResourceType, attributes: &mut Attributes, own: &str) {
    for name in deferrable(ty) {
        let value = match *name {
            SELF_PRIVILEGES => json!({ "acr": [{ "acor": [own], "acop": 63 }] }),
            PRIVILEGES => json!({}),
            _ => json!([]),
        };
        attributes.insert((*name).into(), value);
    }
}
