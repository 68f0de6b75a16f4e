//! The messages of a subscription to its targets.

use bytes::Bytes;
use saegis_onem2m::resource::ResourceType;
use serde_json::{Map, Value};

use crate::notification::collection::collect;
use crate::notification::forwarding;
use crate::notification::outbox::{self, Delivery, Message, Outbox, SubscribedTarget};
use crate::notification::point_of_access::{Route, route_to_ae, route_to_others};
use crate::notification::statistics;
use crate::notification::subscription::targets;
use crate::record::names::Reference;
use crate::record::{AggregationWindow, Record, Seconds};
use crate::resource::notification_target::NotificationTarget;
use crate::resource::schema::{FORWARDING, TARGETS};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The context of the messages of a change.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'a> {
    /// Settings of the CSE.
    pub(crate) settings: &'a Settings,
    /// Time of the change.
    pub(crate) now: Seconds,
    /// Outbox of the change.
    pub(crate) outbox: &'a Outbox,
}

impl Sending<'_> {
    /// Returns the notification of a subscription (m2m:notification) with this member.
    pub(crate) fn notification(&self, subscription: &Record, member: &str, value: Value) -> Value {
        let mut notification = Map::new();
        notification.insert(member.into(), value);
        let reference = outbox::reference(self.settings, &subscription.ri);
        notification.insert("sur".into(), reference.into());
        if let Some(creator) = subscription.attributes.get("cr") {
            notification.insert("cr".into(), creator.clone());
        }
        let mut notification = notification.into();
        // A group at this CSE, which may have several, adds that of each notification itself.
        if let Some(target) = forwarding::targets(subscription).next() {
            forwarding::add_target(&mut notification, target);
        }
        notification
    }

    /// Sends a content to all targets of a subscription. Returns those that are reachable.
    pub(crate) fn send_to_all(
        &self,
        read: &dyn Read,
        subscription: &Record,
        content: &Value,
        (category, delivery): (Option<u16>, Delivery),
    ) -> Result<Vec<String>, StoreError> {
        if let Some(group) = forwarding::group_of(self.settings, &subscription.attributes) {
            let (of, content) = ((subscription, group), (content, category));
            let is_taken = collect(read, self.outbox, of, content, self.now)?;
            let address = forwarding::address(self.settings, group);
            return Ok(if is_taken { vec![address] } else { Vec::new() });
        }
        let message = Message { category, ..Bytes::from(content.to_string()).into() };
        let mut reached = Vec::new();
        for (at, name) in targets(&subscription.attributes).enumerate() {
            let target = SubscribedTarget {
                key: (subscription.ri.clone(), name.to_owned()),
                owner: subscription.owner.clone(),
                is_counted: statistics::is_enabled(subscription),
                delivery,
            };
            let message = Message { target: Some(target), ..message.clone() };
            if self.send(read, subscription, (TARGETS, at, name), &message)? {
                reached.push(name.to_owned());
            }
        }
        Ok(reached)
    }

    /// Sends to the address at position `at` in an attribute of a subscription. An AE that is gone
    /// is not notified, and neither is another one that has taken its name. Returns whether it is
    /// reachable.
    pub(crate) fn send(
        &self,
        read: &dyn Read,
        subscription: &Record,
        (attribute, at, to): (&'static str, usize, &str),
        message: &Message,
    ) -> Result<bool, StoreError> {
        let Some(to) = self.route(read, subscription, (attribute, at, to))? else {
            return Ok(false);
        };
        let sur = outbox::reference(self.settings, &subscription.ri);
        Ok(self.outbox.send(self.settings, to, &sur, message))
    }

    /// Returns the route to the address at position `at` in an attribute of a subscription, if the
    /// address is valid.
    pub(crate) fn route(
        &self,
        read: &dyn Read,
        subscription: &Record,
        (attribute, at, to): (&'static str, usize, &str),
    ) -> Result<Option<Route>, StoreError> {
        let named_by = subscription.named_by.as_deref().unwrap_or_default();
        let named = subscription.names.resources(attribute).get(at).and_then(Option::as_ref);
        self.route_to(read, (attribute, to), named, named_by)
    }

    /// Sends the notifications that a group has aggregated to their target.
    pub(crate) fn forward(
        &self,
        read: &dyn Read,
        group: &Record,
        window: &AggregationWindow,
        message: &Message,
    ) -> Result<(), StoreError> {
        let (to, ae) = ((FORWARDING, window.target.as_str()), window.ae.as_ref());
        if let Some(to) = self.route_to(read, to, ae, &window.subscriber)? {
            let about = forwarding::address(self.settings, &group.ri);
            self.outbox.send(self.settings, to, &about, message);
        }
        Ok(())
    }

    fn route_to(
        &self,
        read: &dyn Read,
        (attribute, to): (&'static str, &str),
        named: Option<&Reference>,
        named_by: &str,
    ) -> Result<Option<Route>, StoreError> {
        let Ok(address) = NotificationTarget::parse(attribute, to) else { return Ok(None) };
        let found = named.map(|ae| ae.find(read, self.now)).transpose()?;
        Ok(Some(match found {
            Some(None) => Route::Unreachable("the AE that it named is no longer registered"),
            Some(Some(ae)) if ae.record.ty == ResourceType::Ae => {
                route_to_ae(read, self.now, ae.record)?
            }
            Some(Some(_)) | None => {
                route_to_others(read, self.settings, self.now, &address, named_by)?
            }
        }))
    }
}
