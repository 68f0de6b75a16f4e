use super::*;
use proptest::prelude::*;

/// Returns a ClientHello message with a version, suites, and extensions as (type, content).
fn hello(version: u16, suites: &[u16], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let short = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(short(suites.len() * 2));
    suites.iter().for_each(|s| body.extend(s.to_be_bytes()));
    body.extend([1, 0]);
    let mut all = Vec::new();
    for (kind, content) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend(short(content.len()));
        all.extend(content);
    }
    if !extensions.is_empty() {
        body.extend(short(all.len()));
        body.extend(all);
    }
    let n = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO, n[1], n[2], n[3]][..], &body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let one = |part: &[u8]| {
        let n = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, 3, 1, n[0], n[1]][..], part].concat()
    };
    message.chunks(size).flat_map(one).collect()
}

fn sni(name: &[u8]) -> (u16, Vec<u8>) {
    let n = u8::try_from(name.len()).unwrap();
    (0, [&[0, n + 3, 0, 0, n][..], name].concat())
}

async fn read(wire: &[u8]) -> Result<FirstFlight, Refusal> {
    FirstFlight::read(&mut &*wire).await
}

async fn cause(wire: &[u8]) -> &'static str {
    read(wire).await.err().map_or("none", |r| r.cause())
}

#[tokio::test]
async fn offers_are_told_apart() {
    for (suites, extensions, offer) in [
        (&[0x00AE][..], vec![], Offer::Psk),
        (&[0xC02B, 0xC037], vec![], Offer::Psk),
        (&[0x1301, 0x00A8], vec![versions(&[3, 4, 3, 3])], Offer::Psk),
        (&[0x1301, 0x00A8], vec![versions(&[3, 4])], Offer::Certificates),
        (&[0xC023, 0x00FF], vec![], Offer::Certificates),
        (&[0x1301], vec![versions(&[0x7a, 0x7a, 3, 4])], Offer::Certificates),
    ] {
        let wire = records(&hello(0x0303, suites, &extensions), 4000);
        assert_eq!(read(&wire).await.unwrap().offer(), offer, "{suites:x?}");
    }
}

fn versions(list: &[u8]) -> (u16, Vec<u8>) {
    (43, [&[u8::try_from(list.len()).unwrap()][..], list].concat())
}

/// Returns a list of certificate types (RFC 7250).
fn types(extension: u16, list: &[u8]) -> (u16, Vec<u8>) {
    (extension, [&[u8::try_from(list.len()).unwrap()][..], list].concat())
}

async fn certificates(suites: &[u16], extensions: &[(u16, Vec<u8>)]) -> Certificates {
    read(&records(&hello(0x0303, suites, extensions), 4000)).await.unwrap().certificates()
}

#[tokio::test]
async fn engine_follows_suites_and_versions() {
    let tls13 = || vec![versions(&[3, 4])];
    let both = || vec![versions(&[3, 4, 3, 3])];
    for (suites, extensions, current, mandated) in [
        // TLS 1.2 by its version field.
        (&[0xC02B][..], vec![], true, false),
        (&[0xC02F], vec![], true, false),
        (&[0xC023], vec![], false, true),
        (&[0xC0AC], vec![], false, true),
        (&[0xC023, 0xC02B], vec![], true, true),
        (&[0xC023, 0xC0AC, 0x00FF], vec![], false, true),
        // Unsupported by both engines: CBC with SHA-1, with SHA-384, CCM_8, RSA key exchange.
        (&[0xC009, 0xC024, 0xC0AE, 0x003C], vec![], false, false),
        (&[], vec![], false, false),
        // A suite of TLS 1.3 without TLS 1.3, and those of TLS 1.2 without TLS 1.2.
        (&[0x1301], vec![], false, false),
        (&[0x1301], vec![versions(&[3, 3])], false, false),
        (&[0xC02B, 0xC023], tls13(), false, false),
        (&[0x1301], tls13(), true, false),
        (&[0x1304, 0x1305], tls13(), false, false),
        (&[0x1304, 0xC023], both(), false, true),
        (&[0x1303, 0xC023], both(), true, true),
        // Beside a pre-shared key, which takes precedence.
        (&[0x00AE, 0xC023], vec![], false, true),
        (&[0x00AE, 0x1301], both(), true, false),
    ] {
        let told = certificates(suites, &extensions).await;
        let told = (told.current, told.mandated, told.shows_key, told.wants_key);
        assert_eq!(told, (current, mandated, false, false), "{suites:x?} {extensions:?}");
    }
}

