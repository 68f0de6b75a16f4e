use super::*;
use Outcome::{Allow, AllowOnce, Deny};
use Peer::{Ae, Cse, UnknownAe};

fn row(peer: Peer<'_>, from: Option<&str>, creates_ae: bool, named: &[&str]) -> Outcome {
    let service_provider = Some("sp.org");
    let named = named.iter().copied();
    let (registers_cse, announces_ae) = (false, false);
    check(&Request { peer, service_provider, from, creates_ae, registers_cse, announces_ae, named })
}

fn announce(peer: Peer<'_>, from: Option<&str>, named: &[&str]) -> Outcome {
    check(&Request {
        peer,
        service_provider: Some("sp.org"),
        from,
        creates_ae: false,
        registers_cse: false,
        announces_ae: true,
        named: named.iter().copied(),
    })
}

#[test]
fn cse_may_request_ae_id_for_announced_ae() {
    assert_eq!(announce(Cse("mn"), Some("/mn/S"), &[]), AllowOnce);
    for from in ["/mn/Sa", "/mn", "/Sa"] {
        assert_eq!(announce(Cse("mn"), Some(from), &[]), Allow, "{from}");
    }
    for from in ["/mn2/S", "/MN/S", "/S/S", "/mn2/Sa"] {
        assert_eq!(announce(Cse("mn"), Some(from), &[]), Deny(Why::AnotherCse), "{from}");
    }
    for from in ["//sp.org/mn/S", "/mn/S/", "/mn/C", "/mn/s", "mn/S"] {
        assert_eq!(announce(Cse("mn"), Some(from), &[]), Deny(Why::FromMalformed), "{from}");
    }
    assert_eq!(announce(Cse("mn"), Some("S"), &[]), Deny(Why::StemFromCse));
    assert_eq!(announce(Cse("mn"), None, &[]), Deny(Why::FromMissing));
    // Without an AE-ID, the content must not name an originator.
    assert_eq!(announce(Cse("mn"), Some("/mn/S"), &["Sa"]), Deny(Why::ContentNamesAnother));
    // An AE does not announce AEs.
    assert_eq!(announce(Ae("Sa"), Some("/mn/S"), &[]), Deny(Why::NotAStem));
    assert_eq!(announce(Ae("Sa"), Some("/mn/Sa"), &[]), Deny(Why::NotAStem));
    assert_eq!(announce(UnknownAe, Some("/mn/S"), &[]), Deny(Why::NotAStem));
    assert_eq!(announce(UnknownAe, Some("S"), &[]), Deny(Why::NotRegistered));
}

#[test]
fn ae_id_request_is_limited_to_announcement() {
    assert_eq!(row(Cse("mn"), Some("/mn/S"), false, &[]), Deny(Why::AsksForAeId));
    assert_eq!(row(Cse("mn"), Some("/mn/S"), true, &[]), Deny(Why::CseCreatesAe));
    assert_eq!(row(Cse("mn2"), Some("/mn/S"), false, &[]), Deny(Why::AnotherCse));
    for creates_ae in [false, true] {
        for peer in [Ae("Sa"), UnknownAe] {
            assert_eq!(row(peer, Some("/mn/S"), creates_ae, &[]), Deny(Why::NotAStem));
        }
    }
}

#[test]
fn cse_registers_with_its_own_credential() {
    let registers = |peer, from: &str| {
        check(&Request {
            peer,
            service_provider: Some("sp.org"),
            from: Some(from),
            creates_ae: false,
            registers_cse: true,
            announces_ae: false,
            named: std::iter::empty(),
        })
    };
    for from in ["/mn", "//sp.org/mn"] {
        assert_eq!(registers(Cse("mn"), from), Allow, "{from}");
        for peer in [Ae("Ca"), UnknownAe] {
            assert_eq!(registers(peer, from), Deny(Why::NoCseCredential), "{from} {peer:?}");
        }
        assert_eq!(registers(Cse("other"), from), Deny(Why::AnotherCse), "{from}");
    }
    // An identifier that may be an AE-ID elsewhere is a CSE-ID here.
    assert_eq!(registers(Cse("mn"), "/Server"), Deny(Why::AnotherCse));
    assert_eq!(registers(Cse("mn"), "/mn/S"), Deny(Why::AsksForAeId));
    assert_eq!(registers(Ae("Ca"), "Ca"), Deny(Why::AeRegistersCse));
    assert_eq!(registers(Ae("Ca"), "Cb"), Deny(Why::AnotherAe));
    assert_eq!(registers(UnknownAe, "Ca"), Deny(Why::NotRegistered));
    assert_eq!(registers(Ae("Ca"), "/mn/Ca"), Deny(Why::NotAStem));
}

