//! Audit trail: established and refused associations, refused requests, and the policy in force.
//!
//! A function an event, so that names and fields are the same wherever it happens: they are
//! documented in docs/src/reference/events.md, and programs rely on them. There is never a key, an
//! authentication tag or the content of a request among them.
//!
//! Events that a peer can cause are written one by one up to a rate, and summed up beyond it. Two
//! kinds are always written because their work is bounded: bindings of AE-IDs, and revocations.

pub mod authorization;
pub mod chain;
pub mod enrollment;
mod repeats;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::LazyLock;

use saegis_handshake::Refusal;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::attribute::attribute;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use saegis_policy::{Fault, Generation, ModuleFault, Shown};

use crate::listener::peer_limits::widest_network;
use crate::telemetry::recent_refusals;
use repeats::{By, Kind, Repeats, Source, Subject, Sum};

/// Target of security events, which selects them for the trail.
pub const TARGET: &str = "saegis::audit";

/// Target of refused requests. They have a separate file, so that they do not displace other
/// events.
pub const REFUSALS: &str = "saegis::audit::refusals";

static REPEATS: LazyLock<Repeats> = LazyLock::new(Repeats::default);

fn is_single(event: &'static str, by: By, cause: impl Into<Box<str>>, subject: Subject) -> bool {
    let source = Source { event, by, cause: cause.into() };
    REPEATS.is_single(Kind { source, subject })
}

/// Returns whether an event of an association is written by itself. A new AE-ID or a new network of
/// the peer is always written.
fn is_single_of(event: &'static str, association: &SecurityAssociation) -> bool {
    let subject = Subject {
        entity: Some(cut(&association.entity().to_string()).into()),
        peer: Some(widest_network(association.peer.ip()).into()),
        from: None,
    };
    is_single(event, By::Credential(association.credential_id.clone()), "", subject)
}

/// Writes the due sums of events that were not written by themselves, or all of them.
pub fn write_sums(all: bool) {
    REPEATS.sums(all).iter().for_each(sum);
}

fn sum(Sum { kind: Kind { source, subject }, count, since, until }: &Sum) {
    let Subject { entity, peer, from } = subject;
    let (mut peer, mut module, mut credential_id) = (peer.as_deref(), None, None);
    let (entity, from) = (entity.as_deref(), from.as_deref());
    let credential = match &source.by {
        By::Credential(id) => id.to_string(),
        _ => String::new(),
    };
    let by = match &source.by {
        By::Credential(_) => *credential_id.insert(credential.as_str()),
        By::Peer(network) => peer.insert(network),
        By::Module(name) => *module.insert(&**name),
        By::Others => "others",
    };
    let (of, cause) = (source.event, Some(&*source.cause).filter(|cause| !cause.is_empty()));
    let (since, until) = (timestamp::format(*since), timestamp::format(*until));
    macro_rules! write {
        ($target:expr) => {
            tracing::warn!(target: $target, event = "audit.repeated", of, credential_id, peer, module,
                entity, from, cause, count, since, until,
                "{count} more {of} of {by} from {since} to {until}")
        };
    }
    match of {
        "request.refused" | "module.failed" => write!(REFUSALS),
        _ => write!(TARGET),
    }
}

/// Records that lines of the trails were lost.
pub fn lines_lost(lines: u64) {
    tracing::error!(target: TARGET, event = "audit.lines-lost", lines,
        "lost {lines} lines of the audit trail");
}

/// Maximum length of a text from outside and of a reason, in characters.
const MAX_TEXT: usize = 256;
const MAX_REASON: usize = 1000;

/// Records that the gateway is ready.
pub fn ready(address: SocketAddr, generation: &Generation) {
    tracing::info!(target: TARGET, event = "gateway.ready", %address,
        generation = generation.number, version = env!("CARGO_PKG_VERSION"), "ready");
}

/// Records that the gateway accepts no new connections and finishes current requests.
pub fn stopping(associations: usize, seconds: u64) {
    tracing::info!(target: TARGET, event = "gateway.stopping", associations,
        "stopping; associations have {seconds} s to finish their requests");
}

/// Records that the gateway ends.
pub fn stopped(associations: usize, how: &str) {
    write_sums(true);
    if associations == 0 {
        tracing::info!(target: TARGET, event = "gateway.stopped", associations, "{how}");
    } else {
        tracing::warn!(target: TARGET, event = "gateway.stopped", associations, "{how}");
    }
}

/// Records that a handshake is complete.
pub fn established(association: &SecurityAssociation) {
    if !is_single_of("association.established", association) {
        return;
    }
    tracing::info!(
        target: TARGET,
        event = "association.established",
        association = association.id,
        peer = %association.peer,
        proxy = association.proxy.map(tracing::field::display),
        saef = %association.saef,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        protocol = association.protocol,
        suite = association.suite,
        resumed = association.resumed.then_some(true),
        "association established with {}", association.entity()
    );
}

