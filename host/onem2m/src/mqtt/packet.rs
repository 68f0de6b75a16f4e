//! Control packets of MQTT 3.1.1.
//!
//! [`length`] reads the fixed header of a packet, so that its reader can bound the length before it
//! reads the rest. [`decode`] then decodes the whole packet. It is stricter than the codec below: a
//! packet has exactly its announced length, and no form but the one that the codec writes.

use bytes::Bytes;
pub use mqtt_proto::v3::{
    Connack, Connect, ConnectReturnCode, Packet, Publish, Suback, Subscribe, SubscribeReturnCode,
    Unsubscribe,
};
pub use mqtt_proto::{Pid, Protocol, QoS, QosPid};

/// Maximum number of bytes of the length in a fixed header.
const MAX_LENGTH_BYTES: usize = 4;

/// A packet that is not one, or that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The packet is longer than the maximum.
    #[error("packet too large")]
    TooLarge,
    /// It is not a packet of MQTT 3.1.1.
    #[error("bad MQTT")]
    Malformed,
    /// A CONNECT of another version of MQTT.
    #[error("other version of MQTT")]
    Version,
}

/// Returns the length of the packet that starts with these bytes, with its fixed header. Returns
/// `None` if the header is not complete.
///
/// # Errors
/// Returns an error if the header is malformed, or the packet is longer than `max` bytes.
pub fn length(bytes: &[u8], max: usize) -> Result<Option<usize>, PacketError> {
    let mut rest = 0;
    for (at, byte) in bytes.iter().skip(1).take(MAX_LENGTH_BYTES).enumerate() {
        rest |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let whole = rest + at + 2;
            return if whole > max { Err(PacketError::TooLarge) } else { Ok(Some(whole)) };
        }
    }
    if bytes.len() > MAX_LENGTH_BYTES { Err(PacketError::Malformed) } else { Ok(None) }
}

/// Decodes a packet.
///
/// # Errors
/// Returns an error if the bytes are not exactly one packet of MQTT 3.1.1.
pub fn decode(bytes: &[u8]) -> Result<Packet, PacketError> {
    let packet = match Packet::decode(bytes) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Err(PacketError::Malformed),
        Err(mqtt_proto::Error::UnexpectedProtocol(_) | mqtt_proto::Error::InvalidProtocol(..)) => {
            return Err(PacketError::Version);
        }
        Err(_) => return Err(PacketError::Malformed),
    };
    if packet.encode_len() != Ok(bytes.len()) {
        return Err(PacketError::Malformed);
    }
    match &packet {
        // Its header has no bit to spare, and the rest is as long as it says.
        Packet::Publish(_) => {}
        Packet::Connect(connect) if connect.protocol != Protocol::V311 => {
            return Err(PacketError::Version);
        }
        Packet::Connect(connect) if !is_plain(connect) => return Err(PacketError::Malformed),
        Packet::Suback(ack) if *suback(ack.pid, &granted(ack)) != *bytes => {
            return Err(PacketError::Malformed);
        }
        Packet::Suback(_) => {}
        other => {
            let same = other.encode().is_ok_and(|again| again.as_ref() == bytes);
            if !same {
                return Err(PacketError::Malformed);
            }
        }
    }
    Ok(packet)
}

/// Whether the texts of a CONNECT have no U+0000, and a password comes with a user name.
fn is_plain(connect: &Connect) -> bool {
    let name = connect.username.as_deref();
    !connect.client_id.contains('\0')
        && !name.is_some_and(|name| name.contains('\0'))
        && (connect.password.is_none() || name.is_some())
}

/// Encodes a packet that has no payload.
///
/// # Errors
/// Returns an error if the packet is too long, which cannot happen for the packets of a server.
pub fn encode(packet: &Packet) -> Result<Bytes, PacketError> {
    let encoded = packet.encode().map_err(|_| PacketError::TooLarge)?;
    Ok(Bytes::copy_from_slice(encoded.as_ref()))
}

/// Returns a SUBACK: for each filter its Quality of Service, or none if it is refused.
///
/// The codec writes another code for a refusal than the 0x80 of MQTT-3.9.3-2.
#[must_use]
pub fn suback(pid: Pid, granted: &[Option<QoS>]) -> Bytes {
    let [high, low] = pid.value().to_be_bytes();
    let mut bytes = vec![0x90];
    push_length(&mut bytes, 2 + granted.len());
    bytes.extend([high, low]);
    bytes.extend(granted.iter().map(|granted| granted.map_or(0x80, |qos| qos as u8)));
    bytes.into()
}

/// Returns for each filter of a SUBACK its Quality of Service, or none if it is refused.
fn granted(ack: &Suback) -> Vec<Option<QoS>> {
    let granted = ack.topics.iter().map(|code| match code {
        SubscribeReturnCode::MaxLevel0 => Some(QoS::Level0),
        SubscribeReturnCode::MaxLevel1 => Some(QoS::Level1),
        SubscribeReturnCode::MaxLevel2 => Some(QoS::Level2),
        SubscribeReturnCode::Failure => None,
    });
    granted.collect()
}

/// Writes the length of a fixed header. Returns whether it fits.
fn push_length(header: &mut Vec<u8>, mut rest: usize) -> bool {
    for _ in 0..MAX_LENGTH_BYTES {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        header.push(if rest > 0 { low | 0x80 } else { low & 0x7f });
        if rest == 0 {
            return true;
        }
    }
    false
}

