//! Ranges of addresses. Checked when made: no host bits, a length that exists.
//! `ipnet` keeps the arithmetic; here are the rules and the persistent form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use minicbor::{Decode, Encode};

/// Link-local addresses: metadata, resolver and the links to hosts live here.
pub const LINK_LOCAL: Ipv4Prefix = Ipv4Prefix::fixed([169, 254, 0, 0], 16);
/// What hosts call each other inside of networks across hosts (RFC 6598).
pub const TRANSIT: Ipv4Prefix = Ipv4Prefix::fixed([100, 64, 0, 0], 10);
/// Answers metadata (EC2).
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Answers metadata (EC2's address for IPv6).
pub const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Answers names (as in a VPC of EC2).
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// Every guest's IPv6 gateway, on its own link.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// Not `address/length`.
    #[error("`{0}` is not a range of the form 10.0.0.0/24")]
    Form(String),
    /// The address is not the first of its range.
    #[error("`{given}` has host bits set; the range is `{meant}`")]
    HostBits {
        /// As it was given.
        given: String,
        /// The range that it lies in.
        meant: String,
    },
}

fn shown(text: &str) -> String {
    text.chars()
        .take(60)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

/// A range of IPv4 addresses, as `10.0.0.0/24`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Ipv4Prefix {
    #[n(0)]
    base: u32,
    #[n(1)]
    length: u8,
}

impl Ipv4Prefix {
    const fn fixed(octets: [u8; 4], length: u8) -> Self {
        Self {
            base: u32::from_be_bytes(octets),
            length,
        }
    }

    /// The range of this length around an address: host bits are cleared, and a
    /// length above 32 is 32.
    #[must_use]
    pub fn around(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self {
            base: address.to_bits() & mask,
            length,
        }
    }

    /// `None` when bits beyond the length are set or the length does not exist:
    /// for values from records and messages.
    #[must_use]
    pub fn exact(address: Ipv4Addr, length: u8) -> Option<Self> {
        let around = Self::around(address, length);
        (length <= 32 && around.base == address.to_bits()).then_some(around)
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    /// Leading bits that count.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Its last address.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        let host = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
        Ipv4Addr::from_bits(self.base | host)
    }

    /// How many addresses it has.
    #[must_use]
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.length.min(32)))
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.length <= other.length && Self::around(other.address(), self.length) == self
    }

    /// Whether the address lies inside.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        self.contains(Self::around(address, 32))
    }

    /// Whether they share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length)
    }
}

impl FromStr for Ipv4Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let net: Ipv4Net = text.parse().map_err(|_| InvalidPrefix::Form(shown(text)))?;
        if net != net.trunc() {
            return Err(InvalidPrefix::HostBits {
                given: shown(text),
                meant: net.trunc().to_string(),
            });
        }
        Ok(Self::around(net.addr(), net.prefix_len()))
    }
}

/// A range of IPv4 or IPv6 addresses, as rules name it. A single address is a
/// range of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix(IpNet);

impl IpPrefix {
    /// Its first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// Leading bits that count.
    #[must_use]
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether the address lies inside; of another family never.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for IpPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let net: IpNet = text.parse().map_err(|_| InvalidPrefix::Form(shown(text)))?;
        if net != net.trunc() {
            return Err(InvalidPrefix::HostBits {
                given: shown(text),
                meant: net.trunc().to_string(),
            });
        }
        Ok(Self(net))
    }
}

impl<C> Encode<C> for IpPrefix {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?;
        match self.0.addr() {
            IpAddr::V4(address) => e.bytes(&address.octets())?,
            IpAddr::V6(address) => e.bytes(&address.octets())?,
        };
        e.u8(self.0.prefix_len())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for IpPrefix {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let refuse = || minicbor::decode::Error::message("not a range of addresses");
        if d.array()? != Some(2) {
            return Err(refuse());
        }
        let bytes = d.bytes()?;
        let address: IpAddr = match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).map_err(|_| refuse())?.into(),
            16 => <[u8; 16]>::try_from(bytes).map_err(|_| refuse())?.into(),
            _ => return Err(refuse()),
        };
        let net = IpNet::new(address, d.u8()?).map_err(|_| refuse())?;
        if net != net.trunc() {
            return Err(refuse());
        }
        Ok(Self(net))
    }
}

