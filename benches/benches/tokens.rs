//! Cost of a token: a retrieve at the embedded CSE that a policy permits, one that a token from the
//! cache permits, and the verification of a token.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at what is wrong"
)]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use saegis_cse::{Authority, EmbeddedCse, Handled, RequestBudget};
use saegis_jose::SigningKey;
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId};
use saegis_onem2m::primitive::{AssociationCredential, Operation, RequestPrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::saef::Saef;
use saegis_onem2m::target::Target;
use saegis_policy::{TokenIssuers, check_token};
use saegis_test_ca::{Key, RawKey};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const OWNER: &str = "Clight-AE1";
const GUEST: &str = "Clight-AE2";
const PROVIDER: &str = "in.provider.com";

fn request(operation: Operation, from: &str, path: &str) -> RequestPrimitive {
    let to = Target::from_path(path).expect("a path");
    let mut request = RequestPrimitive::own(operation, to, from.into(), "r1".into());
    let id = CredentialId::parse(&format!("12-{from}@{PROVIDER}")).expect("an ID");
    request.credential = Some(AssociationCredential { id, learns_ae_id: false });
    request.source_address = Some(Ipv4Addr::LOCALHOST.into());
    request
}

/// Handles a request, and returns its Response Status Code.
fn handle(cse: &EmbeddedCse, request: &RequestPrimitive) -> u16 {
    let deadline = Instant::now() + Duration::from_secs(60);
    let budget = RequestBudget::new(Arc::new(Authority::default()), deadline, 50_000);
    match cse.handle(request, &budget, SystemTime::now()) {
        Handled::Done(answer) => answer.response.rsc.code(),
        other => panic!("it is not answered: {other:?}"),
    }
}

/// Returns a CSE with two containers. A policy lets the guest retrieve the first one.
fn cse(folder: &Path) -> EmbeddedCse {
    let id = CseId::parse("mn-cse").expect("a CSE-ID");
    let mut settings = saegis_cse::Settings::new(id, "cse");
    settings.service_provider = Some(PROVIDER.into());
    let cse = EmbeddedCse::open(&folder.join("cse.redb"), settings).expect("a store");
    let create = |from: &str, parent: &str, kind: ResourceType, content: Value| {
        let request = request(Operation::Create, from, parent);
        let request = request.with_content(kind, &content).expect("a representation");
        assert_eq!(handle(&cse, &request), 2001, "{content}");
    };
    for (ae, name) in [(OWNER, "light1"), (GUEST, "light2")] {
        let content = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": false, "srv": ["3"]}});
        create(ae, "/cse", ResourceType::Ae, content);
    }
    let rules = json!({"acr": [{"acor": [OWNER], "acop": 63}, {"acor": [GUEST], "acop": 2}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": rules}});
    create(OWNER, "/cse/light1", ResourceType::AccessControlPolicy, acp);
    let open = json!({"m2m:cnt": {"rn": "open", "acpi": ["cse/light1/acp"]}});
    create(OWNER, "/cse/light1", ResourceType::Container, open);
    create(OWNER, "/cse/light1", ResourceType::Container, json!({"m2m:cnt": {"rn": "lamp"}}));
    cse
}

/// Returns a token of the guest for the second container.
fn token(key: &SigningKey) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    let cse = format!("//{PROVIDER}/mn-cse");
    let rules = json!({"acr": [{"acor": [format!("{cse}/{GUEST}")], "acop": 2}]});
    let claims = json!({
        "tkvr": "1.0.0", "iss": "das", "jti": "visit-7@das", "azp": format!("{cse}/{GUEST}"),
        "aud": [cse], "nbf": now - 60, "exp": now + 36_000,
        "tkps": {"pm": [{"ris": ["cse/light1/lamp"], "pv": rules}]},
    });
    key.sign(&claims, Some("2026")).expect("a token").to_string()
}

fn association() -> SecurityAssociation {
    SecurityAssociation::new(
        1,
        Established {
            saef: Saef::ProvisionedSymmetricKey,
            credential_id: CredentialId::parse("12-a@in.provider.com").expect("an ID"),
            entity: Entity::Ae(AeIdStem::parse(GUEST).expect("a stem")),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            protocol: "TLSv1.2",
            suite: String::new(),
            resumed: false,
            expires: None,
        },
    )
}

fn tokens(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let cse = cse(folder.path());
    let pair = RawKey::new(Key::P256).expect("a key");
    let file = format!(
        "[[issuer]]\nid = \"das\"\nholders = [\"//{PROVIDER}/mn-cse/C*\"]\n\
         resources = [\"cse/light1/*\"]\n[[issuer.key]]\nid = \"2026\"\nalgorithm = \"ES256\"\n\
         public = '''{}'''\n",
        pair.public_pem()
    );
    let key = SigningKey::from_pem(pair.key_pem().as_bytes()).expect("a key");
    let token = token(&key);
    let runtime = Runtime::new().expect("a runtime");
    let files = [("token-issuers.toml", file.clone())];
    let policy = runtime.block_on(saegis_benches::policy_with(10, &files));
    let (policy, _policies) = policy.expect("a policy");
    let (generation, association) = (policy.current(), association());

    let permitted = request(Operation::Retrieve, GUEST, "/cse/light1/open");
    c.bench_function("request/retrieve, permitted by a policy", |b| {
        b.iter(|| assert_eq!(handle(&cse, black_box(&permitted)), 2000));
    });
    let mut with_token = request(Operation::Retrieve, GUEST, "/cse/light1/lamp");
    c.bench_function("request/retrieve, permitted by a token from the cache", |b| {
        b.iter(|| {
            let now = SystemTime::now();
            let verified = generation.verify_token(&association, GUEST, black_box(&token), now);
            with_token.tokens = vec![verified.expect("a valid token")];
            assert_eq!(handle(&cse, &with_token), 2000);
        });
    });
    c.bench_function("token/from the cache", |b| {
        b.iter(|| {
            let now = SystemTime::now();
            generation.verify_token(&association, GUEST, black_box(&token), now)
        });
    });
    let (name, id) = (Path::new("token-issuers.toml"), CseId::parse("mn-cse").expect("a CSE-ID"));
    let issuers = TokenIssuers::parse(name, &file, &id, Some(PROVIDER)).expect("no fault");
    c.bench_function("token/verified", |b| {
        b.iter(|| check_token(&issuers, black_box(&token), SystemTime::now()).expect("valid"));
    });
}

criterion_group!(benches, tokens);
criterion_main!(benches);