#[tokio::test]
async fn raw_public_key_preference_is_detected() {
    const SHOWS: u16 = 19;
    const WANTS: u16 = 20;
    const X509: u8 = 0;
    const RAW: u8 = 2;
    for (extensions, shows_key, wants_key) in [
        (vec![], false, false),
        (vec![types(SHOWS, &[RAW])], true, false),
        (vec![types(WANTS, &[RAW])], false, true),
        (vec![types(SHOWS, &[RAW, X509]), types(WANTS, &[RAW, X509])], true, true),
        (vec![types(SHOWS, &[X509, RAW]), types(WANTS, &[X509])], false, false),
        // OpenPGP, and an unassigned type.
        (vec![types(SHOWS, &[1, RAW]), types(WANTS, &[255])], false, false),
    ] {
        let all = [&[versions(&[3, 4])], &*extensions].concat();
        let told = certificates(&[0x1301], &all).await;
        assert!(told.current && !told.mandated, "{told:?}");
        assert_eq!((told.shows_key, told.wants_key), (shows_key, wants_key), "{extensions:?}");
    }
    for extension in [SHOWS, WANTS] {
        for bad in [&[][..], &[0], &[1], &[2, RAW], &[1, RAW, X509], &[0, RAW]] {
            let all = [versions(&[3, 4]), (extension, bad.to_vec())];
            let wire = records(&hello(0x0303, &[0x1301], &all), 4000);
            assert_eq!(cause(&wire).await, "malformed", "{extension} {bad:?}");
        }
    }
}

#[tokio::test]
async fn fragmented_hello_is_parsed() {
    let message = hello(0x0303, &[0x00AE], &[sni(b"In.Provider.com")]);
    for size in [3, 40, 4000] {
        let wire = records(&message, size);
        let (mut far, mut near) = tokio::io::duplex(5);
        let sent = wire.clone();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &sent).await });
        let flight = FirstFlight::read(&mut near).await.unwrap();
        assert_eq!(flight.server_name(), Some("in.provider.com"));
        assert_eq!(flight.into_parts().0, wire);
    }
}

#[tokio::test]
async fn invalid_hello_has_cause() {
    let good = hello(0x0303, &[0x00AE], &[]);
    assert_eq!(cause(b"").await, "connection");
    assert_eq!(cause(&records(&good, 4000)[..20]).await, "connection");
    assert_eq!(cause(b"GET / HTTP/1.1\r\n\r\n").await, "plain-http");
    assert_eq!(cause(b"\x80\x2e\x01\x03\x01").await, "not-tls");
    assert_eq!(cause(b"\x16\x04\x01").await, "not-tls");
    assert_eq!(cause(b"\x00").await, "not-tls");
    assert_eq!(cause(&records(&[2, 0, 0, 1, 0], 4000)).await, "malformed");
    // Other protocols, and an alert, which is not answered.
    for other in [&b"\x15\x03\x01\x00\x02\x02\x28"[..], b"\x18\x03\x01", b"\x14\x04"] {
        assert_eq!(cause(other).await, "not-tls", "{other:x?}");
    }
    assert_eq!(cause(b"\x16\x03\x01\x00\x00\x16\x03\x01").await, "malformed");
    assert_eq!(cause(b"\x16\x03\x01\xff\xff").await, "malformed");
    assert_eq!(cause(&records(&[1, 0xff, 0, 0], 4000)).await, "too-large");
    let mut long = good.clone();
    long.push(0);
    assert_eq!(cause(&records(&long, 4000)).await, "malformed", "bytes behind the message");
    let two = [records(&good, 4000), records(&[16, 0, 0, 0], 4000)].concat();
    assert_eq!(cause(&two).await, "malformed", "a record behind the message");
    for name in [&b"a\0b"[..], b"a/b", b"a b", b"\xff", b""] {
        let wire = records(&hello(0x0303, &[0x00AE], &[sni(name)]), 4000);
        assert_eq!(cause(&wire).await, "malformed", "{name:?}");
    }
}

