//! Doors for fuzzing: bytes of a guest, and what is answered. Used by `tests/fuzz`
//! alone.

use std::collections::BTreeMap;

use nube_types::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::metadata::token::Tokens;
use super::metadata::{About, answer, converse};
use super::{dhcp, dhcp6, dns};
use crate::driver::GuestSpec;
use crate::network::spec::{NetworkPortSpec, NetworkSpec, SubnetSpec};

/// The network that this guest is alone in.
#[must_use]
pub fn network(guest: &GuestSpec, internet_gateway: bool) -> NetworkSpec {
    let port = &guest.port;
    let of_port = NetworkPortSpec {
        name: Name::new(&guest.hostname).expect("a checked host name"),
        address: port.address,
        address_v6: port.address_v6,
        mac: port.mac,
        host: None,
        epoch: guest.epoch,
        local: true,
        groups: Vec::new(),
    };
    NetworkSpec {
        id: port.network,
        number: port.network_number,
        name: Name::new("net").expect("a name"),
        internet_gateway,
        mtu: port.mtu,
        subnets: vec![SubnetSpec {
            range: super::subnet_of(port),
            gateway: port.gateway,
        }],
        ports: BTreeMap::from([(guest.instance, of_port)]),
        groups: BTreeMap::new(),
        elastic: BTreeMap::new(),
        load_balancers: BTreeMap::new(),
    }
}

/// One connection to the metadata service: all that comes back.
#[must_use]
pub fn metadata(bytes: &[u8], guest: &GuestSpec) -> Vec<u8> {
    let network = network(guest, false);
    let about = About {
        guest,
        network: &network,
        zone: Some("default"),
        run_age_ms: Some(0),
    };
    let tokens = Tokens::new(&[7; 32]);
    let conversation = async {
        let (mut near, far) = tokio::io::duplex(256 * 1024);
        let answering = |request| answer::answer(&request, &about, &tokens, 1_000);
        let asking = async {
            let _ = near.write_all(bytes).await;
            let _ = near.shutdown().await;
            let mut answer = Vec::new();
            let _ = near.read_to_end(&mut answer).await;
            answer
        };
        let (_, answer) = tokio::join!(converse(far, answering), asking);
        answer
    };
    crate::host::namespace::block_on(async { Ok(conversation.await) }).unwrap_or_default()
}

/// One datagram to both servers of addresses.
#[must_use]
pub fn addresses(bytes: &[u8], guest: &GuestSpec) -> [Option<Vec<u8>>; 2] {
    [
        dhcp::reply(bytes, guest, "net").map(|reply| reply.bytes),
        dhcp6::reply(bytes, guest, "net"),
    ]
}

/// One question: the answer, if it is given here.
#[must_use]
pub fn names(bytes: &[u8], guest: &GuestSpec, internet_gateway: bool) -> Option<Vec<u8>> {
    let zone = dns::Zone::of(&network(guest, internet_gateway));
    match dns::answer(bytes, &zone) {
        dns::Verdict::Answer(bytes) => Some(bytes),
        dns::Verdict::Forward(question) => Some(question.failed()),
        dns::Verdict::Silent => None,
    }
}
