//! Rejects a generation that would end more associations than the operator allows.

use std::sync::{Arc, Weak};

use saegis_policy::{Generation, Guard, Guarding};

use crate::state::Gateway;

/// Limit on the associations that one generation may end.
pub struct EndGuard {
    gateway: Weak<Gateway>,
    max: usize,
}

impl EndGuard {
    /// Applies the limit of the configuration to the policy of a gateway.
    pub fn install(gateway: &Arc<Gateway>) {
        if let Some(max) = gateway.config.policy.max_ended_associations {
            gateway.policy.set_guard(Arc::new(Self { gateway: Arc::downgrade(gateway), max }));
        }
    }
}

impl Guard for EndGuard {
    fn check<'a>(&'a self, next: &'a Arc<Generation>) -> Guarding<'a> {
        Box::pin(async move {
            let Some(gateway) = self.gateway.upgrade() else { return Ok(()) };
            let ended = gateway.associations.count_ended(next).await;
            let max = self.max;
            if ended <= max {
                return Ok(());
            }
            let changes = next.difference().map(ToString::to_string).unwrap_or_default();
            Err(format!(
                "the change would end {ended} associations, more than policy.max-ended-associations \
                 ({max}); changed: {changes}; if that is intended, run saegis reload --force"
            ))
        })
    }
}
