//! The notifications that their targets have not received yet.

use redb::ReadableTable;
use saegis_onem2m::resource::ResourceType;

use super::Store;
use crate::record::{Record, StoredNotification};
use crate::store::error::StoreError;
use crate::store::tables::RETRIES;
use crate::store::write::{NO_OWNER, Writer};

/// A stored notification, with the resource-ID of its subscription, its number, and its size.
pub(crate) type StoredRetry = (String, u64, usize, StoredNotification);

fn parse(ri: &str, bytes: &[u8]) -> Result<StoredNotification, StoreError> {
    serde_json::from_slice(bytes).map_err(|_| StoreError::Corrupt(ri.into()))
}

impl Writer<'_> {
    /// Stores a notification of a subscription, which counts for the subscription's owner. Returns
    /// its size, or nothing if the subscription is removed or its owner would exceed `max_bytes`.
    pub(crate) fn put_retry(
        &mut self,
        (ri, number): (&str, u64),
        notification: &StoredNotification,
        max_bytes: u64,
    ) -> Result<Option<usize>, StoreError> {
        let Some(subscription) = self.read().get(ri)? else { return Ok(None) };
        let owner = subscription.owner.as_deref().unwrap_or(NO_OWNER);
        let notification = StoredNotification { owner: Some(owner.into()), ..notification.clone() };
        let bytes = serde_json::to_vec(&notification);
        let bytes = bytes.map_err(|_| StoreError::Corrupt(ri.into()))?;
        if let Some(owner) = &subscription.owner {
            let used = self.usage(owner)?.bytes;
            if used.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX)) > max_bytes {
                return Ok(None);
            }
        }
        self.retries.insert((ri, number), bytes.as_slice())?;
        self.count_for(subscription.owner.as_deref(), Some(0), Some(bytes.len()))?;
        Ok(Some(bytes.len()))
    }

    /// Removes a notification, if it is there.
    pub(crate) fn remove_retry(&mut self, ri: &str, number: u64) -> Result<(), StoreError> {
        let removed = self.retries.remove((ri, number))?.map(|bytes| bytes.value().to_vec());
        let Some(removed) = removed else { return Ok(()) };
        let owner = match parse(ri, &removed).ok().and_then(|notification| notification.owner) {
            Some(owner) => Some(owner),
            None => match self.read().get(ri) {
                // The owner of an unreadable subscription is unknown.
                Err(StoreError::Corrupt(_)) => None,
                found => found?.and_then(|subscription| subscription.owner),
            },
        };
        self.count_for(owner.as_deref(), Some(removed.len()), Some(0))
    }

    /// Removes all notifications of a subscription or a group.
    pub(crate) fn remove_retries(&mut self, subscription: &Record) -> Result<(), StoreError> {
        if !matches!(subscription.ty, ResourceType::Subscription | ResourceType::Group) {
            return Ok(());
        }
        let ri = subscription.ri.as_str();
        let mut size = 0;
        self.retries.retain_in((ri, 0)..=(ri, u64::MAX), |_, bytes| {
            size += bytes.len();
            false
        })?;
        self.count_for(subscription.owner.as_deref(), Some(size), Some(0))
    }
}

impl Store {
    /// Returns a stored notification.
    pub(crate) fn retry(
        &self,
        ri: &str,
        number: u64,
    ) -> Result<Option<StoredNotification>, StoreError> {
        let retries = self.access()?.begin_read()?.open_table(RETRIES)?;
        let stored = retries.get((ri, number))?;
        stored.map(|stored| parse(ri, stored.value())).transpose()
    }

    /// Returns all stored notifications. Unreadable ones are omitted.
    pub(crate) fn all_retries(&self) -> Result<Vec<StoredRetry>, StoreError> {
        let retries = self.access()?.begin_read()?.open_table(RETRIES)?;
        let mut all = Vec::new();
        for entry in retries.iter()? {
            let (key, stored) = entry?;
            let ((ri, number), bytes) = (key.value(), stored.value());
            if let Ok(notification) = parse(ri, bytes) {
                all.push((ri.to_owned(), number, bytes.len(), notification));
            }
        }
        Ok(all)
    }
}
