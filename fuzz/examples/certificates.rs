//! Generates the corpus of the target `certificate` and its trust anchors.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a tool stops at what is wrong")]

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use saegis_test_ca::{Authority, ExtendedKeyUsagePurpose, Issued, Key, Name, Request, TrialError};
use saegis_test_ca::{KeyUsagePurpose, Validity};

const AE: &str = "//provider.com/mn-cse-123456/Clight-AE1";

/// Returns a validity between two years after 1970, with 365 days a year.
fn years(from: u32, until: u32) -> Validity {
    let year = Duration::from_secs(365 * 86400);
    Validity { from: UNIX_EPOCH + from * year, until: UNIX_EPOCH + until * year }
}

/// Returns a request that is valid for a hundred years from the end of 2025.
fn request(name: &str) -> Request {
    Request::new(name).valid(years(56, 156))
}

fn write(folder: &str, name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    std::fs::write(path, bytes).expect("the folder can be written to");
}

fn seed(name: &str, bytes: &[u8]) {
    write("corpus/certificate", name, bytes);
}

fn chain(issued: &Issued) -> Vec<u8> {
    issued.chain().iter().flat_map(|der| der.to_vec()).collect()
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn main() -> Result<(), TrialError> {
    let clients = Authority::new(&request("clients"))?;
    let servers = Authority::new(&request("servers").permit(Name::dns("maf.provider.com")))?;
    write("anchors", "clients.der", clients.der());
    write("anchors", "servers.der", servers.der());

    let uris = request("uris").permit(Name::uri("provider.com")).exclude(Name::uri(".other.com"));
    let uris = clients.sub_authority(&uris)?;
    let domains = clients.sub_authority(&request("domains").permit(Name::dns("provider.com")))?;
    let not_it = clients.sub_authority(&request("not it").exclude(Name::uri("provider.com")))?;
    let none = clients.sub_authority(&request("none").without_authority())?;
    let stranger = Authority::new(&request("clients"))?;
    let with = |name: Name| request("x").name(name);
    let ae = || with(Name::uri(AE));
    let table = [
        ("ae-id", clients.issue(&ae())?),
        ("ae-id-under-uris", uris.issue(&ae())?),
        ("ae-id-of-provider", uris.issue(&with(Name::uri("//provider.com/Slight")))?),
        ("ae-id-excluded", not_it.issue(&ae())?),
        ("ae-id-elsewhere", clients.issue(&with(Name::uri("//other.com/mn-cse-123456/Clight")))?),
        ("ae-id-wildcard", clients.issue(&with(Name::uri("//provider.com/mn-cse-123456/C*")))?),
        ("cse-id", clients.issue(&with(Name::dns("in.provider.com")))?),
        ("cse-id-under-domains", domains.issue(&with(Name::dns("asn-1.in.provider.com")))?),
        ("cse-id-own", clients.issue(&with(Name::dns("mn-cse-123456.in.provider.com")))?),
        ("node-id", clients.issue(&with(Name::uri("urn:gsma:imei:90420156-025763-0")))?),
        ("device", clients.issue(&with(Name::hardware("1.3.6.1.4.1.32473.1", [0, 0, 1])))?),
        ("device-indication", clients.issue(&with(Name::device("0.2.481.1", "100.3030.1")))?),
        ("fqdn", servers.issue(&with(Name::dns("maf.provider.com")))?),
        ("fqdn-other", servers.issue(&with(Name::dns("mef.provider.com")))?),
        ("conflict", clients.issue(&ae().name(Name::dns("in.provider.com")))?),
        ("no-name", clients.issue(&request(AE))?),
        ("address", clients.issue(&with(Name::ip([192, 0, 2, 1])))?),
        ("no-usage", clients.issue(&ae().usages([]).extended_usages([]))?),
        ("key-agreement", clients.issue(&ae().usages([KeyUsagePurpose::KeyAgreement]))?),
        (
            "for-servers",
            clients.issue(&ae().extended_usages([ExtendedKeyUsagePurpose::ServerAuth]))?,
        ),
        ("p-384", clients.issue(&ae().key(Key::P384))?),
        ("rsa", clients.issue(&ae().key(Key::Rsa))?),
        ("by-no-authority", none.issue(&ae())?),
        ("by-stranger", stranger.issue(&ae())?),
        ("expired", clients.issue(&ae().valid(years(56, 57)))?),
        ("names-twice", clients.issue(&ae().extension("2.5.29.17", false, [0x30, 0]))?),
        ("unknown-critical", clients.issue(&ae().extension("1.2.3", true, [5, 0]))?),
        ("not-ascii", clients.issue(&with(Name::der([0x86, 2, 0xC3, 0x28])))?),
    ];
    for (name, issued) in &table {
        seed(&format!("{name}.der"), &chain(issued));
    }
    let good = &table[0].1;
    seed("half.der", &good.der()[..good.der().len() / 2]);
    seed("bytes-behind.der", &[good.der(), b"x"].concat());
    seed("chain-without-end.der", uris.der());
    let mut tampered = good.der().to_vec();
    if let Some(last) = tampered.last_mut() {
        *last ^= 1;
    }
    seed("tampered.der", &tampered);
    seed("key-alone.der", &saegis_test_ca::RawKey::new(Key::P256)?.public_der());
    seed("long-length.der", &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x30]);

    // Extension values, for certificates that the target signs itself.
    seed("names-ae-id.der", &[&[0x30, 41, 0x86, 39], AE.as_bytes()].concat());
    seed("names-cse-id.der", b"\x30\x11\x82\x0Fin.provider.com");
    seed("names-node-id.der", b"\x30\x07\x86\x05urn:x");
    seed("names-device.der", b"\x30\x0D\xA0\x0B\x06\x04\x02\x83\x61\x01\xA0\x03\x0D\x01\x07");
    seed(
        "names-hardware.der",
        b"\x30\x1A\xA0\x18\x06\x08\x2B\x06\x01\x05\x05\x07\x08\x04\xA0\x0C\x30\x0A\x06\x05\x2B\x06\x01\x04\x01\x04\x01\x07",
    );
    seed("constraints-uri.der", b"\x30\x12\xA0\x10\x30\x0E\x86\x0Cprovider.com");
    seed("constraints-dns.der", b"\x30\x12\xA1\x10\x30\x0E\x82\x0Cprovider.com");
    seed("constraints-no-name.der", b"\x30\x09\xA0\x07\x30\x05\x06\x03a.b");
    Ok(())
}
