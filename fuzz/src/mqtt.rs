//! Control packets of MQTT clients.

use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::mqtt::packet::{self, Packet};
use saegis_onem2m::mqtt::{ClientId, Publication, TopicRights};
use saegis_onem2m::serialization::Serialization;

/// Maximum size of a packet, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Packets of a client as the MQTT binding reads them. A packet that is read has one form, and no topic
/// that is accepted names another client.
pub fn mqtt(input: &[u8]) {
    let cse = CseId::parse("mn-cse").expect("a CSE-ID");
    let entity = Entity::Ae(AeIdStem::parse("Clight").expect("an AE-ID-Stem"));
    let provider = Some("in.provider.com");
    let rights = TopicRights { cse: &cse, service_provider: provider, entity: &entity };
    let mut rest = input;
    while let Ok(Some(length)) = packet::length(rest, MAX_BYTES) {
        assert!((2..=MAX_BYTES).contains(&length));
        let Some((bytes, next)) = rest.split_at_checked(length) else { return };
        let Ok(packet) = packet::decode(bytes) else { return };
        assert_eq!(packet.encode_len(), Ok(length));
        check(&packet, rights);
        rest = next;
    }
}

fn check(packet: &Packet, rights: TopicRights<'_>) {
    let is_own = |level: &str| matches!(level, "Clight" | "mn-cse:Clight");
    match packet {
        Packet::Publish(publish) => {
            let topic = &*publish.topic_name;
            let levels: Vec<_> = topic.split('/').collect();
            match rights.publication(topic) {
                Ok(Publication::Request { ae, .. }) => {
                    assert_eq!(ae.as_ref().map(AeIdStem::as_str), Some("Clight"));
                    assert!(is_own(levels[3]), "{topic}");
                }
                Ok(Publication::Response(_)) => assert!(is_own(levels[4]), "{topic}"),
                Ok(Publication::Registration(_)) => assert_eq!(levels[2], "reg_req"),
                Err(_) => {}
            }
            let header =
                packet::publish_header(topic, publish.qos_pid.pid(), publish.payload.len());
            assert!(header.is_ok());
        }
        Packet::Subscribe(subscribe) => {
            for (filter, _) in &subscribe.topics {
                let Ok(subscription) = rights.subscription(filter) else { continue };
                for serialization in [Serialization::Json, Serialization::Cbor] {
                    let topic = subscription.topic(rights.cse, serialization);
                    assert!(topic.is_none_or(|topic| !topic.contains(['+', '#'])), "{filter:?}");
                }
            }
        }
        Packet::Connect(connect) => {
            let is_own = rights.client_id(&connect.client_id) == ClientId::Own;
            assert!(!is_own || connect.client_id.ends_with("Clight"));
        }
        _ => {}
    }
}