/// Records that an association has ended.
pub fn ended(association: &SecurityAssociation, why: &str) {
    if !is_single_of("association.ended", association) {
        return;
    }
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

/// Records that an association ends because its credential is no longer valid.
pub fn revoked(association: &SecurityAssociation, generation: u64, why: &str) {
    let why = cut_to(why, MAX_REASON);
    recent_refusals::of_association("association.revoked", association, &why);
    tracing::warn!(
        target: TARGET,
        event = "association.revoked",
        association = association.id,
        credential_id = %association.credential_id,
        generation,
        why = &*why,
        "association revoked: {why}"
    );
}

/// Records that an association ends because its credential has too many.
pub fn superseded(association: &SecurityAssociation, most: usize) {
    let why = "its credential has too many associations";
    recent_refusals::of_association("association.superseded", association, why);
    if !is_single_of("association.superseded", association) {
        return;
    }
    tracing::warn!(
        target: TARGET,
        event = "association.superseded",
        association = association.id,
        credential_id = %association.credential_id,
        "association superseded: its credential has more than {most} associations \
         (limits.associations-per-credential)"
    );
}

/// Records that the owner of the gateway requested the end of an association.
pub fn end_asked(association: &SecurityAssociation) {
    tracing::info!(
        target: TARGET,
        event = "association.close-requested",
        association = association.id,
        credential_id = %association.credential_id,
        "association closed: requested by the owner of the gateway"
    );
}

/// Records that an AE-ID was assigned to an association.
pub fn learnt(association: &SecurityAssociation) {
    if !is_single_of("association.ae-id-assigned", association) {
        return;
    }
    tracing::info!(
        target: TARGET,
        event = "association.ae-id-assigned",
        association = association.id,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        "AE-ID assigned: the association now stands for {}", association.entity()
    );
}

/// Records that an AE-ID was permanently assigned to a credential.
pub fn bound(credential: &CredentialId, stem: &AeIdStem) {
    tracing::info!(
        target: TARGET,
        event = "ae-id.bound",
        credential_id = %credential,
        ae_id = %stem,
        "AE-ID bound: {stem} to the credential {credential}"
    );
}

/// Records that the AE-ID of a credential was released.
pub fn binding_freed(credential: &CredentialId, stem: &AeIdStem, why: &str) {
    tracing::info!(
        target: TARGET,
        event = "ae-id.released",
        credential_id = %credential,
        ae_id = %stem,
        why,
        "AE-ID released: {stem} of the credential {credential}: {why}"
    );
}

/// Records that the owner of the gateway deleted an AE.
pub fn ae_removed(stem: &AeIdStem) {
    tracing::info!(
        target: TARGET,
        event = "ae.deleted",
        ae_id = %stem,
        "AE deleted: {stem}, requested by the owner of the gateway"
    );
}

/// Records that an AE was registered and no AE-ID was assigned to its association.
pub fn nothing_learnt(association: &SecurityAssociation, why: &str) {
    recent_refusals::of_association("association.ae-id-not-assigned", association, why);
    if !is_single_of("association.ae-id-not-assigned", association) {
        return;
    }
    let why = cut_to(why, MAX_REASON);
    tracing::warn!(
        target: TARGET,
        event = "association.ae-id-not-assigned",
        association = association.id,
        credential_id = %association.credential_id,
        why = &*why,
        "no AE-ID assigned: {why}"
    );
}

/// Records that a connection did not become an association.
pub fn handshake_refused(peer: SocketAddr, cause: &str, why: &str) {
    handshake_of_refused(peer, cause, why, None);
}

/// Records that a connection did not become an association, with the credential that the peer
/// presented.
pub fn handshake_of_refused(peer: SocketAddr, cause: &str, why: &str, refusal: Option<&Refusal>) {
    recent_refusals::of_handshake(peer, cause, why, refusal);
    if !is_single(
        "handshake.refused",
        By::Peer(widest_network(peer.ip()).into()),
        cause,
        Subject::default(),
    ) {
        return;
    }
    let why = cut_to(why, MAX_REASON);
    let identity = refusal.and_then(Refusal::identity).map(cut);
    let certificate = refusal.and_then(Refusal::certificate);
    let (subject, serial) =
        (certificate.map(|c| cut(&c.subject)), certificate.map(|c| cut(&c.serial)));
    tracing::warn!(
        target: TARGET,
        event = "handshake.refused",
        %peer,
        cause,
        identity = identity.as_deref(),
        subject = subject.as_deref(),
        serial = serial.as_deref(),
        why = &*why,
        "handshake refused: {why}"
    );
}

/// Records that a request was refused before it reached the CSE.
pub fn request_refused(
    association: &SecurityAssociation,
    request: &RequestPrimitive,
    rsc: Rsc,
    why: &str,
) {
    let app_id = request.content.as_ref().filter(|_| request.creates(ResourceType::Ae));
    refused(
        association,
        &RefusedRequest {
            request_id: &request.request_id,
            from: request.from.as_deref(),
            operation: Some(request.operation.name()),
            to: Some(request.to.to_string()),
            app_id: app_id.and_then(|content| attribute(content.bytes(), "api")),
        },
        rsc,
        why,
    );
}

/// Records that a request was refused that could not be decoded.
pub fn undecoded_refused(
    association: &SecurityAssociation,
    request_id: &str,
    from: Option<&str>,
    rsc: Rsc,
    why: &str,
) {
    let request = RefusedRequest { request_id, from, operation: None, to: None, app_id: None };
    refused(association, &request, rsc, why);
}

/// A refused request, as far as it could be decoded.
struct RefusedRequest<'a> {
    request_id: &'a str,
    from: Option<&'a str>,
    operation: Option<&'static str>,
    to: Option<String>,
    app_id: Option<String>,
}

