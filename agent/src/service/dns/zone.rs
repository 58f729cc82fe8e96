//! One question, one verdict: pure. `.internal` is ours to the root of it, and so
//! are the names of private addresses: neither is anybody's business outside.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::network::spec::NetworkSpec;
use crate::service::domain_of;

/// Addresses stay for an instance's life; names come and go with instances.
const TTL_SECONDS: u32 = 30;
const ABSENT_SECONDS: u32 = 5;
/// What passes any path unfragmented.
pub const PAYLOAD_BYTES: u16 = 1_232;
const HEADER_BYTES: usize = 12;

/// Names of one network.
#[derive(Debug)]
pub struct Zone {
    internal: Name,
    domain: Name,
    hosts: HashMap<Name, (Ipv4Addr, Option<Ipv6Addr>)>,
    pointers: HashMap<IpAddr, Name>,
    forwards: bool,
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Verdict {
    /// Encoded answer.
    Answer(Vec<u8>),
    /// The host's resolvers are to answer.
    Forward(Box<Question>),
    /// Not a question, or from nobody who waits.
    Silent,
}

/// A question that is passed on: what is sent is made anew of these.
#[derive(Debug)]
pub struct Question {
    /// As the guest sent it.
    pub metadata: Metadata,
    /// The one question.
    pub query: Query,
    /// Largest datagram, and whether signatures are wanted, if it said so.
    pub edns: Option<(u16, bool)>,
}

impl Question {
    /// To tell the guest that nobody answered.
    #[must_use]
    pub fn failed(&self) -> Vec<u8> {
        let mut message = response(&self.metadata, &self.query, true);
        message.metadata.response_code = ResponseCode::ServFail;
        encode(message, self.edns.is_some())
    }
}

fn name(text: &str) -> Name {
    // Labels of ours are checked names; whatever else would come makes the root,
    // which nobody has.
    let mut name = Name::from_ascii(text).unwrap_or_else(|_| Name::root());
    name.set_fqdn(true);
    name
}

impl Zone {
    /// Names of this network's ports, on all hosts.
    #[must_use]
    pub fn of(spec: &NetworkSpec) -> Self {
        let domain = domain_of(spec.name.as_str());
        let mut zone = Self {
            internal: name("internal."),
            domain: name(&format!("{domain}.")),
            hosts: HashMap::new(),
            pointers: HashMap::new(),
            forwards: spec.internet_gateway,
        };
        for port in spec.ports.values() {
            let host = name(&format!("{}.{domain}.", port.name));
            zone.pointers.insert(port.address.into(), host.clone());
            if let Some(address) = port.address_v6 {
                zone.pointers.insert(address.into(), host.clone());
            }
            zone.hosts.insert(host, (port.address, port.address_v6));
        }
        zone
    }

    fn soa(&self) -> Record {
        let primary = name("ns.internal.");
        let contact = name("hostmaster.internal.");
        // Nobody keeps copies of this zone: its serial says nothing.
        let soa = SOA::new(primary, contact, 1, 3_600, 600, 86_400, ABSENT_SECONDS);
        Record::from_rdata(self.internal.clone(), ABSENT_SECONDS, RData::SOA(soa))
    }

    /// Records of a name in `.internal`; `None`: there is no such name.
    fn forward_records(&self, query: &Query) -> Option<Vec<Record>> {
        let kind = query.query_type();
        let wants = |of: RecordType| kind == of || kind == RecordType::ANY;
        let mut records = Vec::new();
        let mut add = |data| {
            records.push(Record::from_rdata(query.name().clone(), TTL_SECONDS, data));
        };
        if let Some((v4, v6)) = self.hosts.get(query.name()) {
            if wants(RecordType::A) {
                add(RData::A(A(*v4)));
            }
            if let (Some(v6), true) = (v6, wants(RecordType::AAAA)) {
                add(RData::AAAA(AAAA(*v6)));
            }
            return Some(records);
        }
        if *query.name() == self.internal {
            return Some(match wants(RecordType::SOA) {
                true => vec![self.soa()],
                false => Vec::new(),
            });
        }
        // Between the root of `.internal` and the hosts.
        (*query.name() == self.domain).then_some(records)
    }

