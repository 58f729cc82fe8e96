//! Messages of clients, and what each is answered.

use dhcproto::v4::{Flags, UnknownOption};

use super::*;
use crate::service::test::guest;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn request(kind: MessageType, given: Ipv4Addr, options: &[DhcpOption]) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(7, given, none, none, none, &MAC);
    message.set_flags(Flags::default().set_broadcast());
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message
}

fn answered(message: &Message) -> Option<(Message, Ipv4Addr)> {
    let bytes = message.to_vec().expect("encoded");
    let reply = reply(&bytes, &guest(5), "net")?;
    let answer = Message::decode(&mut Decoder::new(&reply.bytes)).expect("decoded");
    Some((answer, reply.to))
}

fn kind_of(message: &Message) -> Option<MessageType> {
    answered(message).map(|(answer, _)| answer.opts().msg_type().expect("a type"))
}

#[test]
fn each_kind_of_message_has_its_answer() {
    use MessageType::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
    let none = Ipv4Addr::UNSPECIFIED;
    let wants = DhcpOption::RequestedIpAddress;
    let server = DhcpOption::ServerIdentifier;
    let table: Vec<(MessageType, Ipv4Addr, Vec<DhcpOption>, Option<MessageType>)> = vec![
        (Discover, none, vec![], Some(Offer)),
        // What it had elsewhere does not matter.
        (Discover, none, vec![wants(OTHER)], Some(Offer)),
        (Request, none, vec![wants(OWN), server(GATEWAY)], Some(Ack)),
        // After a reboot, without a server's name.
        (Request, none, vec![wants(OWN)], Some(Ack)),
        (Request, none, vec![wants(OTHER)], Some(Nak)),
        (
            Request,
            none,
            vec![wants(OTHER), server(GATEWAY)],
            Some(Nak),
        ),
        // To another server.
        (Request, none, vec![wants(OWN), server(OTHER)], None),
        // Renewing.
        (Request, OWN, vec![], Some(Ack)),
        (Request, OTHER, vec![], Some(Nak)),
        (Request, none, vec![], None),
        (Inform, OWN, vec![], Some(Ack)),
        (Inform, OTHER, vec![], None),
        (Release, OWN, vec![server(GATEWAY)], None),
        (Decline, none, vec![wants(OWN), server(GATEWAY)], None),
        (Offer, none, vec![], None),
        (Ack, none, vec![], None),
    ];
    for (kind, given, options, expected) in table {
        let message = request(kind, given, &options);
        assert_eq!(kind_of(&message), expected, "{kind:?} {given} {options:?}");
    }
}

#[test]
fn an_offer_has_all_that_a_guest_needs() {
    let message = request(MessageType::Discover, Ipv4Addr::UNSPECIFIED, &[]);
    let (answer, to) = answered(&message).expect("an offer");
    assert_eq!((answer.opcode(), answer.xid()), (Opcode::BootReply, 7));
    assert_eq!((answer.yiaddr(), to), (OWN, Ipv4Addr::BROADCAST));
    assert_eq!(answer.chaddr(), MAC);
    let options = answer.opts();
    let get = |code| options.get(code).expect("there").clone();
    let mask = Ipv4Addr::new(255, 255, 0, 0);
    assert_eq!(get(OptionCode::SubnetMask), DhcpOption::SubnetMask(mask));
    assert_eq!(get(OptionCode::Router), DhcpOption::Router(vec![GATEWAY]));
    assert_eq!(
        get(OptionCode::InterfaceMtu),
        DhcpOption::InterfaceMtu(1450)
    );
    let resolvers = DhcpOption::DomainNameServer(vec![RESOLVER]);
    assert_eq!(get(OptionCode::DomainNameServer), resolvers);
    let domain = DhcpOption::DomainName("net.internal".to_owned());
    assert_eq!(get(OptionCode::DomainName), domain);
    let name = DhcpOption::Hostname("guest-5".to_owned());
    assert_eq!(get(OptionCode::Hostname), name);
    let lease = DhcpOption::AddressLeaseTime(LEASE_SECONDS);
    assert_eq!(get(OptionCode::AddressLeaseTime), lease);
    let DhcpOption::ClasslessStaticRoute(routes) = get(OptionCode::ClasslessStaticRoute) else {
        panic!("no routes");
    };
    let routes: Vec<String> = routes
        .iter()
        .map(|(to, via)| format!("{to} {via}"))
        .collect();
    let expected = [
        "169.254.169.253/32 10.0.0.1",
        "169.254.169.254/32 10.0.0.1",
        "0.0.0.0/0 10.0.0.1",
    ];
    assert_eq!(routes, expected);
}

#[test]
fn who_renews_and_who_only_asks_are_answered_directly() {
    let (answer, to) = answered(&request(MessageType::Request, OWN, &[])).expect("ack");
    assert_eq!((answer.yiaddr(), to), (OWN, OWN));
    let (answer, to) = answered(&request(MessageType::Inform, OWN, &[])).expect("ack");
    assert_eq!((answer.yiaddr(), to), (Ipv4Addr::UNSPECIFIED, OWN));
    assert!(answer.opts().get(OptionCode::AddressLeaseTime).is_none());
}

#[test]
fn others_are_not_answered() {
    let none = Ipv4Addr::UNSPECIFIED;
    let message = request(MessageType::Discover, none, &[]);
    assert!(answered(&message).is_some());
    let mut other = message.clone();
    other.set_chaddr(&[2, 0, 0, 0, 0, 6]);
    assert!(answered(&other).is_none(), "another MAC");
    let mut relayed = message.clone();
    relayed.set_giaddr(OTHER);
    assert!(answered(&relayed).is_none(), "relayed");
    let mut server = message.clone();
    server.set_opcode(Opcode::BootReply);
    assert!(answered(&server).is_none(), "a server's");
    let bytes = message.to_vec().expect("encoded");
    for cut in 0..bytes.len().min(240) {
        assert!(reply(&bytes[..cut], &guest(5), "net").is_none(), "{cut}");
    }
    let mut long = bytes.clone();
    long[2] = 200;
    assert!(reply(&long, &guest(5), "net").is_none(), "a long MAC");
    let vendor = UnknownOption::new(OptionCode::from(224), vec![1; 200]);
    let strange = request(MessageType::Discover, none, &[DhcpOption::Unknown(vendor)]);
    assert!(answered(&strange).is_some());
}