#[tokio::test]
async fn malformed_hello_has_matching_alert() {
    use crate::Alert as A;
    let good = hello(0x0303, &[0x00AE], &[]);
    let two = [records(&good, 4000), records(&[16, 0, 0, 0], 4000)].concat();
    let mut longer = good.clone();
    longer.push(0);
    for (wire, alert) in [
        (b"\x16\x03\x01\x00\x00".to_vec(), A::UnexpectedMessage),
        (records(&[2, 0, 0, 1, 0], 4000), A::UnexpectedMessage),
        (b"\x14\x03\x03\x00\x01\x01".to_vec(), A::UnexpectedMessage),
        (b"\x17\x03\x03\x00\x01\x01".to_vec(), A::UnexpectedMessage),
        (two, A::UnexpectedMessage),
        (records(&longer, 4000), A::UnexpectedMessage),
        (b"\x16\x03\x01\x40\x01".to_vec(), A::RecordOverflow),
        (records(&[1, 0xff, 0, 0], 4000), A::DecodeError),
        (records(&[1, 0, 0, 2, 3, 3], 4000), A::DecodeError),
    ] {
        let refusal = read(&wire).await.err().unwrap();
        assert_eq!(refusal.alert(), Some(alert), "{wire:x?}");
    }
}

#[tokio::test]
async fn old_versions_are_refused_with_their_alert() {
    for (version, extensions) in [
        (0x0300, vec![]),
        (0x0301, vec![]),
        (0x0302, vec![]),
        (0x0303, vec![versions(&[3, 2, 3, 1])]),
        // SSL 3.0, independently of the extension (RFC 8446 clause D.5).
        (0x0300, vec![versions(&[3, 4])]),
        (0x0300, vec![versions(&[3, 4, 3, 3])]),
        (0x0002, vec![versions(&[3, 4])]),
    ] {
        let wire = records(&hello(version, &[0x008C, 0x1301], &extensions), 4000);
        let refusal = read(&wire).await.err().unwrap();
        assert_eq!(refusal.alert(), Some(crate::Alert::ProtocolVersion), "{version:x}");
    }
    // Other versions do not matter if the extension is present (RFC 8446 clause 4.2.1).
    for version in [0x0301, 0x0302, 0x0304] {
        let wire = records(&hello(version, &[0x1301], &[versions(&[3, 4])]), 4000);
        assert!(read(&wire).await.is_ok(), "{version:x}");
    }
}

#[tokio::test]
async fn tls13_psk_is_detected() {
    // One identity of one byte with an age, and one binder.
    let key = (41, [&[0, 7, 0, 1, 1, 0, 0, 0, 0, 0, 33, 32][..], &[0; 32]].concat());
    let all = |list: &[u8]| [versions(list), key.clone()];
    assert!(certificates(&[0x1301], &all(&[3, 4])).await.psk_of_tls13);
    assert!(certificates(&[0x1301, 0xC02B], &all(&[3, 4, 3, 3])).await.psk_of_tls13);
    // Not with a PSK suite of TLS 1.2, and not without TLS 1.3.
    assert!(!certificates(&[0x1301, 0x00AE], &all(&[3, 4, 3, 3])).await.psk_of_tls13);
    assert!(!certificates(&[0xC02B], &all(&[3, 3])).await.psk_of_tls13);
    assert!(!certificates(&[0x1301], &[versions(&[3, 4])]).await.psk_of_tls13);
}