/// Returns the start of a PUBLISH, up to its payload, which is not copied. Its Quality of Service is 1
/// if it has a packet identifier.
///
/// # Errors
/// Returns an error if the topic or the payload is too long for MQTT.
pub fn publish_header(topic: &str, pid: Option<Pid>, payload: usize) -> Result<Bytes, PacketError> {
    let pid = pid.map(Pid::value);
    let topic_length = u16::try_from(topic.len()).map_err(|_| PacketError::TooLarge)?;
    let rest = 2 + topic.len() + pid.map_or(0, |_| 2) + payload;
    let mut header = vec![if pid.is_some() { 0x32 } else { 0x30 }];
    if !push_length(&mut header, rest) {
        return Err(PacketError::TooLarge);
    }
    header.extend_from_slice(&topic_length.to_be_bytes());
    header.extend_from_slice(topic.as_bytes());
    header.extend(pid.map(u16::to_be_bytes).into_iter().flatten());
    Ok(header.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    /// A CONNECT with these flags, and this after the header.
    fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60];
        bytes.extend_from_slice(rest);
        bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
        bytes
    }

    #[test]
    fn length_is_bounded_before_packet_is_read() {
        for (bytes, expected) in [
            (&[][..], Ok(None)),
            (&[0x30], Ok(None)),
            (&[0x30, 0x80], Ok(None)),
            (&[0xc0, 0], Ok(Some(2))),
            (&[0x30, 0x7f], Ok(Some(129))),
            (&[0x30, 0x80, 0x01], Ok(Some(131))),
            (&[0x30, 0xff, 0xff, 0xff, 0x7f], Err(PacketError::TooLarge)),
            (&[0x30, 0xff, 0xff, 0xff, 0xff], Err(PacketError::Malformed)),
            (&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01], Err(PacketError::Malformed)),
        ] {
            assert_eq!(length(bytes, MAX), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn connect_is_read() {
        let bytes = connect(4, 0b10, b"\0\x04lamp");
        let Ok(Packet::Connect(read)) = decode(&bytes) else { panic!("no CONNECT") };
        assert_eq!((&*read.client_id, read.keep_alive, read.clean_session), ("lamp", 60, true));
    }

    #[test]
    fn packet_of_other_form_is_refused() {
        for bytes in [
            // A PINGREQ with content, with a length of two bytes, and with flags.
            &[0xc0, 1, 0][..],
            &[0xc0, 0x80, 0],
            &[0xc1, 0],
            // An unknown type, and a PUBLISH with both bits of the Quality of Service.
            &[0xf0, 0],
            &[0x00, 0],
            &[0x36, 5, 0, 1, b'a', 0, 1],
            // Packet identifier 0, and one that is cut.
            &[0x40, 2, 0, 0],
            &[0x40, 1, 0],
            // A SUBSCRIBE without filters, one with Quality of Service 3, and one with a cut filter.
            &[0x82, 2, 0, 1],
            &[0x82, 6, 0, 1, 0, 1, b'a', 3],
            &[0x82, 6, 0, 1, 0, 9, b'a', 0],
            // A topic with a wildcard, one with U+0000, one that is not UTF-8, and one that is cut.
            &[0x30, 3, 0, 1, b'+'],
            &[0x30, 3, 0, 1, b'#'],
            &[0x30, 3, 0, 1, 0],
            &[0x30, 3, 0, 1, 0xff],
            &[0x30, 3, 0, 2, b'a'],
            // More than one packet.
            &[0xc0, 0, 0xc0, 0],
        ] {
            assert_eq!(decode(bytes), Err(PacketError::Malformed), "{bytes:x?}");
        }
        for (flags, rest) in [
            (0b11, &b"\0\x01a"[..]),
            (0b10, b"\0\x01a\0"),
            (0b10, b"\0\x01\0"),
            (0b10, b"\0\x02a"),
            // A password without a user name, and a retained will without a will.
            (0b100_0010, b"\0\x01a\0\x01p"),
            (0b10_0010, b"\0\x01a"),
        ] {
            assert_eq!(decode(&connect(4, flags, rest)), Err(PacketError::Malformed), "{rest:x?}");
        }
        for level in [3, 5, 0x84] {
            assert_eq!(decode(&connect(level, 2, b"\0\x01a")), Err(PacketError::Version));
        }
    }

    #[test]
    fn suback_has_code_of_each_filter() {
        let granted = [Some(QoS::Level1), None, Some(QoS::Level0)];
        let written = suback(Pid::default(), &granted);
        assert_eq!(*written, [0x90, 5, 0, 1, 1, 0x80, 0]);
        let Ok(Packet::Suback(read)) = decode(&written) else { panic!("no SUBACK") };
        assert_eq!(super::granted(&read), granted);
        for bytes in [&[0x90, 3, 0, 1, 3][..], &[0x91, 3, 0, 1, 0x80], &[0x90, 0x83, 0, 0, 1, 0]] {
            assert_eq!(decode(bytes), Err(PacketError::Malformed), "{bytes:x?}");
        }
        let many = suback(Pid::default(), &[None; 200]);
        assert_eq!((many.len(), &many[..5]), (205, &[0x90, 0xca, 0x01, 0, 1][..]));
    }

    #[test]
    fn header_of_publish_matches_codec() {
        for (pid, payload) in [(None, 0), (Some(Pid::default()), 100), (None, 20_000)] {
            let payload = vec![b'x'; payload];
            let mut bytes = publish_header("a/b", pid, payload.len()).unwrap().to_vec();
            bytes.extend_from_slice(&payload);
            assert_eq!(length(&bytes, MAX), Ok(Some(bytes.len())));
            let Ok(Packet::Publish(read)) = decode(&bytes) else { panic!("no PUBLISH") };
            assert_eq!((&*read.topic_name, read.payload.len()), ("a/b", payload.len()));
            assert_eq!(read.qos_pid.pid(), pid);
        }
        assert_eq!(publish_header("a", None, 1 << 28), Err(PacketError::TooLarge));
    }
}
