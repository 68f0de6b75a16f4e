//! The audit trail: who got in, who was refused, and which policy was in force.
//!
//! A function an event, so that names and fields are the same wherever it happens: they are
//! documented in docs/operations.md, and programs rely on them. There is never a key, an
//! authentication tag or the content of a request among them.

use std::borrow::Cow;
use std::net::SocketAddr;

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{Fault, Generation, ModuleFault};

use crate::summary;

/// The target of these events, by which the trail is told from the rest of the log.
pub const TARGET: &str = "saegis::audit";

/// Longest text from outside that is repeated, and longest reason, in characters.
const MAX_TEXT: usize = 256;
const MAX_REASON: usize = 1000;

/// The gateway serves.
pub fn ready(address: SocketAddr, generation: &Generation) {
    tracing::info!(target: TARGET, event = "gateway.ready", %address,
        generation = generation.number, version = env!("CARGO_PKG_VERSION"), "ready");
}

/// The gateway takes no new connections and lets the requests at hand finish.
pub fn stopping(associations: usize, seconds: u64) {
    tracing::info!(target: TARGET, event = "gateway.stopping", associations,
        "stopping; associations have {seconds} s to finish their requests");
}

/// The gateway ends.
pub fn stopped(associations: usize, how: &str) {
    if associations == 0 {
        tracing::info!(target: TARGET, event = "gateway.stopped", associations, "{how}");
    } else {
        tracing::warn!(target: TARGET, event = "gateway.stopped", associations, "{how}");
    }
}

/// A handshake is finished.
pub fn established(association: &SecurityAssociation) {
    tracing::info!(
        target: TARGET,
        event = "association.established",
        association = association.id,
        peer = %association.peer,
        saef = %association.saef,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        protocol = association.protocol,
        suite = association.suite,
        "association established with {}", association.entity()
    );
}

/// An association has ended.
pub fn ended(association: &SecurityAssociation, why: &str) {
    tracing::info!(
        target: TARGET,
        event = "association.ended",
        association = association.id,
        peer = %association.peer,
        credential_id = %association.credential_id,
        why,
        "association ended: {why}"
    );
}

/// An association is to end, for policy does not vouch for it any more.
pub fn revoked(association: &SecurityAssociation, generation: &Generation, why: &str) {
    let why = cut_to(why, MAX_REASON);
    tracing::warn!(
        target: TARGET,
        event = "association.revoked",
        association = association.id,
        credential_id = %association.credential_id,
        generation = generation.number,
        why = &*why,
        "the association ends, for its credential no longer holds: {why}"
    );
}

/// An association is to end, for its credential has another one and no place for more.
pub fn superseded(association: &SecurityAssociation, most: usize) {
    tracing::warn!(
        target: TARGET,
        event = "association.superseded",
        association = association.id,
        credential_id = %association.credential_id,
        "the association ends, for its credential has more than {most} of them \
         (limits.associations-per-credential)"
    );
}

/// The gateway's owner has asked for the end of an association.
pub fn end_asked(association: &SecurityAssociation) {
    tracing::info!(
        target: TARGET,
        event = "association.end-asked",
        association = association.id,
        credential_id = %association.credential_id,
        "the association ends, for the gateway's owner asked for it"
    );
}

/// An association has learnt its AE-ID.
pub fn learnt(association: &SecurityAssociation) {
    tracing::info!(
        target: TARGET,
        event = "association.learnt",
        association = association.id,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        "the association stands for {} from now on", association.entity()
    );
}

/// A credential has got an AE-ID, for good.
pub fn bound(credential: &CredentialId, stem: &AeIdStem) {
    tracing::info!(
        target: TARGET,
        event = "binding.made",
        credential_id = %credential,
        ae_id = %stem,
        "the credential {credential} has the AE-ID {stem} from now on"
    );
}

/// A credential has lost the AE-ID that it had got.
pub fn binding_freed(credential: &CredentialId, stem: &AeIdStem, why: &str) {
    tracing::info!(
        target: TARGET,
        event = "binding.freed",
        credential_id = %credential,
        ae_id = %stem,
        why,
        "the credential {credential} has the AE-ID {stem} no more: {why}"
    );
}

/// An AE was registered, and its association has not learnt an AE-ID.
pub fn nothing_learnt(association: &SecurityAssociation, why: &str) {
    let why = cut_to(why, MAX_REASON);
    tracing::warn!(
        target: TARGET,
        event = "association.nothing-learnt",
        association = association.id,
        credential_id = %association.credential_id,
        why = &*why,
        "no AE-ID was learnt: {why}"
    );
}

/// A connection came to no association.
pub fn handshake_refused(peer: SocketAddr, cause: &str, why: &str) {
    let why = cut_to(why, MAX_REASON);
    tracing::warn!(target: TARGET, event = "handshake.refused", %peer, cause, why = &*why,
        "handshake refused: {why}");
}

/// A request was refused before it reached the CSE.
pub fn request_refused(
    association: &SecurityAssociation,
    request_id: &str,
    from: Option<&str>,
    rsc: Rsc,
    why: &str,
) {
    let why = cut_to(why, MAX_REASON);
    tracing::warn!(
        target: TARGET,
        event = "request.refused",
        association = association.id,
        credential_id = %association.credential_id,
        request_id = &*cut(request_id),
        from = &*cut(from.unwrap_or_default()),
        rsc = rsc.code(),
        why = &*why,
        "refused: {why}"
    );
}

/// A module failed at a check, and so a request was refused.
pub fn module_failed(module: &str, fault: &ModuleFault) {
    tracing::error!(target: TARGET, event = "module.failed", module, cause = fault.cause(),
        "module {module} {fault}");
}

/// The next generation is in force.
pub fn in_force(generation: &Generation) {
    tracing::info!(
        target: TARGET,
        event = "generation.in-force",
        generation = generation.number,
        "generation {} is in force: {}", generation.number, summary::contents(generation)
    );
}

/// The next generation was not good, for one of these reasons.
pub fn generation_refused(in_force: u64, fault: &Fault) {
    tracing::error!(
        target: TARGET,
        event = "generation.refused",
        in_force,
        file = %fault.file.display(),
        line = fault.line,
        column = fault.column,
        why = fault.what,
        "{fault}; generation {in_force} stays in force"
    );
}

fn cut(text: &str) -> Cow<'_, str> {
    cut_to(text, MAX_TEXT)
}

/// Cut, and without what could make a line of its own or move a terminal's cursor.
fn cut_to(text: &str, most: usize) -> Cow<'_, str> {
    let text = match text.char_indices().nth(most) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    };
    if text.contains(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_cut() {
        assert_eq!(cut("Clight-AE1"), "Clight-AE1");
        assert_eq!(cut("a\nINFO b\u{1b}[0m"), "a\u{fffd}INFO b\u{fffd}[0m");
        let long = "é".repeat(MAX_TEXT + 1);
        assert_eq!(cut(&long).chars().count(), MAX_TEXT);
    }
}
