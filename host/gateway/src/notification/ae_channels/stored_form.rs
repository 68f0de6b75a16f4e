//! The stored form of the notifications that wait for an AE.

use saegis_cse::{Destination, NamedBy, Notification};
use saegis_onem2m::id::CredentialId;

use crate::session::durable_sessions::{StoredNotification, now};

/// Returns a notification as it is stored. One with a content that is not a text is not stored.
pub(super) fn stored(
    (credential, cause): (&CredentialId, &CredentialId),
    ae: &str,
    notification: &Notification,
) -> Option<StoredNotification> {
    let registrant = match &notification.named_by {
        NamedBy::Ae { registrant, .. } => registrant.clone(),
        _ => None,
    };
    Some(StoredNotification {
        credential: credential.to_string(),
        cause: cause.to_string(),
        ae: ae.into(),
        registrant,
        about: notification.about.clone(),
        from: notification.from.clone(),
        request_id: notification.request_id.clone(),
        release: notification.release.clone(),
        category: notification.category,
        content: std::str::from_utf8(&notification.content).ok()?.into(),
        at: now(),
    })
}

/// Returns a stored notification.
pub(super) fn restored(stored: StoredNotification) -> Notification {
    Notification {
        to: Destination::Connection(stored.ae.clone()),
        named_by: NamedBy::Ae { stem: stored.ae, registrant: stored.registrant },
        about: stored.about,
        from: stored.from,
        request_id: stored.request_id,
        release: stored.release,
        category: stored.category,
        receipt: Default::default(),
        content: stored.content.into(),
    }
}
