//! Arguments of `node`.

use clap::Subcommand;

use crate::complete;

/// Hosts that run instances.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Capacity, accelerator and state of each host.
    #[command(visible_alias = "ls")]
    List,
    /// Show one host.
    Show {
        /// Name or id.
        #[arg(add = complete::nodes())]
        node: String,
    },
    /// Let one more host join: prints a one-time token, good for ten minutes, and
    /// the command to use it with. The name of a silent host gives its identity
    /// to a new installation.
    Add {
        /// RFC 1123 label, unique among the hosts.
        name: String,
    },
    /// Take no new instances; running ones stay.
    Drain {
        /// Name or id.
        #[arg(add = complete::nodes())]
        node: String,
    },
    /// Take instances again.
    Uncordon {
        /// Name or id.
        #[arg(add = complete::nodes())]
        node: String,
    },
    /// Set labels of a host (KEY=VALUE), or remove them (KEY-).
    ///
    /// They count together with those the host's agent reports, and win over
    /// them.
    #[command(after_help = "Example: cloudctl node label node-1 disk=ssd rack=b2 old-")]
    Label {
        /// Name or id.
        #[arg(add = complete::nodes())]
        node: String,
        /// What to set or to remove.
        #[arg(value_name = "KEY=VALUE|KEY-", required = true, value_parser = parse_label_edit)]
        labels: Vec<LabelEdit>,
    },
}

/// One change of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelEdit {
    Set(String, String),
    Remove(String),
}

fn parse_label_edit(text: &str) -> Result<LabelEdit, String> {
    if let Ok((key, value)) = super::parse_label(text) {
        return Ok(LabelEdit::Set(key, value));
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() && !key.contains('=') => Ok(LabelEdit::Remove(key.to_owned())),
        _ => Err("KEY=VALUE sets a label, KEY- removes it".to_owned()),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let set = |key: &str, value: &str| Ok(LabelEdit::Set(key.into(), value.into()));
        assert_eq!(parse_label_edit("disk=ssd"), set("disk", "ssd"));
        assert_eq!(parse_label_edit("a=b-"), set("a", "b-"));
        assert_eq!(
            parse_label_edit("old-"),
            Ok(LabelEdit::Remove("old".into()))
        );
        for bad in ["", "-", "=x", "old", "=-"] {
            let outcome = parse_label_edit(bad);
            assert!(outcome.is_err(), "{bad}: {outcome:?}");
        }
    }
}
