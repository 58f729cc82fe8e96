//! Messages of clients, and what each is answered.

use super::*;
use crate::service::test::guest;

fn own() -> Ipv6Addr {
    guest(5).port.address_v6.expect("an address")
}

fn association(id: u32, of: &[Ipv6Addr]) -> DhcpOption {
    let mut opts = DhcpOptions::new();
    for address in of {
        opts.insert(DhcpOption::IAAddr(leased(*address, 5)));
    }
    DhcpOption::IANA(IANA {
        id,
        t1: 0,
        t2: 0,
        opts,
    })
}

fn request(kind: MessageType, options: &[DhcpOption]) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, [1, 2, 3]);
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message.to_vec().expect("encoded")
}

fn answered(kind: MessageType, options: &[DhcpOption]) -> Option<Message> {
    let bytes = reply(&request(kind, options), &guest(5), "net")?;
    Some(Message::decode(&mut Decoder::new(&bytes)).expect("decoded"))
}

#[test]
fn each_kind_of_message_has_its_answer() {
    use MessageType as Kind;
    let client = DhcpOption::ClientId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 5]);
    let server = DhcpOption::ServerId(identifier());
    let other = DhcpOption::ServerId(vec![0, 3, 0, 1, 9]);
    let rapid = DhcpOption::RapidCommit;
    let one = association(9, &[]);
    let table: Vec<(Kind, Vec<&DhcpOption>, Option<Kind>)> = vec![
        (Kind::Solicit, vec![&client, &one], Some(Kind::Advertise)),
        (
            Kind::Solicit,
            vec![&client, &one, &rapid],
            Some(Kind::Reply),
        ),
        (Kind::Solicit, vec![&one], None),
        (Kind::Solicit, vec![&client, &server, &one], None),
        (
            Kind::Request,
            vec![&client, &server, &one],
            Some(Kind::Reply),
        ),
        (Kind::Request, vec![&client, &other, &one], None),
        (Kind::Request, vec![&client, &one], None),
        (Kind::Renew, vec![&client, &server, &one], Some(Kind::Reply)),
        (Kind::Rebind, vec![&client, &one], Some(Kind::Reply)),
        (
            Kind::Release,
            vec![&client, &server, &one],
            Some(Kind::Reply),
        ),
        (Kind::Confirm, vec![&client, &one], None),
        (Kind::InformationRequest, vec![], Some(Kind::Reply)),
        (Kind::Advertise, vec![&client, &one], None),
        (Kind::Reply, vec![&client, &server, &one], None),
    ];
    for (kind, options, expected) in table {
        let options: Vec<DhcpOption> = options.into_iter().cloned().collect();
        let found = answered(kind, &options).map(|answer| answer.msg_type());
        assert_eq!(found, expected, "{kind:?} {options:?}");
    }
}

#[test]
fn the_one_address_goes_to_one_association() {
    let client = DhcpOption::ClientId(vec![1; 10]);
    let old = "fd00:9::9".parse().expect("address");
    let options = [client.clone(), association(9, &[old]), association(10, &[])];
    let answer = answered(MessageType::Rebind, &options).expect("a reply");
    assert_eq!(answer.xid(), [1, 2, 3]);
    let mut found: Vec<(u32, Vec<(Ipv6Addr, u32)>)> = associations(&answer)
        .map(|association| {
            let addresses = association.opts.iter().filter_map(|option| match option {
                DhcpOption::IAAddr(address) => Some((address.addr, address.valid_life)),
                _ => None,
            });
            let mut addresses: Vec<_> = addresses.collect();
            addresses.sort();
            (association.id, addresses)
        })
        .collect();
    found.sort();
    let expected = [(9, vec![(own(), LEASE_SECONDS), (old, 0)]), (10, vec![])];
    assert_eq!(found, expected);
    assert_eq!(answer.opts().get(OptionCode::ClientId), Some(&client));
}

#[test]
fn confirmations_say_whether_the_address_is_right() {
    let client = DhcpOption::ClientId(vec![1; 10]);
    let old = "fd00:9::9".parse().expect("address");
    for (address, expected) in [(own(), Status::Success), (old, Status::NotOnLink)] {
        let options = [client.clone(), association(1, &[address])];
        let answer = answered(MessageType::Confirm, &options).expect("a reply");
        assert_eq!(
            answer.opts().get(OptionCode::StatusCode),
            Some(&status(expected))
        );
    }
}

#[test]
fn a_guest_without_an_address_hears_nothing() {
    let mut guest = guest(5);
    guest.port.address_v6 = None;
    let client = DhcpOption::ClientId(vec![1; 10]);
    let solicit = request(MessageType::Solicit, &[client, association(1, &[])]);
    assert!(reply(&solicit, &guest, "net").is_none());
    let long = DhcpOption::ClientId(vec![1; 131]);
    assert!(answered(MessageType::Solicit, &[long, association(1, &[])]).is_none());
}
