//! The number of subscriptions that monitor attempts.

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use super::Store;
use crate::record::Record;
use crate::store::error::StoreError;
use crate::store::tables::ABOUT;
use crate::store::write::Writer;

/// Entry with the number.
const MONITORS: &str = "monitors";

/// Returns whether a resource is a subscription that monitors attempts.
pub(super) fn monitors(record: &Record) -> bool {
    let criteria = record.attributes.get("enc").and_then(Value::as_object);
    record.ty == ResourceType::Subscription
        && criteria.is_some_and(|criteria| criteria.contains_key("om"))
}

fn number(stored: Option<&str>) -> u64 {
    stored.and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Writer<'_> {
    /// Returns the number of subscriptions that monitor attempts.
    pub(crate) fn monitors(&self) -> Result<u64, StoreError> {
        Ok(number(self.about(MONITORS)?.as_deref()))
    }

    /// Counts a resource in its state before and after a change.
    pub(super) fn count_monitor(
        &mut self,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> Result<(), StoreError> {
        let was = before.is_some_and(monitors);
        if was == after.is_some_and(monitors) {
            return Ok(());
        }
        let number = self.monitors()?;
        let number = if was { number.saturating_sub(1) } else { number.saturating_add(1) };
        self.set_about(MONITORS, &number.to_string())
    }

    /// Counts the subscriptions of a store from a version without this number.
    pub(crate) fn count_monitors(&mut self) -> Result<(), StoreError> {
        if self.about(MONITORS)?.is_some() {
            return Ok(());
        }
        let (mut number, mut after) = (0u64, None);
        while let Some(record) = self.next_by_id(after.as_deref())? {
            number += u64::from(monitors(&record));
            after = Some(record.ri);
        }
        self.set_about(MONITORS, &number.to_string())
    }
}

impl Store {
    /// Returns the number of subscriptions that monitor attempts.
    pub(crate) fn monitors(&self) -> Result<u64, StoreError> {
        let about = self.access()?.begin_read()?.open_table(ABOUT)?;
        let stored = about.get(MONITORS)?;
        Ok(number(stored.as_ref().map(|stored| stored.value())))
    }
}
