use std::net::SocketAddr;

use saegis_onem2m::association::Established;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::saef::Saef;

use super::*;

const TECHNICIAN: &str = "technician@in.provider.com";
const TENANT: &str = "tenant@in.provider.com";

const TEXT: &str = r#"
[[role]]
id = "technician@in.provider.com"
originators = ["Clight-AE1", "//in.provider.com/in-cse/Cservice", "/other-cse"]
credentials = ["12-master@in.provider.com"]

[[role]]
id = "tenant@in.provider.com"
credentials = ["12-*@home.provider.com"]
app-ids = ["Ntenant*"]
"#;

fn parse(text: &str) -> Result<Roles, Vec<String>> {
    let cse = CseId::parse("mn").unwrap();
    let parsed = Roles::parse(Path::new(FILE), text, &cse, Some("in.provider.com"));
    parsed.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn association(credential: &str, entity: Entity) -> SecurityAssociation {
    SecurityAssociation::new(
        1,
        Established {
            saef: Saef::ProvisionedSymmetricKey,
            credential_id: CredentialId::parse(credential).unwrap(),
            entity,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            protocol: "TLSv1.2",
            suite: "PSK-AES128-CBC-SHA256".into(),
            resumed: false,
            expires: None,
        },
    )
}

fn ae(stem: &str) -> Entity {
    Entity::Ae(AeIdStem::parse(stem).unwrap())
}

/// Returns the roles of an originator that claims both, each with whether it depends on the App-ID.
fn assigned(credential: &str, entity: Entity, from: &str) -> Vec<(String, bool)> {
    let roles = parse(TEXT).unwrap();
    let association = association(credential, entity);
    let claims = [TECHNICIAN, TENANT, TECHNICIAN, "none@in.provider.com", "invalid"];
    let assigned = roles.assigned(&association, from, claims.into_iter());
    assigned.into_iter().map(|role| (role.id.to_string(), role.app_ids.is_some())).collect()
}

#[test]
fn role_is_assigned_by_ae_id() {
    let by_app_id = (TENANT.to_owned(), true);
    let technician = (TECHNICIAN.to_owned(), false);
    let fixed = assigned("12-a@b.c", ae("Clight-AE1"), "Clight-AE1");
    assert_eq!(fixed, [technician, by_app_id.clone()]);
    assert_eq!(assigned("12-a@b.c", ae("Clight-AE2"), "Clight-AE2"), [by_app_id]);
}

#[test]
fn learned_ae_id_holds_no_role() {
    let roles = parse(TEXT).unwrap();
    let association = association("12-a@b.c", Entity::NotYetKnown);
    let of = |association: &SecurityAssociation| {
        let claims = [TECHNICIAN].into_iter();
        roles.assigned(association, "Clight-AE1", claims).len()
    };
    assert_eq!(of(&association), 0);
    association.learn(AeIdStem::parse("Clight-AE1").unwrap()).unwrap();
    assert_eq!(of(&association), 0);
}

#[test]
fn role_is_assigned_by_credential() {
    let by_credential = |role: &str| vec![(role.to_owned(), false)];
    let technician = assigned("12-master@in.provider.com", ae("Cx"), "Cx");
    assert_eq!(technician.first(), Some(&(TECHNICIAN.into(), false)));
    assert_eq!(assigned("12-any@home.provider.com", ae("Cx"), "Cx"), by_credential(TENANT));
    for other in ["12-any@home.provider.com.org", "11-any@home.provider.com"] {
        assert_eq!(assigned(other, ae("Cx"), "Cx"), [(TENANT.to_owned(), true)], "{other}");
    }
}

#[test]
fn forwarding_cse_lends_no_role() {
    let cse = |id| Entity::Cse(CseId::parse(id).unwrap());
    let technician = [(TECHNICIAN.to_owned(), false)];
    // By its own identifier, and that of an AE behind it.
    assert_eq!(assigned("12-a@b.c", cse("other-cse"), "/other-cse"), technician);
    assert_eq!(assigned("12-a@b.c", cse("in-cse"), "/in-cse/Cservice"), technician);
    let own = "12-master@in.provider.com";
    assert_eq!(assigned(own, cse("in-cse"), "/in-cse"), technician);
    // Its credential is not that of the AEs behind it, and they are not registered here.
    assert_eq!(assigned(own, cse("in-cse"), "/in-cse/Cother"), []);
}

#[test]
fn faults_of_roles_have_positions() {
    let bad = r#"
[[role]]
id = "technician"
[[role]]
id = "tenant@in.provider.com"
originators = ["light", "C*"]
app-ids = ["lamp"]
credentials = [""]
[[role]]
id = "tenant@in.provider.com"
holders = ["Cx"]
"#;
    let faults = parse(bad).err().unwrap();
    let starts = [
        "roles.toml:3:6: \"technician\" is not a Role-ID",
        "roles.toml:6:16: \"light\" is not an AE-ID or a CSE-ID",
        "roles.toml:6:25: \"C*\" is not an AE-ID or a CSE-ID",
        "roles.toml:7:12: \"lamp\" is not an App-ID",
        "roles.toml:8:16: \"\" must have 1 to 256 bytes",
        "roles.toml:10:6: \"tenant@in.provider.com\" is also the id of another role",
        "roles.toml:11:1: unknown field `holders`",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
    assert!(faults.iter().zip(starts).all(|(f, s)| f.starts_with(s)), "{faults:#?}");
}

#[test]
fn roles_are_bounded() {
    let role = |n| format!("[[role]]\nid = \"r{n}@a\"\n");
    let many: String = (0..=MAX_ROLES).map(role).collect();
    assert!(parse(&many).err().unwrap()[0].contains("maximum number of roles"));
    for (list, entry, most) in [
        ("originators", "Ca", MAX_HOLDERS),
        ("credentials", "12-*", MAX_PATTERNS),
        ("app-ids", "Na", MAX_PATTERNS),
    ] {
        let with = |n| format!("{}{list} = {:?}\n", role(1), vec![entry; n]);
        assert!(parse(&with(most)).is_ok(), "{list}");
        let faults = parse(&with(most + 1)).err().unwrap();
        assert!(faults[0].contains("exceeds the maximum"), "{faults:?}");
    }
}
