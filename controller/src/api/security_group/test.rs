//! Rules as people get them wrong: each is refused by field and rule.

use super::*;

fn good() -> v1::SecurityRule {
    v1::SecurityRule {
        direction: v1::TrafficDirection::Ingress.into(),
        protocol: "tcp".to_owned(),
        port_min: 80,
        port_max: 80,
        cidr: "0.0.0.0/0".to_owned(),
        ..v1::SecurityRule::default()
    }
}

fn told(spoil: impl FnOnce(&mut v1::SecurityRule)) -> String {
    let mut message = good();
    spoil(&mut message);
    match rule(&State::default(), ProjectId(1), &message) {
        Ok(rule) => format!("{rule:?}"),
        Err(status) => status.message().to_owned(),
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_by_field_and_rule() {
    let reversed = told(|rule| rule.port_max = 79);
    assert_eq!(
        reversed,
        "rule.port_max: 79 is below port_min 80: the ports are reversed"
    );
    assert!(told(|rule| rule.port_max = 65_536).starts_with("rule.port_max: 65536 is not a port"));
    assert!(told(|rule| rule.port_min = 0).starts_with("rule.port_min: 0 is not a port"));
    assert!(told(|rule| rule.protocol = "icmp".into()).starts_with("rule.port_min: `icmp` has no"));
    assert_eq!(
        told(|rule| rule.protocol = "tcp\",drop".into()),
        "rule.protocol: tcp, udp, icmp or any"
    );
    assert_eq!(
        told(|rule| rule.cidr = "10.0.0.1/24".into()),
        "rule.cidr: `10.0.0.1/24` has host bits set; the range is `10.0.0.0/24`"
    );
    let hostile = told(|rule| rule.cidr = "0.0.0.0/0;\n\"drop'".into());
    assert!(
        hostile.starts_with("rule.cidr: ") && !hostile.contains('\n'),
        "{hostile}"
    );
    assert_eq!(
        told(|rule| rule.cidr.clear()),
        "rule.cidr: required: a range or a group"
    );
    assert_eq!(
        told(|rule| rule.group = "default".into()),
        "rule.group: a range or a group, not both"
    );
    assert_eq!(
        told(|rule| rule.direction = 0),
        "rule.direction: ingress or egress"
    );
    assert_eq!(
        told(|rule| rule.direction = 99),
        "rule.direction: ingress or egress"
    );
    let absent = told(|rule| {
        rule.cidr.clear();
        rule.group = "we\n\"b".into();
    });
    assert_eq!(absent, "security group `we\\n\\\"b` not found");
}

#[test]
fn good_rules_pass_in_both_families() {
    for cidr in ["0.0.0.0/0", "::/0", "192.0.2.7", "fd00::/8"] {
        let told = told(|rule| rule.cidr = cidr.to_owned());
        assert!(told.starts_with("SecurityRule"), "{told}");
    }
    let all = told(|rule| (rule.port_min, rule.port_max) = (0, 0));
    assert!(all.contains("port_min: 0"), "{all}");
}