#[test]
fn rule_1_only_an_ae_create_may_leave_from_out() {
    for peer in [Ae("Ca"), UnknownAe, Cse("mn")] {
        assert_eq!(row(peer, None, false, &[]), Deny(Why::FromMissing), "{peer:?}");
    }
    assert_eq!(row(UnknownAe, None, true, &[]), AllowOnce);
}

#[test]
fn rule_2_an_ae_writes_its_stem() {
    for from in ["/mn/Ca", "//sp.org/mn/Ca", "/Sa", "//sp.org/Sa", "/mn"] {
        assert_eq!(row(Ae("Ca"), Some(from), false, &[]), Deny(Why::NotAStem), "{from}");
        assert_eq!(row(UnknownAe, Some(from), true, &[]), Deny(Why::NotAStem), "{from}");
    }
    for from in ["", "a", "Ca ", " Ca", "ca", "Ca/", "C\u{e4}", "/", "Ca,Cb", "/mn/a/Ca"] {
        for peer in [Ae("Ca"), UnknownAe, Cse("mn")] {
            assert_eq!(row(peer, Some(from), false, &[]), Deny(Why::FromMalformed), "{from:?}");
        }
    }
}

#[test]
fn rule_3_an_ae_speaks_as_itself() {
    assert_eq!(row(Ae("Ca"), Some("Ca"), false, &[]), Allow);
    assert_eq!(row(Ae("Ca"), Some("Ca"), true, &[]), Allow);
    for from in ["Cb", "Caa", "CA", "Sa", "C", "S"] {
        assert_eq!(row(Ae("Ca"), Some(from), false, &[]), Deny(Why::AnotherAe), "{from}");
        assert_eq!(row(Ae("Ca"), Some(from), true, &[]), Deny(Why::AnotherAe), "{from}");
    }
    assert_eq!(row(Ae("Ca"), None, true, &[]), Deny(Why::AnotherAe));
}

#[test]
fn ae_without_ae_id_may_only_register() {
    for from in [None, Some("C"), Some("S"), Some("Ca"), Some("Sa")] {
        assert_eq!(row(UnknownAe, from, true, &[]), AllowOnce, "{from:?}");
    }
    for from in ["C", "S", "Ca", "Sa"] {
        assert_eq!(row(UnknownAe, Some(from), false, &[]), Deny(Why::NotRegistered), "{from}");
    }
}

#[test]
fn rule_4_cse_may_use_own_and_forwarded_originators() {
    for from in ["/mn", "/mn/Ca", "//sp.org/mn", "//sp.org/mn/Ca", "/Sa", "//sp.org/Sa"] {
        assert_eq!(row(Cse("mn"), Some(from), false, &[]), Allow, "{from}");
    }
    for from in [
        "/mn2",
        "/mn2/Ca",
        "//sp.org/mn2",
        "//sp.org/mn2/Ca",
        "/MN",
        "/Sx/Ca",
        "//other.org/mn",
        "//other.org/mn/Ca",
        "//other.org/Sa",
    ] {
        assert_eq!(row(Cse("mn"), Some(from), false, &[]), Deny(Why::AnotherCse), "{from}");
    }
    for from in ["Ca", "Sa", "C", "S"] {
        assert_eq!(row(Cse("mn"), Some(from), false, &[]), Deny(Why::StemFromCse), "{from}");
    }
    assert_eq!(row(Cse("mn"), Some("/mn/Ca"), true, &[]), Deny(Why::CseCreatesAe));
}