fn refused(association: &SecurityAssociation, request: &RefusedRequest<'_>, rsc: Rsc, why: &str) {
    let RefusedRequest { request_id, from, operation, to, app_id } = request;
    let shown = [*operation, to.as_deref(), Some("from"), *from, app_id.as_deref()];
    recent_refusals::of_request(association, &shown, rsc, why);
    let (to, app_id) = (to.as_deref().map(cut), app_id.as_deref().map(cut));
    let credential = By::Credential(association.credential_id.clone());
    let from = &*cut(from.unwrap_or_default());
    let subject = Subject { from: Some(from.into()), ..Subject::default() };
    if !is_single("request.refused", credential, rsc.code().to_string(), subject) {
        return;
    }
    let why = cut_to(why, MAX_REASON);
    tracing::warn!(
        target: REFUSALS,
        event = "request.refused",
        association = association.id,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        request_id = &*cut(request_id),
        operation,
        to = to.as_deref(),
        from,
        app_id = app_id.as_deref(),
        rsc = rsc.code(),
        why = &*why,
        "refused: {why}"
    );
}

/// Records that a module failed during a check, so that a request was refused.
pub fn module_failed(module: &str, fault: &ModuleFault) {
    if !is_single("module.failed", By::Module(module.into()), fault.cause(), Subject::default()) {
        return;
    }
    tracing::error!(target: REFUSALS, event = "module.failed", module, cause = fault.cause(),
        "module {module} {fault}");
}

/// Records that a generation is in force.
pub fn in_force(generation: &Generation) {
    let changes = generation.difference().map(ToString::to_string).unwrap_or_default();
    let changes = cut_to(&changes, MAX_REASON);
    tracing::info!(
        target: TARGET,
        event = "generation.in-force",
        generation = generation.number,
        changes = &*changes,
        "generation {} is in force: {}; changed: {changes}",
        generation.number,
        saegis_policy::summary::contents(generation)
    );
}

/// Records that a generation has ended associations, and the reasons.
pub fn generation_revoked(generation: &Generation, reasons: &BTreeMap<String, usize>) {
    let associations: usize = reasons.values().sum();
    if associations == 0 {
        return;
    }
    let why: Vec<_> = reasons.iter().map(|(why, count)| format!("{count}: {why}")).collect();
    let why = why.join("; ");
    let why = cut_to(&why, MAX_REASON);
    tracing::warn!(
        target: TARGET,
        event = "generation.ended-associations",
        generation = generation.number,
        associations,
        why = &*why,
        "generation {} ended {associations} associations: {why}", generation.number
    );
}

/// Records that the files on disk are again those of the generation in force, after others were
/// rejected.
pub fn recovered(generation: &Generation) {
    tracing::info!(
        target: TARGET,
        event = "generation.recovered",
        generation = generation.number,
        "the files on disk are valid again: generation {} is in force", generation.number
    );
}

/// Records a fault because of which a new generation was rejected.
pub fn generation_refused(in_force: u64, fault: &Fault) {
    tracing::error!(
        target: TARGET,
        event = "generation.refused",
        in_force,
        file = %Shown(&fault.file),
        line = fault.line,
        column = fault.column,
        why = fault.what,
        "{fault}; generation {in_force} stays in force"
    );
}

/// Records that the generation in force has the content of a missing file.
pub fn file_missed(in_force: u64, fault: &Fault) {
    tracing::error!(
        target: TARGET,
        event = "policy.file-missing",
        in_force,
        file = %Shown(&fault.file),
        why = fault.what,
        "{fault}; generation {in_force} keeps its content"
    );
}

/// Truncates a text from outside, and replaces control characters.
pub fn cut(text: &str) -> Cow<'_, str> {
    cut_to(text, MAX_TEXT)
}

/// Truncates a text, and replaces characters that could start a line or move the cursor of a
/// terminal.
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
    fn external_text_is_truncated_and_escaped() {
        assert_eq!(cut("Clight-AE1"), "Clight-AE1");
        assert_eq!(cut("a\nINFO b\u{1b}[0m"), "a\u{fffd}INFO b\u{fffd}[0m");
        let long = "é".repeat(MAX_TEXT + 1);
        assert_eq!(cut(&long).chars().count(), MAX_TEXT);
    }
}
