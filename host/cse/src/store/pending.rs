//! The events that wait to be sent to the targets of a subscription or group, and the times at which they and
//! the detections of missing data are due.

use std::ops::RangeInclusive;

use redb::ReadableTable;
use saegis_onem2m::resource::ResourceType;

use crate::record::{Milliseconds, Record, Seconds};
use crate::store::error::StoreError;
use crate::store::write::Writer;

impl Writer<'_> {
    /// Stores an event of a subscription, which counts for the subscription's owner.
    pub(crate) fn put_pending(
        &mut self,
        subscription: &Record,
        number: u64,
        event: &[u8],
    ) -> Result<(), StoreError> {
        self.pending.insert((subscription.ri.as_str(), number), event)?;
        self.count_for(subscription.owner.as_deref(), Some(0), Some(event.len()))
    }

    /// Removes an event of a subscription, and returns it.
    pub(crate) fn take_pending(
        &mut self,
        subscription: &Record,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let event = self.pending.remove((subscription.ri.as_str(), number))?;
        let Some(event) = event.map(|event| event.value().to_vec()) else { return Ok(None) };
        self.count_for(subscription.owner.as_deref(), Some(event.len()), Some(0))?;
        Ok(Some(event))
    }

    /// Changes the time at which the events of a subscription are due.
    pub(crate) fn set_due(
        &mut self,
        ri: &str,
        before: Option<Seconds>,
        due: Option<Seconds>,
    ) -> Result<(), StoreError> {
        if before == due {
            return Ok(());
        }
        if let Some(at) = before {
            self.due.remove((at, ri))?;
        }
        if let Some(at) = due {
            self.due.insert((at, ri), ())?;
        }
        Ok(())
    }

    /// Returns a subscription whose events are due, with the time at which they are.
    pub(crate) fn first_due(&self, now: Seconds) -> Result<Option<(Seconds, String)>, StoreError> {
        match self.due.first()? {
            Some((key, _)) if key.value().0 <= now => {
                let (at, ri) = key.value();
                Ok(Some((at, ri.into())))
            }
            _ => Ok(None),
        }
    }

    /// Returns whether a `<timeSeries>` has an instance that was generated in this period.
    pub(crate) fn has_generated(
        &self,
        series: &str,
        period: RangeInclusive<Milliseconds>,
    ) -> Result<bool, StoreError> {
        let (from, to) = period.into_inner();
        Ok(self.generated.range((series, from)..=(series, to))?.next().is_some())
    }

    /// Adds a `<timeSeries>` to the monitored ones of its owner, or removes it.
    pub(super) fn set_monitored(
        &mut self,
        record: &Record,
        is_monitored: bool,
    ) -> Result<(), StoreError> {
        let (ResourceType::TimeSeries, Some(owner)) = (record.ty, record.owner.as_deref()) else {
            return Ok(());
        };
        let key = (owner, record.ri.as_str());
        if is_monitored {
            self.monitored.insert(key, ())?;
        } else {
            self.monitored.remove(key)?;
        }
        Ok(())
    }

    /// Returns whether an owner has more than `max` monitored `<timeSeries>`.
    pub(crate) fn exceeds_monitored(&self, owner: &str, max: usize) -> Result<bool, StoreError> {
        let mut number = 0;
        for entry in self.monitored.range((owner, "")..)? {
            let (key, _) = entry?;
            if key.value().0 != owner {
                break;
            }
            number += 1;
            if number > max {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the events of a subscription, or the next detection of a `<timeSeries>`, that is
    /// removed.
    pub(super) fn remove_pending(&mut self, record: &Record) -> Result<(), StoreError> {
        self.set_monitored(record, false)?;
        if let Some(series) = &record.series {
            self.set_due(&record.ri, series.due, None)?;
        }
        if let Some(aggregation) = &record.aggregation {
            for waiting in aggregation.windows.iter().flat_map(|window| &window.notifications) {
                self.take_pending(record, waiting.number)?;
            }
            self.set_due(&record.ri, aggregation.due, None)?;
        }
        let Some(waiting) = &record.waiting else { return Ok(()) };
        for number in waiting.first..waiting.next {
            self.take_pending(record, number)?;
        }
        self.set_due(&record.ri, waiting.due, None)
    }
}
