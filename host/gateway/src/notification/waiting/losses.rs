//! Notifications that no longer wait although no AE got them, summed up for the log.

use std::collections::BTreeMap;

/// Maximum number of sums between two calls of [`Losses::take`]. Further AEs have one together.
const MAX_SUMS: usize = 16;

/// The AE of further sums.
const OTHERS: &str = "further AEs";

/// Why a notification no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::notification) enum Loss {
    /// It exceeds the limit of one AE.
    TooLarge,
    /// It would displace those of credentials that have caused less.
    NoRoom,
    /// Another one needed its room.
    Displaced,
    /// Its retention has ended.
    Expired,
    /// Its AE is no longer registered.
    Deregistered,
    /// Policy no longer has the credential of its AE.
    Revoked,
}

impl Loss {
    /// Returns the reason for the log.
    pub(in crate::notification) fn why(self) -> &'static str {
        match self {
            Self::TooLarge => "too large to wait for the connection of the AE",
            Self::NoRoom => "no room beside those of credentials that have caused less",
            Self::Displaced => "displaced by others that wait",
            Self::Expired => "the AE did not take them in time",
            Self::Revoked => "the credential of the AE was revoked",
            Self::Deregistered => "the AE that they are for is no longer registered",
        }
    }
}

/// Number of lost notifications by AE-ID-Stem and reason.
pub(in crate::notification) type LossSums = BTreeMap<(String, Loss), usize>;

/// Losses since the last call of [`Losses::take`].
#[derive(Default)]
pub(super) struct Losses(LossSums);

impl Losses {
    pub(super) fn count(&mut self, ae: &str, loss: Loss) {
        let key = (ae.to_owned(), loss);
        let is_known = self.0.contains_key(&key) || self.0.len() < MAX_SUMS;
        let key = if is_known { key } else { (OTHERS.into(), loss) };
        *self.0.entry(key).or_default() += 1;
    }

    pub(super) fn take(&mut self) -> LossSums {
        std::mem::take(&mut self.0)
    }
}
