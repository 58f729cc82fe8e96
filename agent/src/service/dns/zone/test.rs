//! Questions, and what becomes of each.

use super::*;
use crate::service::probe;
use crate::service::test::guest;

fn zone(internet_gateway: bool) -> Zone {
    Zone::of(&probe::network(&guest(5), internet_gateway))
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    message
}

fn answered(message: &Message, zone: &Zone) -> Message {
    let bytes = message.to_vec().expect("encoded");
    match answer(&bytes, zone) {
        Verdict::Answer(bytes) => Message::from_vec(&bytes).expect("decoded"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_and_addresses_of_the_network_are_answered() {
    use RecordType as Type;
    let reverse_v6 = Name::from("fd00:1::5".parse::<Ipv6Addr>().expect("address"));
    let reverse_v6 = reverse_v6.to_string();
    let table: Vec<(&str, Type, ResponseCode, &[&str])> = vec![
        (
            "guest-5.net.internal.",
            Type::A,
            ResponseCode::NoError,
            &["10.0.0.5"],
        ),
        (
            "GUEST-5.Net.INTERNAL.",
            Type::A,
            ResponseCode::NoError,
            &["10.0.0.5"],
        ),
        (
            "guest-5.net.internal.",
            Type::AAAA,
            ResponseCode::NoError,
            &["fd00:1::5"],
        ),
        (
            "guest-5.net.internal.",
            Type::ANY,
            ResponseCode::NoError,
            &["10.0.0.5", "fd00:1::5"],
        ),
        (
            "guest-5.net.internal.",
            Type::MX,
            ResponseCode::NoError,
            &[],
        ),
        (
            "guest-6.net.internal.",
            Type::A,
            ResponseCode::NXDomain,
            &[],
        ),
        (
            "x.guest-5.net.internal.",
            Type::A,
            ResponseCode::NXDomain,
            &[],
        ),
        (
            "guest-5.other.internal.",
            Type::A,
            ResponseCode::NXDomain,
            &[],
        ),
        ("net.internal.", Type::A, ResponseCode::NoError, &[]),
        ("internal.", Type::A, ResponseCode::NoError, &[]),
        (
            "5.0.0.10.in-addr.arpa.",
            Type::PTR,
            ResponseCode::NoError,
            &["guest-5.net.internal."],
        ),
        (
            &reverse_v6,
            Type::PTR,
            ResponseCode::NoError,
            &["guest-5.net.internal."],
        ),
        (
            "5.0.0.10.in-addr.arpa.",
            Type::A,
            ResponseCode::NoError,
            &[],
        ),
        ("0.10.in-addr.arpa.", Type::PTR, ResponseCode::NoError, &[]),
        (
            "6.0.0.10.in-addr.arpa.",
            Type::PTR,
            ResponseCode::NXDomain,
            &[],
        ),
        (
            "1.1.168.192.in-addr.arpa.",
            Type::PTR,
            ResponseCode::NXDomain,
            &[],
        ),
        (
            "1.0.64.100.in-addr.arpa.",
            Type::PTR,
            ResponseCode::NXDomain,
            &[],
        ),
    ];
    for (text, kind, code, data) in table {
        let response = answered(&question(text, kind), &zone(true));
        assert_eq!(response.metadata.id, 77);
        assert!(response.metadata.authoritative, "{text}");
        assert_eq!(response.metadata.response_code, code, "{text} {kind}");
        let found: Vec<String> = response
            .answers
            .iter()
            .map(|r| r.data.to_string())
            .collect();
        assert_eq!(found, data, "{text} {kind}");
        // Who hears of nothing hears for how long.
        let soa = response.authorities.first().map(Record::record_type);
        assert_eq!(soa, data.is_empty().then_some(Type::SOA), "{text}");
    }
    let soa = answered(&question("internal.", Type::SOA), &zone(false));
    assert_eq!(soa.answers.len(), 1);
}

#[test]
fn other_names_are_forwarded_only_with_an_internet_gateway() {
    for text in [
        "example.org.",
        "8.8.8.8.in-addr.arpa.",
        "internal.example.org.",
        ".",
    ] {
        let message = question(text, RecordType::A);
        let refused = answered(&message, &zone(false));
        assert_eq!(
            refused.metadata.response_code,
            ResponseCode::Refused,
            "{text}"
        );
        let bytes = message.to_vec().expect("encoded");
        let Verdict::Forward(question) = answer(&bytes, &zone(true)) else {
            panic!("{text} was not forwarded");
        };
        assert_eq!(question.query, message.queries[0]);
        let failed = Message::from_vec(&question.failed()).expect("decoded");
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(failed.metadata.id, 77);
    }
}

#[test]
fn what_is_no_plain_question_is_refused_or_ignored() {
    let zone = zone(true);
    let good = question("guest-5.net.internal.", RecordType::A);
    let code = |message: &Message| answered(message, &zone).metadata.response_code;
    let mut two = good.clone();
    two.add_query(good.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut chaos = good.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    assert_eq!(
        code(&question("net.internal.", RecordType::AXFR)),
        ResponseCode::Refused
    );
    let mut newer = good.clone();
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let refused = answered(&newer, &zone);
    // Two of its names stand for one number.
    assert_eq!(u16::from(refused.metadata.response_code), 16);

    let mut answer_itself = good.clone();
    answer_itself.metadata.message_type = MessageType::Response;
    let bytes = answer_itself.to_vec().expect("encoded");
    assert!(matches!(answer(&bytes, &zone), Verdict::Silent));
    let bytes = good.to_vec().expect("encoded");
    for cut in 0..bytes.len() {
        let verdict = answer(&bytes[..cut], &zone);
        match cut {
            0..12 => assert!(matches!(verdict, Verdict::Silent), "{cut}"),
            _ => assert!(matches!(verdict, Verdict::Answer(_)), "{cut}"),
        }
    }
}

#[test]
fn a_client_with_edns_gets_edns() {
    let mut message = question("guest-5.net.internal.", RecordType::A);
    assert!(answered(&message, &zone(false)).edns.is_none());
    let mut edns = Edns::new();
    edns.set_max_payload(4_096).set_dnssec_ok(true);
    message.set_edns(edns);
    let response = answered(&message, &zone(false));
    assert_eq!(response.edns.expect("edns").max_payload(), PAYLOAD_BYTES);
}
