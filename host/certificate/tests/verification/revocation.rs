//! Revocation lists.

use saegis_certificate::Flavour;

use super::*;

/// Revocation lists in DER.
type Lists = Vec<Vec<u8>>;

/// Runs a test with and without a URI constraint.
fn each(test: impl Fn(Request)) {
    test(Request::new("middle"));
    test(Request::new("middle").permit(Name::uri("provider.com")));
}

fn with_lists(authority: &Authority, lists: &[Vec<u8>]) -> Trust {
    let der = authority.der().clone();
    trust([Anchor::new(der, &[Flavour::AeId], &[KeyKind::P256], lists).unwrap()])
}

#[test]
fn revoked_certificate_is_refused() {
    each(|middle| {
        let root = root("root");
        let middle = root.sub_authority(&middle).unwrap();
        let (end, other) = (middle.issue(&ae()).unwrap(), middle.issue(&ae()).unwrap());
        let list = |authority: &Authority, serials: &[&[u8]]| {
            authority.revoke(serials).unwrap().der().to_vec()
        };
        let none = list(&middle, &[]);
        let (revokes_end, revokes_middle) =
            (list(&middle, &[end.serial()]), list(&root, &[middle.serial()]));
        let table: [(&str, Lists, Result<&str, &str>); 6] = [
            ("no lists", vec![], Ok(THE_AE)),
            ("an empty list", vec![none.clone()], Ok(THE_AE)),
            ("another is revoked", vec![list(&middle, &[other.serial()])], Ok(THE_AE)),
            ("it is revoked", vec![revokes_end.clone()], Err("Revoked")),
            ("its issuer is revoked", vec![revokes_middle.clone()], Err("Revoked")),
            ("among other lists", vec![none, revokes_middle], Err("Revoked")),
        ];
        for (what, lists, expected) in table {
            check(what, &client(&with_lists(&root, &lists), end.chain()), expected);
        }
        // The same serial number with another issuer belongs to another certificate.
        let lists = [list(&root, &[end.serial()])];
        check("same number", &client(&with_lists(&root, &lists), end.chain()), Ok(THE_AE));
        let both = [revokes_end, list(&root, &[])];
        check("another", &client(&with_lists(&root, &both), other.chain()), Ok(THE_AE));
    });
}

#[test]
fn unusable_revocation_list_refuses_its_certificates() {
    each(|middle| {
        let root = root("root");
        let middle = root.sub_authority(&middle).unwrap();
        let end = middle.issue(&ae()).unwrap();
        let old = middle.revoke_for(&[], past()).unwrap().der().to_vec();
        let trust = with_lists(&root, &[old]);
        check("out of date", &client(&trust, end.chain()), Err("RevocationUnknown"));
        let namesake = Authority::new(&Request::new("middle")).unwrap();
        let wrong = namesake.revoke(&[]).unwrap().der().to_vec();
        let trust = with_lists(&root, &[wrong]);
        check("signed by another", &client(&trust, end.chain()), Err("RevocationUnknown"));
        // A list of an issuer outside the chain has no effect on it.
        let stranger = Authority::new(&Request::new("stranger")).unwrap();
        let other = stranger.revoke(&[end.serial(), middle.serial()]).unwrap().der().to_vec();
        check("another's", &client(&with_lists(&root, &[other]), end.chain()), Ok(THE_AE));
        let old = root.revoke_for(&[], past()).unwrap().der().to_vec();
        let trust = with_lists(&root, &[old]);
        check("root's out of date", &client(&trust, end.chain()), Err("RevocationUnknown"));
    });
}