/// A network's own IPv6 addresses are unique local ones (RFC 4193), made of its
/// id: nobody hands them out, and they cannot overlap within a cell by more than
/// the chance that RFC 4193 takes.
#[must_use]
pub fn network_prefix_v6(network: crate::NetworkId) -> Ipv6Addr {
    // 40 bits of the id, which is random; the highest and lowest are mixed, so
    // that ids that differ in few bits differ here.
    let mixed = network.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let bytes = mixed.to_be_bytes();
    Ipv6Addr::from([
        0xfd, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ])
}

/// The IPv6 address beside an IPv4 address in a network: unique there as that is.
/// Subnets share the network's first /64.
#[must_use]
pub fn address_v6(network: crate::NetworkId, address: Ipv4Addr) -> Ipv6Addr {
    let prefix = network_prefix_v6(network).to_bits();
    Ipv6Addr::from_bits(prefix | u128::from(address.to_bits()))
}

/// What a host is called inside of networks: made of its overlay address.
#[must_use]
pub fn transit_address(overlay: Ipv4Addr) -> Ipv4Addr {
    let host = overlay.to_bits() & (u32::MAX >> TRANSIT.length());
    Ipv4Addr::from_bits(TRANSIT.address().to_bits() | host)
}

/// A host's MAC inside of networks: made of its overlay address.
#[must_use]
pub fn transit_mac(overlay: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = overlay.octets();
    [0x06, 0x4e, a, b, c, d]
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ranges_are_exact_or_refused() {
        let range: Ipv4Prefix = "10.1.0.0/16".parse().expect("a range");
        assert_eq!(range.to_string(), "10.1.0.0/16");
        assert_eq!(range.last(), Ipv4Addr::new(10, 1, 255, 255));
        assert_eq!(range.size(), 65_536);
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/24\n",
            "\"/8",
            "::/0",
        ] {
            assert!(
                matches!(bad.parse::<Ipv4Prefix>(), Err(InvalidPrefix::Form(_))),
                "{bad}"
            );
        }
        let error = "10.0.0.1/24".parse::<Ipv4Prefix>().expect_err("host bits");
        assert!(error.to_string().contains("10.0.0.0/24"), "{error}");
        assert_eq!(Ipv4Prefix::exact(Ipv4Addr::new(10, 0, 0, 1), 24), None);
        assert_eq!(Ipv4Prefix::exact(Ipv4Addr::UNSPECIFIED, 33), None);
        assert_eq!(
            Ipv4Prefix::around(Ipv4Addr::new(1, 2, 3, 4), 0).size(),
            1 << 32
        );
    }

    #[test]
    fn nesting_and_overlaps() {
        let range = |text: &str| text.parse::<Ipv4Prefix>().expect("a range");
        assert!(range("10.0.0.0/8").contains(range("10.9.0.0/16")));
        assert!(range("10.9.0.0/16").overlaps(range("10.0.0.0/8")));
        assert!(!range("10.0.0.0/24").overlaps(range("10.0.1.0/24")));
        assert!(TRANSIT.has(transit_address(Ipv4Addr::new(10, 213, 7, 12))));
    }

    #[test]
    fn rules_take_both_families_and_read_back() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "192.0.2.7/32",
            "::/0",
            "fd00::/8",
        ] {
            let range: IpPrefix = text.parse().expect("a range");
            assert_eq!(range.to_string(), text);
            let bytes = minicbor::to_vec(range).expect("a Vec takes every write");
            assert_eq!(minicbor::decode(&bytes).ok(), Some(range));
        }
        let one: IpPrefix = "192.0.2.7".parse().expect("an address");
        assert_eq!(one.to_string(), "192.0.2.7/32");
        assert!("fd00::1/8".parse::<IpPrefix>().is_err());
    }

    #[test]
    fn networks_have_prefixes_of_their_own() {
        let one = network_prefix_v6(crate::NetworkId(1));
        let two = network_prefix_v6(crate::NetworkId(2));
        assert_ne!(one, two);
        let address = address_v6(crate::NetworkId(1), Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!(address.segments()[6..], [0x0a00, 5]);
        assert_eq!(address.octets()[0], 0xfd);
    }
}