#[test]
fn registrar_cse_may_forward_other_originators() {
    let registrar = Peer::Registrar { cse: "in", own: "mn" };
    for from in [
        "/in",
        "/in/Ca",
        "/mn2",
        "/mn2/Ca",
        "/Sa",
        "//sp.org/mn2/Ca",
        "//other.org/mn",
        "//other.org/mn/Ca",
    ] {
        assert_eq!(row(registrar, Some(from), false, &[]), Allow, "{from}");
    }
    for from in ["/mn", "/mn/Ca", "//sp.org/mn", "//SP.org/mn/Ca"] {
        assert_eq!(row(registrar, Some(from), false, &[]), Deny(Why::OurOwn), "{from}");
    }
    for from in ["Ca", "Sa", "C", "S"] {
        assert_eq!(row(registrar, Some(from), false, &[]), Deny(Why::StemFromCse), "{from}");
    }
    assert_eq!(row(registrar, None, false, &[]), Deny(Why::FromMissing));
    assert_eq!(row(registrar, Some("/mn2/S"), false, &[]), Deny(Why::AsksForAeId));
    assert_eq!(row(registrar, Some("/in/Ca"), true, &[]), Deny(Why::CseCreatesAe));
}

#[test]
fn maf_client_uses_its_absolute_identifier() {
    let client = Peer::MafClient("//sp.org/in/Ca");
    assert_eq!(row(client, Some("//sp.org/in/Ca"), false, &[]), Allow);
    for from in ["//sp.org/in", "/in/Ca", "Ca", "//sp.org/in/Cb", "//SP.org/in/Ca", "//x.org/in/Ca"]
    {
        assert_eq!(row(client, Some(from), false, &[]), Deny(Why::AnotherClient), "{from}");
    }
    assert_eq!(row(client, None, false, &[]), Deny(Why::FromMissing));
    assert_eq!(row(client, None, true, &[]), Deny(Why::AnotherClient));
}

#[test]
fn credential_with_several_aes_may_use_each() {
    let both = ["Ca".to_string(), "Cb".to_string()];
    let peer = Peer::Aes(&both);
    for from in ["Ca", "Cb"] {
        assert_eq!(row(peer, Some(from), false, &[]), Allow, "{from}");
        assert_eq!(row(peer, Some(from), true, &[]), Allow, "{from}");
    }
    for from in ["Cc", "C", "S"] {
        assert_eq!(row(peer, Some(from), false, &[]), Deny(Why::AnotherAe), "{from}");
    }
    assert_eq!(row(peer, None, true, &[]), Deny(Why::AnotherAe));
    assert_eq!(row(peer, Some("/mn/Ca"), false, &[]), Deny(Why::NotAStem));
    assert_eq!(row(peer, Some("Ca"), false, &["Cb"]), Deny(Why::ContentNamesAnother));
}

#[test]
fn creator_or_ae_id_of_other_ae_is_refused() {
    assert_eq!(row(Ae("Ca"), Some("Ca"), false, &["Ca", "Ca"]), Allow);
    let denied = Deny(Why::ContentNamesAnother);
    for named in [&["Cb"][..], &["Ca", "Cb"], &["Cb", "Ca"], &["/mn/Ca"], &[""]] {
        assert_eq!(row(Ae("Ca"), Some("Ca"), false, named), denied, "{named:?}");
    }
    assert_eq!(row(UnknownAe, None, true, &["Ca"]), denied);
    assert_eq!(row(Cse("mn"), Some("/mn/Ca"), false, &["/mn/Cb"]), denied);
}

#[test]
fn refusals_have_the_codes_of_the_clause() {
    assert_eq!(Why::NotAStem.rsc(), 4000);
    assert_eq!(Why::AsksForAeId.rsc(), 4000);
    assert_eq!(Why::AnotherAe.rsc(), 4106);
    assert_eq!(Why::CseCreatesAe.rsc(), 4005);
}
