//! Guards against a change of policy by mistake: required files, a limit on ended associations, and
//! reports of each change.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Mark, Setup, Tool, saegis};

const TABLE: &str = "policies/psk-lookup-table.csv";

fn reload(gateway: &Gateway, arguments: &[&str]) -> saegis_tests::CommandOutput {
    saegis(&gateway.path(""), &[&["reload"], arguments].concat())
}

#[test]
fn required_file_must_be_present() {
    let required = "required = [\"psk-lookup-table.csv\"]";
    let setup = Setup::new().with("policy", required);
    std::fs::remove_file(setup.table()).unwrap();
    let ran = setup.run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    let why = "psk-lookup-table.csv: is required (policy.required), but missing";
    assert!(ran.err.contains(why), "{ran:?}");
    // Not even the operator can remove it while the gateway runs.
    let gateway = Setup::new().with("policy", required).start();
    std::fs::remove_file(gateway.path(TABLE)).unwrap();
    let refused = reload(&gateway, &["--accept-removals"]).expect(4);
    assert!(refused.err.contains(why), "{refused:?}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

/// A change that would end too many associations is rejected until it is forced. One that would end
/// fewer takes effect.
#[test]
fn generation_that_ends_too_many_is_rejected() {
    let gateway = Setup::new().with("policy", "max-ended-associations = 1").start();
    let mut lights: Vec<_> =
        [LIGHT1, LIGHT1, LIGHT2].map(|light| Tool::OpenSsl.connect(gateway.port(), light)).into();
    gateway.log().all(Mark::START, "association.established", 3);
    let whole = gateway.table();
    let without_first = gateway.table_without(LIGHT1);
    let why = "would end 2 associations, more than policy.max-ended-associations (1); changed: \
               psk-lookup-table +0 -1 ~0 rows";
    gateway.refused_after(why, |g| g.replace(TABLE, &without_first));
    let status = saegis(&gateway.path(""), &["status"]).expect(0);
    assert!(status.out.contains("would end 2 associations"), "{status:?}");
    assert!(reload(&gateway, &[]).expect(4).err.contains(why));
    lights.iter_mut().for_each(|light| assert!(light.runs()));
    let without_second = whole.replace(LIGHT2.key, "00112233445566778899aabbccddeeff");
    gateway.in_force_after(|g| g.replace(TABLE, &without_second));
    lights.pop().unwrap().ended();
    gateway.refused_after("would end 2 associations", |g| g.replace(TABLE, &without_first));
    let forced = reload(&gateway, &["--force"]).expect(0);
    assert!(forced.out.contains("generation 3 is in force"), "{forced:?}");
    lights.iter_mut().for_each(|light| {
        light.ended();
    });
}

/// A warning is logged once, and not again with each generation.
#[test]
fn warning_is_logged_once() {
    let gateway = Setup::new().start();
    gateway.log().wait("policy.short-keys");
    gateway.in_force_after(|g| g.install("app-rules", "capabilities = [\"service-subscription\"]"));
    // The next generation has another number of weak keys.
    gateway.in_force_after(|g| g.replace(TABLE, g.table_without(LIGHT2)));
    let logged = gateway.log().all(Mark::START, "policy.short-keys", 2);
    assert_eq!(logged.iter().map(|event| event.number("keys")).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn generation_reports_what_it_changes() {
    let gateway = Setup::new().start();
    let changed = gateway.table_without(LIGHT2).replace(LIGHT1.key, "00112233445566778899aabb")
        + "Clamp,00112233445566778899aabbccddeeff,lamp@in.provider.com\n\
           Cother,00112233445566778899aabbccddee00,other@in.provider.com\n";
    let event = gateway.in_force_after(|g| g.replace(TABLE, changed));
    assert_eq!(event.text("changes"), "psk-lookup-table +2 -1 ~1 rows");
    let event = gateway
        .in_force_after(|g| g.install("app-rules", "capabilities = [\"service-subscription\"]"));
    assert_eq!(event.text("changes"), "modules +app-rules");
    gateway.write(TABLE, gateway.table() + "# a comment\n");
    let reloaded = reload(&gateway, &[]).expect(0);
    assert!(!reloaded.out.contains("Clamp"), "{reloaded:?}");
}
