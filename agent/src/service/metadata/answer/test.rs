//! Requests, and what each is answered: who is refused, and what is found where.

use std::net::Ipv4Addr;

use super::*;
use crate::network::spec::{ElasticSpec, ElasticTarget, NetworkSpec};
use crate::service::metadata::tree::HOST_KEY_SHOWN_MS;
use crate::service::test::guest;
use crate::service::{GuestSpec, probe};

const NOW: u64 = 500_000;
const HOST: (&str, &str) = ("host", "169.254.169.254");

struct Bench {
    guest: GuestSpec,
    network: NetworkSpec,
    age_ms: Option<u64>,
    tokens: Tokens,
}

impl Bench {
    fn new() -> Self {
        let guest = guest(5);
        let mut network = probe::network(&guest, true);
        let target = ElasticTarget::Instance(guest.instance);
        let elastic = ElasticSpec {
            target,
            announced: true,
        };
        let public = Ipv4Addr::new(203, 0, 113, 7);
        network.elastic.insert(public, elastic);
        Self {
            guest,
            network,
            age_ms: Some(0),
            tokens: Tokens::new(&[1; 32]),
        }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let about = About {
            guest: &self.guest,
            network: &self.network,
            zone: Some("east-1"),
            run_age_ms: self.age_ms,
        };
        let request = request.body(()).expect("a request");
        let response = answer(&request, &about, &self.tokens, NOW);
        let status = response.status().as_u16();
        let text = String::from_utf8(response.into_body()).expect("utf-8");
        (status, text)
    }

    fn token(&self) -> String {
        let (status, token) = self.ask("PUT", "/latest/api/token", &[HOST, (TOKEN_TTL, "60")]);
        assert_eq!(status, 200);
        token
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &[HOST, (TOKEN, &self.token())])
    }
}

#[test]
fn a_token_takes_a_put_with_its_header() {
    let bench = Bench::new();
    let put = |headers: &[(&str, &str)]| bench.ask("PUT", "/latest/api/token", headers).0;
    for good in ["1", "60", "21600"] {
        assert_eq!(put(&[HOST, (TOKEN_TTL, good)]), 200, "{good}");
    }
    for bad in ["0", "21601", "-1", "+5", "", "1.5", " 5", "99999999999"] {
        assert_eq!(put(&[HOST, (TOKEN_TTL, bad)]), 400, "{bad}");
    }
    assert_eq!(put(&[HOST]), 400);
    assert_eq!(put(&[HOST, (TOKEN_TTL, "5"), (TOKEN_TTL, "5")]), 400);
    let get = bench.ask("GET", "/latest/api/token", &[HOST, (TOKEN_TTL, "60")]);
    assert_eq!(get.0, 405);
}

#[test]
fn nothing_is_read_without_a_token_of_this_guest() {
    let bench = Bench::new();
    let read = |token: &str| {
        let headers = [HOST, (TOKEN, token)];
        bench
            .ask("GET", "/latest/meta-data/instance-id", &headers)
            .0
    };
    assert_eq!(read(&bench.token()), 200);
    let (guest, tokens) = (&bench.guest, &bench.tokens);
    let foreign = tokens.issue(nube_types::InstanceId(99), guest.epoch, NOW, 60);
    assert_eq!(read(&foreign), 401);
    let over = tokens.issue(guest.instance, guest.epoch, NOW - 60_000, 60);
    assert_eq!(read(&over), 401);
    assert_eq!(read(""), 401);
    for path in ["/", "/latest/user-data", "/latest/meta-data/", "/none"] {
        assert_eq!(bench.ask("GET", path, &[HOST]).0, 401, "{path}");
    }
}

#[test]
fn proxies_other_names_bodies_and_methods_are_refused() {
    let bench = Bench::new();
    let token = bench.token();
    let path = "/latest/meta-data/instance-id";
    for proxied in ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"] {
        let headers = [HOST, (TOKEN, token.as_str()), (proxied, "192.0.2.1")];
        assert_eq!(bench.ask("GET", path, &headers).0, 403, "{proxied}");
        let headers = [HOST, (TOKEN_TTL, "60"), (proxied, "")];
        assert_eq!(bench.ask("PUT", "/latest/api/token", &headers).0, 403);
        assert_eq!(bench.ask("GET", "/nocloud/user-data", &headers).0, 403);
    }
    let table = [
        ("169.254.169.254", 200),
        ("169.254.169.254:80", 200),
        ("[fd00:ec2::254]", 200),
        ("[fd00:ec2::254]:80", 200),
        ("evil.example", 403),
        ("169.254.169.254:8080", 403),
        ("10.0.0.1", 403),
        ("fd00:ec2::254", 403),
        ("[::1]", 403),
        ("", 403),
    ];
    for (host, status) in table {
        let headers = [("host", host), (TOKEN, token.as_str())];
        assert_eq!(bench.ask("GET", path, &headers).0, status, "{host}");
    }
    assert_eq!(bench.ask("GET", path, &[(TOKEN, &token)]).0, 400);
    let twice = [HOST, HOST, (TOKEN, token.as_str())];
    assert_eq!(bench.ask("GET", path, &twice).0, 400);
    let absolute = format!("http://169.254.169.254{path}");
    assert_eq!(bench.ask("GET", &absolute, &[HOST, (TOKEN, &token)]).0, 400);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH"] {
        assert_eq!(bench.ask(method, path, &[HOST, (TOKEN, &token)]).0, 405);
    }
    for body in [("content-length", "1"), ("transfer-encoding", "chunked")] {
        let headers = [HOST, (TOKEN, token.as_str()), body];
        assert_eq!(bench.ask("GET", path, &headers).0, 413, "{body:?}");
    }
    let long = format!("/latest/{}", "x".repeat(600));
    assert_eq!(bench.get(&long).0, 414);
}

