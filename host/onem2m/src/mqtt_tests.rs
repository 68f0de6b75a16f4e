//! Topics that a client may and may not use.

use super::*;
use crate::id::AeIdStem;

fn with<T>(entity: &Entity, ask: impl FnOnce(TopicRights<'_>) -> T) -> T {
    let cse = CseId::parse("mn-cse").unwrap();
    ask(TopicRights { cse: &cse, service_provider: Some("in.provider.com"), entity })
}

fn ae() -> Entity {
    Entity::Ae(AeIdStem::parse("Clight").unwrap())
}

fn cse() -> Entity {
    Entity::Cse(CseId::parse("asn-1").unwrap())
}

fn publication(entity: &Entity, topic: &str) -> Result<Publication, TopicError> {
    with(entity, |rights| rights.publication(topic))
}

fn subscription(entity: &Entity, filter: &str) -> Result<Subscription, TopicError> {
    with(entity, |rights| rights.subscription(filter))
}

/// The topic of a message that a filter of the client selects.
fn topic(entity: &Entity, filter: &str, serialization: Serialization) -> Option<String> {
    let cse = CseId::parse("mn-cse").unwrap();
    subscription(entity, &format!("{PREFIX}{filter}")).unwrap().topic(&cse, serialization)
}

#[test]
fn own_request_topic_names_ae() {
    let json = PrimitiveType::Supported(Serialization::Json);
    let light = || Some(AeIdStem::parse("Clight").unwrap());
    for (entity, topic, ae) in [
        (ae(), "req/Clight/mn-cse/json", light()),
        (ae(), "req/mn-cse:Clight/mn-cse/json", light()),
        (ae(), "req/Clight/:in.provider.com:mn-cse/json", light()),
        (cse(), "req/asn-1/mn-cse/json", None),
        (cse(), "req/:in.provider.com:asn-1/mn-cse/json", None),
    ] {
        let found = publication(&entity, &format!("{PREFIX}{topic}"));
        assert_eq!(found, Ok(Publication::Request { ae, primitive_type: json }), "{topic}");
    }
    for (entity, primitive_type, level) in
        [(ae(), json, "json"), (Entity::NotYetKnown, PrimitiveType::Xml, "xml")]
    {
        let found = publication(&entity, &format!("{PREFIX}reg_req/12-a@b/mn-cse/{level}"));
        assert_eq!(found, Ok(Publication::Registration(primitive_type)));
    }
}

#[test]
fn client_identifier_names_entity_of_association() {
    let several =
        Entity::Aes(["Ca", "Cb"].into_iter().map(|ae| AeIdStem::parse(ae).unwrap()).collect());
    for (entity, client_id, expected) in [
        (ae(), "A::Clight", ClientId::Own),
        (ae(), "A::/mn-cse/Clight", ClientId::Own),
        (ae(), "A::mn-cse:Clight", ClientId::Own),
        (several, "A::Cb", ClientId::Own),
        (cse(), "C::asn-1", ClientId::Own),
        (cse(), "C::/asn-1", ClientId::Own),
        (cse(), "C:://in.provider.com/asn-1", ClientId::Own),
        (ae(), "A::Cother", ClientId::Other),
        (ae(), "A::", ClientId::Other),
        (ae(), "A::/Clight/x", ClientId::Other),
        (ae(), "A::/mn-2/Clight", ClientId::Other),
        (ae(), "A::Clight\u{0}", ClientId::Other),
        (ae(), "C::Clight", ClientId::Other),
        (ae(), "C::mn-cse", ClientId::Other),
        (cse(), "A::asn-1", ClientId::Other),
        (Entity::NotYetKnown, "A::Clight", ClientId::Other),
        (Entity::NotYetKnown, "C::asn-1", ClientId::Other),
        (Entity::NotYetKnown, "lamp-17", ClientId::Free),
        (ae(), "a::Clight", ClientId::Free),
        (ae(), "", ClientId::Free),
    ] {
        let found = with(&entity, |rights| rights.client_id(client_id));
        assert_eq!(found, expected, "{client_id}");
    }
}

#[test]
fn message_has_topic_of_filter() {
    use Serialization::{Cbor, Json};
    for (filter, serialization, expected) in [
        ("resp/Clight/#", Json, Some("resp/Clight/mn-cse/json")),
        ("resp/mn-cse:Clight/+/+", Cbor, Some("resp/mn-cse:Clight/mn-cse/cbor")),
        (
            "resp/Clight/:in.provider.com:mn-cse/#",
            Json,
            Some("resp/Clight/:in.provider.com:mn-cse/json"),
        ),
        ("resp/Clight/mn-cse/cbor", Json, None),
        ("reg_resp/12-a:b@c.d/+/json", Json, Some("reg_resp/12-a:b@c.d/mn-cse/json")),
        ("req/+/mn-cse:Clight/#", Cbor, Some("req/mn-cse/mn-cse:Clight/cbor")),
    ] {
        let expected = expected.map(|topic| format!("{PREFIX}{topic}"));
        assert_eq!(topic(&ae(), filter, serialization), expected, "{filter}");
    }
}

#[test]
fn request_topic_has_serialization() {
    let found =
        |level: &str| match publication(&ae(), &format!("/oneM2M/req/Clight/mn-cse/{level}")) {
            Ok(Publication::Request { primitive_type, .. }) => Ok(primitive_type),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
    assert_eq!(found("json"), Ok(PrimitiveType::Supported(Serialization::Json)));
    assert_eq!(found("cbor"), Ok(PrimitiveType::Supported(Serialization::Cbor)));
    assert_eq!(found("xml"), Ok(PrimitiveType::Xml));
    for level in ["", "JSON", "text", "json ", "#"] {
        assert_eq!(found(level), Err(TopicError::Type), "{level}");
    }
}

#[test]
fn response_to_cse_is_published() {
    let json = PrimitiveType::Supported(Serialization::Json);
    for (entity, topic) in [
        (ae(), "/oneM2M/resp/mn-cse/Clight/json"),
        (ae(), "/oneM2M/resp/mn-cse/mn-cse:Clight/json"),
        (cse(), "/oneM2M/resp/mn-cse/asn-1/json"),
    ] {
        assert_eq!(publication(&entity, topic), Ok(Publication::Response(json)), "{topic}");
    }
}

#[test]
fn topic_of_others_is_refused() {
    use TopicError as E;
    for (entity, topic, error) in [
        (ae(), "/oneM2M/req/Cother/mn-cse/json", E::OtherClient),
        (ae(), "/oneM2M/req/mn-cse:Cother/mn-cse/json", E::OtherClient),
        (ae(), "/oneM2M/req/mn-2:Clight/mn-cse/json", E::OtherClient),
        (ae(), "/oneM2M/req/mn-cseClight/mn-cse/json", E::OtherClient),
        (ae(), "/oneM2M/req/mn-cse/mn-cse/json", E::OtherClient),
        (ae(), "/oneM2M/req/:in.provider.com:mn-cse:Clight/mn-cse/json", E::OtherClient),
        (ae(), "/oneM2M/req/Clight/mn-2/json", E::OtherCse),
        (ae(), "/oneM2M/req/Clight/:other.org:mn-cse/json", E::OtherCse),
        (ae(), "/oneM2M/resp/Clight/mn-cse/json", E::OtherCse),
        (ae(), "/oneM2M/resp/mn-cse/Cother/json", E::OtherClient),
        (ae(), "/oneM2M/reg_req/x/mn-2/json", E::OtherCse),
        (ae(), "/oneM2M/reg_resp/x/mn-cse/json", E::Direction),
        (cse(), "/oneM2M/req/asn-1:Clight/mn-cse/json", E::OtherClient),
        (cse(), "/oneM2M/req/:other.org:asn-1/mn-cse/json", E::OtherClient),
        (Entity::NotYetKnown, "/oneM2M/req/Clight/mn-cse/json", E::OtherClient),
        (Entity::NotYetKnown, "/oneM2M/resp/mn-cse/Clight/json", E::OtherClient),
    ] {
        assert_eq!(publication(&entity, topic), Err(error), "{topic}");
    }
}

#[test]
fn topic_of_other_form_is_refused() {
    for topic in [
        "",
        "/",
        "/oneM2M",
        "/oneM2M/",
        "oneM2M/req/Clight/mn-cse/json",
        "/onem2m/req/Clight/mn-cse/json",
        "/oneM2M/req/Clight/mn-cse",
        "/oneM2M/req/Clight/mn-cse/json/x",
        "/oneM2M/req//mn-cse/json",
        "/oneM2M/REQ/Clight/mn-cse/json",
        "/oneM2M/req/Clight/+/json",
        "/oneM2M/req/+/mn-cse/json",
        "/oneM2M/req/C\u{0}light/mn-cse/json",
        "$SYS/broker/uptime",
        "home/lamp",
    ] {
        assert_eq!(publication(&ae(), topic), Err(TopicError::Form), "{topic:?}");
    }
    let long = format!("/oneM2M/reg_req/{}/mn-cse/json", "x".repeat(MAX_TOPIC));
    assert_eq!(publication(&ae(), &long), Err(TopicError::TooLong));
}

#[test]
fn filter_of_own_topics_is_accepted() {
    use Messages::{RegistrationResponses, Requests, Responses};
    let json = Some(Serialization::Json);
    for (entity, filter, messages, client, serialization) in [
        (ae(), "req/+/Clight/+", Requests, "Clight", None),
        (ae(), "req/+/Clight/#", Requests, "Clight", None),
        (ae(), "req/+/mn-cse:Clight/json", Requests, "mn-cse:Clight", json),
        (ae(), "req/mn-cse/Clight/json/#", Requests, "Clight", json),
        (ae(), "resp/Clight/#", Responses, "Clight", None),
        (ae(), "resp/Clight/+/#", Responses, "Clight", None),
        (ae(), "resp/Clight/mn-cse/cbor", Responses, "Clight", Some(Serialization::Cbor)),
        (cse(), "req/+/asn-1/#", Requests, "asn-1", None),
        (cse(), "resp/asn-1/mn-cse/+", Responses, "asn-1", None),
        (ae(), "reg_resp/12-a:b@c.d/#", RegistrationResponses, "12-a:b@c.d", None),
        (Entity::NotYetKnown, "reg_resp/x/+/json", RegistrationResponses, "x", json),
    ] {
        let found = subscription(&entity, &format!("{PREFIX}{filter}")).unwrap();
        let Subscription { messages: of, client: named, serialization: selected, .. } = found;
        assert_eq!((of, &*named, selected), (messages, client, serialization), "{filter}");
    }
}

#[test]
fn filter_of_others_topics_is_refused() {
    use TopicError as E;
    for (entity, filter, error) in [
        (ae(), "#", E::Form),
        (ae(), "+/req/+/Clight/+", E::Form),
        (ae(), "/oneM2M/#", E::Form),
        (ae(), "/oneM2M/+/+/Clight/#", E::Form),
        (ae(), "/oneM2M/req/#", E::Wildcard),
        (ae(), "/oneM2M/req/+/+/json", E::Wildcard),
        (ae(), "/oneM2M/req/+/Cother/#", E::OtherClient),
        (ae(), "/oneM2M/req/+/Cl+/#", E::Form),
        (ae(), "/oneM2M/req/#/Clight/json", E::Form),
        (ae(), "/oneM2M/req/+/Clight/json/x", E::Form),
        (ae(), "/oneM2M/req/+/Clight/json/#/x", E::Form),
        (ae(), "/oneM2M/req/mn-2/Clight/json", E::OtherCse),
        (ae(), "/oneM2M/req/+/Clight/xml", E::Type),
        (ae(), "/oneM2M/resp/#", E::Wildcard),
        (ae(), "/oneM2M/resp/+/mn-cse/json", E::Wildcard),
        (ae(), "/oneM2M/resp/mn-cse/Clight/json", E::OtherClient),
        (ae(), "/oneM2M/reg_resp/#", E::Wildcard),
        (ae(), "/oneM2M/reg_resp/+/mn-cse/#", E::Wildcard),
        (ae(), "/oneM2M/reg_req/x/#", E::Direction),
        (ae(), "$SYS/#", E::Form),
        (Entity::NotYetKnown, "/oneM2M/resp/Clight/#", E::OtherClient),
    ] {
        assert_eq!(subscription(&entity, filter), Err(error), "{filter}");
    }
}

#[test]
fn filter_names_one_ae() {
    let several =
        Entity::Aes(["Ca", "Cb"].into_iter().map(|ae| AeIdStem::parse(ae).unwrap()).collect());
    let mn_cse = CseId::parse("mn-cse").unwrap();
    for client in ["Ca", "mn-cse:Ca"] {
        let found = subscription(&several, &format!("{PREFIX}req/+/{client}/#")).unwrap();
        assert!(found.names_ae(&mn_cse, "Ca") && !found.names_ae(&mn_cse, "Cb"), "{client}");
    }
}
