//! Enrolled clients (TS-0003 clause 8.3.2). Each has an enrolment key Ke, from which the Km of a
//! MAF is derived (clause 10.3.7).

use saegis_tests::derived_by_openssl;

use super::scene::{FQDN, IN_CSE, PHONE, Settings};

const KE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KE: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KE_ID: &str = "phone7@mef.in.provider.com";
const NEEDED: &str = "policy-tables\", \"read-stored-keys\", \"supply-key-bytes";

#[test]
fn enrolled_client_authenticates_with_derived_km() {
    let mut settings = Settings::new();
    settings.maf = settings
        .maf
        .with("modules.grants", &format!("psk-derived = [\"{NEEDED}\"]"))
        .module("psk-derived", &format!("order = 200\ncapabilities = [\"{NEEDED}\"]"))
        .file(
            "enrolment-keys.csv",
            &format!("ke_id,ke,maf_fqdn,client_id\n{KE_ID},{KE},{FQDN},{PHONE}\n"),
        );
    let scene = settings.start();
    let label = "oneM2M Enrolment Key to Master Credential derivation";
    let derived = |ke: &str, maf: &str| {
        derived_by_openssl(&scene.maf.path("derivation"), ke, &format!("{label}{maf}"))
    };
    let with = |km: &str| {
        scene.write_phone(&format!("kpsa-id = \"{KE_ID}\"\nkpsa = \"{km}\"\n"), IN_CSE, "");
    };
    // The Km of another Ke, the Km of another MAF, and Ke itself.
    for km in [&derived(OTHER_KE, FQDN), &derived(KE, "maf.example"), KE] {
        with(km);
        assert_ne!(scene.phone(&["register"]).code, 0, "{km}");
    }
    with(&derived(KE, FQDN));
    scene.phone(&["register"]).expect(0);
    let at_maf =
        scene.maf.log().wait_for(saegis_tests::Mark::START, "association.established", |e| {
            e.text("credential_id") == format!("11-{KE_ID}")
        });
    assert_eq!(at_maf.text("entity"), format!("MAF client {PHONE}"));
    let association = scene.infrastructure.log().wait("association.established");
    assert_eq!(association.text("entity"), "AE Cphone");
}