#[test]
fn the_tree_is_what_cloud_init_reads() {
    let bench = Bench::new();
    let mac = "network/interfaces/macs/02:00:00:00:00:05";
    let table = [
        (
            "",
            "ami-id\nhostname\ninstance-id\nlocal-hostname\nlocal-ipv4\nmac\nnetwork/\nplacement/\npublic-ipv4\npublic-keys/",
        ),
        ("instance-id", "i-0000000000001005"),
        ("local-hostname", "guest-5.net.internal"),
        ("local-ipv4", "10.0.0.5"),
        ("public-ipv4", "203.0.113.7"),
        ("placement/", "availability-zone"),
        ("placement/availability-zone", "east-1"),
        ("public-keys/", "0=key-0\n1=key-1"),
        ("public-keys", "0=key-0\n1=key-1"),
        ("public-keys/0", "openssh-key"),
        ("public-keys/1/", "openssh-key"),
        ("public-keys/0/openssh-key", "ssh-ed25519 AAAA a"),
        ("network/interfaces/macs/", "02:00:00:00:00:05/"),
        (&format!("{mac}/device-number"), "0"),
        (&format!("{mac}/subnet-ipv4-cidr-block"), "10.0.0.0/16"),
        (&format!("{mac}/ipv6s"), "fd00:1::5"),
        (&format!("{mac}/local-ipv4s"), "10.0.0.5"),
    ];
    for version in VERSIONS {
        for (path, value) in &table {
            let found = bench.get(&format!("/{version}/meta-data/{path}"));
            assert_eq!(found, (200, (*value).to_owned()), "{path}");
        }
    }
    for path in [
        "instance-id/",
        "public",
        "public-keys/2",
        "none",
        "../user-data",
        "nube",
        "nube/",
    ] {
        let found = bench.get(&format!("/latest/meta-data/{path}"));
        assert_eq!(found.0, 404, "{path}");
    }
    assert_eq!(bench.get("/latest/user-data").1, "#!/bin/sh\n");
    assert_eq!(bench.get("//latest//user-data").0, 404);
    assert_eq!(bench.get("/1999-01-01/meta-data/").0, 404);
    assert_eq!(bench.get("/latest/").1, "dynamic\nmeta-data\nuser-data");
    let (_, document) = bench.get("/2021-03-23/dynamic/instance-identity/document");
    let document: serde_json::Value = serde_json::from_str(&document).expect("json");
    assert_eq!(document["instanceId"], "i-0000000000001005");
    assert_eq!(document["availabilityZone"], "east-1");
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut bench = Bench::new();
    bench.guest.user_data.clear();
    bench.guest.authorized_keys.clear();
    bench.network.elastic.clear();
    for path in [
        "user-data",
        "meta-data/public-ipv4",
        "meta-data/public-keys/",
    ] {
        assert_eq!(bench.get(&format!("/latest/{path}")).0, 404, "{path}");
    }
    assert_eq!(bench.get("/latest").1, "dynamic\nmeta-data");
}

#[test]
fn the_host_key_is_for_young_runs_and_in_no_listing() {
    let mut bench = Bench::new();
    let table = [
        (Some(0), true),
        (Some(HOST_KEY_SHOWN_MS - 1), true),
        (Some(HOST_KEY_SHOWN_MS), false),
        (None, false),
    ];
    for (age_ms, shown) in table {
        bench.age_ms = age_ms;
        let (status, text) = bench.get("/latest/meta-data/nube/ssh-host-key");
        assert_eq!(status == 200, shown, "{age_ms:?}");
        assert_eq!(text.contains("-----BEGIN"), shown);
        let (status, vendor) = bench.ask("GET", "/nocloud/vendor-data", &[HOST]);
        assert_eq!(status, 200);
        assert_eq!(vendor.contains("    -----BEGIN"), shown, "{vendor}");
        assert!(!bench.get("/latest/meta-data/").1.contains("nube"));
    }
}

#[test]
fn nocloud_needs_no_token() {
    let bench = Bench::new();
    let get = |name: &str| bench.ask("GET", &format!("/nocloud/{name}"), &[HOST]);
    assert!(
        get("meta-data")
            .1
            .starts_with("instance-id: i-0000000000001005\n")
    );
    assert!(get("network-config").1.contains("10.0.0.5/16"));
    assert_eq!(get("user-data"), (200, "#!/bin/sh\n".to_owned()));
    assert_eq!(get("other").0, 404);
    assert_eq!(bench.ask("POST", "/nocloud/meta-data", &[HOST]).0, 405);
    assert_eq!(
        bench
            .ask("GET", "/nocloud/meta-data", &[("host", "x.example")])
            .0,
        403
    );
}

#[test]
fn bytes_become_one_answer_through_the_server() {
    let guest = guest(5);
    let bytes = b"PUT /latest/api/token HTTP/1.0\r\nHost: 169.254.169.254\r\n\
        X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
    let text = String::from_utf8(probe::metadata(bytes, &guest)).expect("utf-8");
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    let (_, token) = text.rsplit_once("\r\n\r\n").expect("a body");
    let read = format!(
        "GET /latest/meta-data/mac HTTP/1.1\r\nHost: 169.254.169.254\r\n\
         X-aws-ec2-metadata-token: {token}\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    );
    let text = String::from_utf8(probe::metadata(read.as_bytes(), &guest)).expect("utf-8");
    assert!(text.ends_with("\r\n\r\n02:00:00:00:00:05"), "{text}");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(40));
    let text = String::from_utf8(probe::metadata(many.as_bytes(), &guest)).expect("utf-8");
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
}