    /// Records of a name of an address.
    fn pointer_records(&self, query: &Query, address: IpAddr) -> Option<Vec<Record>> {
        let host = self.pointers.get(&address)?;
        let wanted = matches!(query.query_type(), RecordType::PTR | RecordType::ANY);
        let data = RData::PTR(PTR(host.clone()));
        let record = Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
        Some(if wanted { vec![record] } else { Vec::new() })
    }
}

/// The verdict about one message of a guest.
#[must_use]
pub fn answer(bytes: &[u8], zone: &Zone) -> Verdict {
    // An answer to an answer would never end.
    let is_answer = bytes.get(2).is_none_or(|flags| flags & 0x80 != 0);
    if bytes.len() < HEADER_BYTES || is_answer {
        return Verdict::Silent;
    }
    let refuse = |code| {
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        let message = Message::error_msg(id, OpCode::Query, code);
        Verdict::Answer(encode(message, false))
    };
    let Ok(message) = Message::from_vec(bytes) else {
        return refuse(ResponseCode::FormErr);
    };
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    let edns = message.edns.as_ref().map(|edns| {
        let payload = edns.max_payload().clamp(512, PAYLOAD_BYTES);
        (payload, edns.flags().dnssec_ok)
    });
    let finish = |message: Message| Verdict::Answer(encode(message, edns.is_some()));
    let mut response = response(&message.metadata, query, zone.forwards);
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        response.metadata.response_code = ResponseCode::BADVERS;
        return finish(response);
    }
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if query.query_class() != DNSClass::IN || transfer {
        response.metadata.response_code = ResponseCode::Refused;
        return finish(response);
    }
    let Some(records) = own(query, zone) else {
        if !zone.forwards {
            response.metadata.response_code = ResponseCode::Refused;
            return finish(response);
        }
        return Verdict::Forward(Box::new(Question {
            metadata: message.metadata,
            query: query.clone(),
            edns,
        }));
    };
    response.metadata.authoritative = true;
    if records.is_none() {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    response.add_answers(records.unwrap_or_default());
    if response.answers.is_empty() {
        response.add_authority(zone.soa());
    }
    finish(response)
}

/// `None`: not ours. Otherwise the records of the name, if there is such a name.
fn own(query: &Query, zone: &Zone) -> Option<Option<Vec<Record>>> {
    if zone.internal.zone_of(query.name()) {
        return Some(zone.forward_records(query));
    }
    let range = query.name().parse_arpa_name().ok()?;
    if !is_private(range.addr()) {
        return None;
    }
    // A part of an address is no guest, but may have guests below it.
    if range.prefix_len() < range.max_prefix_len() {
        let below = zone.pointers.keys().any(|address| range.contains(address));
        return Some(below.then(Vec::new));
    }
    Some(zone.pointer_records(query, range.addr()))
}

/// Nobody outside could know names of these (RFC 6303).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            address.is_private() || address.is_link_local() || shared
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn response(metadata: &Metadata, query: &Query, recursive: bool) -> Message {
    let mut message = Message::new(metadata.id, MessageType::Response, metadata.op_code);
    message.metadata = Metadata::response_from_request(metadata);
    message.metadata.recursion_available = recursive;
    message.add_query(query.clone());
    message
}

fn encode(mut message: Message, edns: bool) -> Vec<u8> {
    if edns {
        let mut own = Edns::new();
        own.set_max_payload(PAYLOAD_BYTES);
        message.set_edns(own);
    }
    // Two addresses at most: far below any limit.
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
#[path = "zone/test.rs"]
mod test;
