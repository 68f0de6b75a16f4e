use super::*;
use proptest::prelude::*;

/// A ClientHello as a message: version, suites, extensions as (type, content).
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
    let versions = |list: &[u8]| (43u16, [&[u8::try_from(list.len()).unwrap()][..], list].concat());
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

#[tokio::test]
async fn a_hello_in_many_records_and_segments_is_read() {
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
async fn what_is_no_client_hello_is_named() {
    let good = hello(0x0303, &[0x00AE], &[]);
    assert_eq!(cause(b"").await, "connection");
    assert_eq!(cause(&records(&good, 4000)[..20]).await, "connection");
    assert_eq!(cause(b"GET / HTTP/1.1\r\n\r\n").await, "plain-http");
    assert_eq!(cause(b"\x80\x2e\x01\x03\x01").await, "not-tls");
    assert_eq!(cause(b"\x16\x04\x01").await, "not-tls");
    assert_eq!(cause(b"\x00").await, "not-tls");
    assert_eq!(cause(&records(&[2, 0, 0, 1, 0], 4000)).await, "malformed");
    let long = hello(0x0303, &[0x00AE; 40], &[]);
    assert_eq!(cause(&records(&long, 1)).await, "malformed", "too many records");
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
async fn old_versions_are_refused_with_their_alert() {
    for version in [0x0300, 0x0301, 0x0302] {
        let refusal = read(&records(&hello(version, &[0x008C], &[]), 4000)).await.err().unwrap();
        assert_eq!(refusal.alert(), Some(crate::Alert::ProtocolVersion));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(wire in prop::collection::vec(any::<u8>(), 0..300), from in 0usize..60) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(read(&wire));
        // A good start, then garbage.
        let mut mixed = records(&hello(0x0303, &[0x00AE], &[sni(b"a.b")]), 4000);
        mixed.truncate(from);
        mixed.extend(&wire);
        let _ = runtime.block_on(read(&mixed));
    }
}
