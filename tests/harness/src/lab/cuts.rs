//! What the wire does to packets: cuts between members, in one direction or
//! both, and loss. The receiver's packet filter drops; senders notice nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::network::Network;

const TABLE: &str = "inet nube_lab";

/// What is wrong with the wire. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Nothing gets from the first to the second.
    pub one_way: BTreeSet<(String, String)>,
    /// Percent of the packets that these lose on their way in.
    pub loss_percent: BTreeMap<String, u8>,
}

impl Cuts {
    /// Nothing gets from one to the other, nor back.
    pub fn both_ways(&mut self, one: &str, other: &str) {
        self.one_way.insert((one.to_owned(), other.to_owned()));
        self.one_way.insert((other.to_owned(), one.to_owned()));
    }

    /// No member of one group reaches any of the other.
    pub fn between(&mut self, left: &[String], right: &[String]) {
        for one in left {
            for other in right {
                self.both_ways(one, other);
            }
        }
    }

    /// Makes the wire so; what was wrong before is no more.
    pub(super) fn apply(&self, network: &Network) -> anyhow::Result<()> {
        for member in network.members() {
            let mut senders = Vec::new();
            for (from, to) in &self.one_way {
                if to == member {
                    senders.push(network.address(from)?);
                }
            }
            let loss = self.loss_percent.get(member).copied().unwrap_or(0);
            network.rules(member, &rules(&senders, loss))?;
        }
        Ok(())
    }
}

/// Addresses and numbers only: nothing of a user's gets into a rule.
fn rules(senders: &[String], loss_percent: u8) -> String {
    // To name a table before it is deleted makes that harmless.
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\n");
    if senders.is_empty() && loss_percent == 0 {
        return text;
    }
    let mut chain = String::new();
    if !senders.is_empty() {
        let _ = writeln!(chain, "ip saddr {{ {} }} drop", senders.join(", "));
    }
    if loss_percent > 0 {
        let _ = writeln!(chain, "numgen random mod 100 < {loss_percent} drop");
    }
    let hook = "type filter hook input priority -300; policy accept;";
    let _ = write!(
        text,
        "table {TABLE} {{\nchain input {{\n{hook}\niifname \"lo\" accept\n{chain}}}\n}}\n"
    );
    text
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_cut_between_groups_leaves_the_groups_whole() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut cuts = Cuts::default();
        cuts.between(&names(&["a", "b"]), &names(&["c"]));
        let pairs: Vec<_> = cuts
            .one_way
            .iter()
            .map(|(f, t)| format!("{f}{t}"))
            .collect();
        assert_eq!(pairs, ["ac", "bc", "ca", "cb"]);
    }

    #[test]
    fn no_fault_is_no_table() {
        assert_eq!(
            rules(&[], 0),
            "table inet nube_lab\ndelete table inet nube_lab\n"
        );
        let text = rules(&["10.214.0.11".to_owned()], 30);
        assert!(text.contains("ip saddr { 10.214.0.11 } drop"));
        assert!(text.contains("mod 100 < 30 drop"));
    }
}
