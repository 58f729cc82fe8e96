//! What guests ask their network's services: nothing of it may stop an agent, and
//! nothing but what is theirs comes back.

use std::sync::{Arc, LazyLock};

use nube_agent::driver::GuestSpec;
use nube_agent::instance::Desire;
use nube_agent::{convert, service::probe};

use crate::seeds;

const ETHERNET_BYTES: usize = 1_500;

/// The guest that asks.
static GUEST: LazyLock<Arc<GuestSpec>> = LazyLock::new(|| {
    let wish = convert::wish(seeds::wish()).expect("a valid wish");
    let Desire::Running(spec) = wish.desire else {
        panic!("a wish to run");
    };
    spec
});

/// One connection to the metadata service.
pub fn metadata(bytes: &[u8]) {
    let answer = probe::metadata(bytes, &GUEST);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1."),
        "{answer:?}"
    );
    // Paths are compared as they come: only these two words lead to secrets.
    let asks = |word: &[u8]| holds(&bytes.to_ascii_lowercase(), word);
    if !asks(b"nocloud/") && !asks(b"x-aws-ec2-metadata-token") {
        assert!(!holds(&answer, &GUEST.user_data), "user-data for nobody");
        let key = GUEST.ssh_host_private_key.as_bytes();
        assert!(!holds(&answer, key), "the host key for nobody");
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// One datagram to the servers of addresses: answers are to this question, and
/// give this guest's address or none.
pub fn addresses(bytes: &[u8]) {
    let [v4, v6] = probe::addresses(bytes, &GUEST);
    let port = &GUEST.port;
    if let Some(answer) = v4 {
        assert!((240..=ETHERNET_BYTES).contains(&answer.len()));
        assert_eq!((answer[0], &answer[4..8]), (2, &bytes[4..8]));
        assert_eq!(answer[28..34], port.mac);
        let given = &answer[16..20];
        assert!(
            [[0; 4], port.address.octets()].contains(given.first_chunk().expect("four")),
            "{given:?}"
        );
    }
    if let Some(answer) = v6 {
        assert!((4..=ETHERNET_BYTES).contains(&answer.len()));
        // Advertise or reply.
        assert!(matches!(answer[0], 2 | 7), "{answer:?}");
        assert_eq!(answer[1..4], bytes[1..4]);
    }
}

/// One question about a name: with and without a way to the internet.
pub fn names(bytes: &[u8]) {
    for internet_gateway in [false, true] {
        let Some(answer) = probe::names(bytes, &GUEST, internet_gateway) else {
            continue;
        };
        assert!(answer.len() >= 12, "{answer:?}");
        assert_eq!(answer[..2], bytes[..2], "the question's number");
        assert_ne!(answer[2] & 0x80, 0, "an answer, not a question");
    }
}

/// What these targets begin with.
pub mod seed {
    use super::{GUEST, probe};

    /// Requests; the token is one that this guest was given.
    #[must_use]
    pub fn metadata() -> Vec<Vec<u8>> {
        let ask = |line: &str, headers: &str| {
            format!("{line} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}\r\n").into_bytes()
        };
        let put = ask(
            "PUT /latest/api/token",
            "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n",
        );
        let answer = String::from_utf8(probe::metadata(&put, &GUEST)).expect("text");
        let (_, token) = answer.split_once("\r\n\r\n").expect("a body");
        let token = format!("X-aws-ec2-metadata-token: {token}\r\n");
        let mut all = vec![put];
        for path in [
            "meta-data/",
            "meta-data/nube/ssh-host-key",
            "meta-data/public-keys/0/openssh-key",
            "user-data",
            "dynamic/instance-identity/document",
        ] {
            all.push(ask(&format!("GET /latest/{path}"), &token));
        }
        all.push(ask("GET /latest/user-data", ""));
        all.push(ask("GET /nocloud/vendor-data", ""));
        all.push(ask("GET /latest/", "X-Forwarded-For: 10.0.0.9\r\n"));
        all.push(b"GET /latest/meta-data/ HTTP/1.0\r\n\r\n".to_vec());
        all
    }

    /// DHCP's and DHCPv6's questions.
    #[must_use]
    pub fn addresses() -> Vec<Vec<u8>> {
        let port = &GUEST.port;
        let v4 = |options: &[&[u8]]| {
            let mut bytes = vec![0; 236];
            bytes[..8].copy_from_slice(&[1, 1, 6, 0, 0xca, 0xfe, 0, 1]);
            bytes[28..34].copy_from_slice(&port.mac);
            bytes.extend([99, 130, 83, 99]);
            bytes.extend(options.concat());
            bytes.push(255);
            bytes
        };
        let wanted = [&[50, 4][..], &port.address.octets()].concat();
        let v6 = |kind: u8| {
            let client = [&[0, 1, 0, 10, 0, 3, 0, 1][..], &port.mac].concat();
            let address = [&[0, 3, 0, 12, 0, 0, 0, 7][..], &[0; 8]].concat();
            let wants: &[u8] = &[0, 6, 0, 4, 0, 23, 0, 24];
            [&[kind, 0, 0, 9], client.as_slice(), &address, wants].concat()
        };
        vec![
            v4(&[&[53, 1, 1], &[55, 3, 1, 3, 121]]),
            v4(&[&[53, 1, 3], &wanted]),
            v4(&[&[53, 1, 3], &[50, 4, 10, 0, 0, 9]]),
            v6(1),
            v6(3),
            v6(11),
        ]
    }

    /// Questions for names.
    #[must_use]
    pub fn names() -> Vec<Vec<u8>> {
        const A: u8 = 1;
        const PTR: u8 = 12;
        const AAAA: u8 = 28;
        let ask = |name: &str, kind: u8, extended: bool| {
            let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(extended)];
            for label in name.split('.') {
                bytes.push(u8::try_from(label.len()).expect("a label"));
                bytes.extend(label.bytes());
            }
            bytes.extend([0, 0, kind, 0, 1]);
            if extended {
                bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
            }
            bytes
        };
        vec![
            ask("web.net.internal", A, false),
            ask("web.net.internal", AAAA, true),
            ask("nobody.net.internal", A, false),
            ask("5.0.0.10.in-addr.arpa", PTR, false),
            ask("example.com", A, true),
        ]
    }
}
