//! The contents of creates and updates at the embedded CSE.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use saegis_cse::{EmbeddedCse, Handled, RequestBudget, Settings};
use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;

/// AE that sends the requests, and the registered CSE that sends announcements.
const AE: &str = "Cfuzz";
const REGISTREE: &str = "/mn";

/// Resource types of a content, selected by the first byte of an input.
const TYPES: [u16; 15] = [1, 3, 4, 9, 23, 28, 29, 30, 58, 10, 13, 18, 10003, 10004, 10028];

/// Number of lookups of a request.
const STEPS: u64 = 20_000;

struct Cse {
    cse: EmbeddedCse,
    _folder: tempfile::TempDir,
}

/// Creates a resource with a content, and updates it with the same content. A resource that was
/// created can be retrieved and deleted, unless its own access rules refuse that.
pub fn resource_content(input: &[u8]) {
    let Some((selected, content)) = input.split_first() else { return };
    let ty = TYPES[usize::from(*selected) % TYPES.len()];
    let Ok(content) = Content::parse(Bytes::copy_from_slice(content)) else { return };
    let cse = cse();
    let parent = match ty {
        4 => "box",
        30 => "series",
        10 => "base",
        13 | 18 => "base/node",
        10_003 | 10_028 => "cbA-mn",
        10_004 => "cbA-mn/announced",
        _ => AE,
    };
    let from = if ty > 10_000 { REGISTREE } else { AE };
    let cse = From { cse, from };
    let created = cse.ask(Operation::Create, parent, Some(ty), Some(content.clone()));
    let Some(created) = created.filter(|created| created.rsc == Rsc::Created) else { return };
    let address = created.content_location.expect("an address");
    let (_, ri) = address.rsplit_once('/').expect("an SP-relative address");
    let found = cse.ask(Operation::Retrieve, ri, None, None).expect("a response");
    // The new resource may have a time that passes at once, or an access rule without RETRIEVE.
    let usual = [Rsc::Ok, Rsc::NotFound, Rsc::OriginatorHasNoPrivilege];
    assert!(usual.contains(&found.rsc), "{}", found.rsc);
    let updated = cse.ask(Operation::Update, ri, None, Some(content));
    assert!(updated.is_none_or(|updated| updated.rsc != Rsc::InternalServerError));
    let deleted = cse.ask(Operation::Delete, ri, None, None).expect("a response");
    let usual = [Rsc::Deleted, Rsc::NotFound, Rsc::OriginatorHasNoPrivilege];
    assert!(usual.contains(&deleted.rsc), "{}", deleted.rsc);
}

/// Returns the CSE of all inputs, with the parents of the resources.
fn cse() -> &'static Cse {
    static CSE: OnceLock<Cse> = OnceLock::new();
    CSE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::new(CseId::parse("cse").expect("a CSE-ID"), "base");
        settings.administrators = vec![AeIdStem::parse(AE).expect("an AE-ID")];
        settings.registrar = Some(CseId::parse("in").expect("a CSE-ID"));
        let cse = EmbeddedCse::open(&folder.path().join("store"), settings).expect("a store");
        let cse = Cse { cse, _folder: folder };
        for (from, to, ty, content) in [
            (AE, "base", 2, r#"{"m2m:ae": {"api": "Nfuzz", "rr": false}}"#),
            (AE, AE, 3, r#"{"m2m:cnt": {"rn": "box"}}"#),
            (AE, AE, 29, r#"{"m2m:ts": {"rn": "series"}}"#),
            (AE, "base", 14, r#"{"m2m:nod": {"rn": "node", "ni": "n"}}"#),
            (REGISTREE, "base", 16, r#"{"m2m:csr": {"cb": "/mn/base", "rr": false}}"#),
            (REGISTREE, "base", 10_005, r#"{"m2m:cbA": {"lnk": "/mn/mn"}}"#),
            (REGISTREE, "cbA-mn", 10_003, r#"{"m2m:cntA": {"rn": "announced", "lnk": "/mn/c"}}"#),
        ] {
            let content = Content::parse(content.into()).expect("a content");
            let made = From { cse: &cse, from }.ask(Operation::Create, to, Some(ty), Some(content));
            assert_eq!(made.map(|made| made.rsc), Some(Rsc::Created));
        }
        cse
    })
}

/// The CSE, as one originator uses it.
struct From<'c> {
    cse: &'c Cse,
    from: &'c str,
}

impl From<'_> {
    /// Returns the response; `None` if the request needs the response of another entity first.
    fn ask(
        &self,
        operation: Operation,
        to: &str,
        ty: Option<u16>,
        content: Option<Content>,
    ) -> Option<ResponsePrimitive> {
        let to = match to {
            "box" | "series" => format!("{AE}/{to}"),
            other => other.to_owned(),
        };
        let to = Target::from_address(&to).expect("an address");
        let own = RequestPrimitive::own(operation, to, self.from.into(), "r".into());
        let request = RequestPrimitive { resource_type: ty, content, ..own };
        let deadline = Instant::now() + Duration::from_secs(60);
        let budget = RequestBudget::new(Arc::default(), deadline, STEPS);
        match self.cse.cse.handle(&request, &budget, SystemTime::now()) {
            Handled::Done(answer) => Some(answer.response),
            _ => None,
        }
    }
}