/// The largest hello of a current client, and more: three post-quantum key shares beside the usual
/// ones, GREASE, ECH, tickets of other servers, and padding. Each record has one byte.
#[tokio::test]
async fn post_quantum_hello_is_parsed_in_any_fragments() {
    let extension = |kind: u16, length: usize| (kind, vec![7; length]);
    let shares = [(0x11EC, 1216), (0x11EB, 1249), (0x11ED, 1665), (29, 32), (23, 65), (24, 97)];
    let shares: Vec<u8> = shares
        .into_iter()
        .flat_map(|(group, length): (u16, u16)| {
            let share = vec![7; usize::from(length)];
            [&group.to_be_bytes()[..], &length.to_be_bytes(), &share].concat()
        })
        .collect();
    let list = u16::try_from(shares.len()).unwrap().to_be_bytes();
    let browser = [
        extension(0x0A0A, 0),
        sni(b"in.provider.com"),
        versions(&[0x7A, 0x7A, 3, 4, 3, 3]),
        (51, [&list[..], &shares].concat()),
        (
            10,
            [&[0, 14][..], &[0x11, 0xEC, 0x11, 0xEB, 0x11, 0xED, 0, 29, 0, 23, 0, 24, 0x1A, 0x1A]]
                .concat(),
        ),
        extension(0xFE0D, 700),
        extension(0x4469, 1),
        extension(21, 512),
    ];
    let usual = hello(0x0303, &[0x1301, 0x1302, 0x1303, 0xC02B], &browser[..4]);
    let largest = [&browser[..], &[extension(0xFF01, 3000)]].concat();
    let largest = hello(0x0303, &[0x1301, 0x1302, 0x1303, 0xC02B], &largest);
    assert!(usual.len() > 4400 && largest.len() > 8600, "{} {}", usual.len(), largest.len());
    for (message, size) in
        [(&usual, 4000), (&usual, 64), (&usual, 1), (&largest, 64), (&largest, 1)]
    {
        let wire = records(message, size);
        let flight = read(&wire).await.unwrap();
        assert_eq!(flight.server_name(), Some("in.provider.com"));
        assert!(flight.certificates().current);
    }
    // The size is bounded.
    let padded = hello(0x0303, &[0x1301], &[extension(21, 60_000), extension(22, 5_520)]);
    assert_eq!(cause(&records(&padded, 1 << 14)).await, "too-large");
    let cut = hello(0x0303, &[0x1301], &[extension(21, 12_000)]);
    assert_eq!(cause(&records(&cut, 1)).await, "too-large");
}

/// As recorded: each offers the key share X25519MLKEM768.
#[tokio::test]
async fn recorded_post_quantum_hellos_are_parsed() {
    for (name, length, server) in
        [("chromium-156", 1976, "localhost"), ("openssl-3.5.2", 1543, "in.provider.com")]
    {
        let file = format!("../../fuzz/corpus/client_hello/recorded-{name}.bin");
        let wire = std::fs::read(file).unwrap();
        let message = wire.split_at(5).1;
        assert_eq!(message.len(), length, "{name}");
        for size in [4000, 512, 1] {
            let flight = read(&records(message, size)).await.unwrap();
            assert_eq!(flight.server_name(), Some(server), "{name} in records of {size}");
            assert!(flight.certificates().current);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_hello_does_not_panic(wire in prop::collection::vec(any::<u8>(), 0..300), from in 0usize..60) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(read(&wire));
        // A valid start, followed by garbage.
        let mut mixed = records(&hello(0x0303, &[0x00AE], &[sni(b"a.b")]), 4000);
        mixed.truncate(from);
        mixed.extend(&wire);
        let _ = runtime.block_on(read(&mixed));
    }
}
