//! Arguments of `principal` and `access-key`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::complete;

/// People and programs that act, and what each may do where.
#[derive(Debug, Subcommand)]
pub enum Principal {
    /// Make a principal without any role. Needs admin of the cell.
    #[command(after_help = "Then: cloudctl principal role NAME member --project PROJECT")]
    Create {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
        /// A program, not a person.
        #[arg(long)]
        service: bool,
    },
    /// List principals and their roles.
    #[command(visible_alias = "ls")]
    List,
    /// Show one principal.
    Show {
        /// Name or id.
        #[arg(add = complete::principals())]
        name: String,
    },
    /// Give a role in one place, or take it away.
    ///
    /// The place is --project (else the context's, else your own), or --cell.
    /// Each role in a project includes those below it: viewer reads, member also
    /// creates and deletes, admin also manages people and keys. In the cell:
    /// operator tends hosts and controllers and reads every project, admin does
    /// everything.
    #[command(after_help = "Examples:
  cloudctl principal role alice member --project web
  cloudctl principal role alice none --project web
  cloudctl principal role bob operator --cell")]
    Role {
        /// Name or id.
        #[arg(add = complete::principals())]
        name: String,
        /// What one may do there.
        #[arg(value_enum)]
        role: Role,
        /// In the cell, not in a project.
        #[arg(long)]
        cell: bool,
    },
    /// Delete a principal; its access keys end with it.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::principals())]
        name: String,
    },
}

/// What one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Viewer,
    Member,
    Operator,
    Admin,
    /// Takes the role away.
    None,
}

/// How principals prove themselves without a certificate.
#[derive(Debug, Subcommand)]
pub enum AccessKey {
    Create(CreateAccessKey),
    /// List keys: an admin's view, or your own.
    #[command(visible_alias = "ls")]
    List,
    /// Delete a key; refused everywhere from then on.
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id.
        #[arg(value_name = "KEY", add = complete::access_keys())]
        access_key: String,
    },
}

/// Make an access key; its secret is shown once.
///
/// For --project (else the context's, else your own), or the cell. A key never
/// allows more than its principal's role there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl access-key create --principal ci --role member --project web \\
      --ttl 90d --save ci.token
  cloudctl access-key create --role viewer")]
pub struct CreateAccessKey {
    /// Whose key, name or id. Default: yours.
    #[arg(long, value_name = "NAME", add = complete::principals())]
    pub principal: Option<String>,

    /// The most that the key may do.
    #[arg(long, value_enum)]
    pub role: KeyRole,

    /// For the cell, not for a project.
    #[arg(long)]
    pub cell: bool,

    /// How long it is accepted, as 3600s, 30m, 12h or 90d; a minute to a year,
    /// or `never`: until it is deleted.
    #[arg(long, value_name = "TIME", default_value = "never", value_parser = parse_ttl)]
    pub ttl: Duration,

    /// Save the secret in this new file, for you alone, instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyRole {
    Viewer,
    Member,
    Operator,
    Admin,
}

/// Zero stands for a key that never ends.
fn parse_ttl(text: &str) -> Result<Duration, String> {
    const YEAR_SECONDS: u64 = 365 * 86_400;
    let rule = || "a minute to a year, as 3600s, 30m, 12h or 90d; or `never`".to_owned();
    if text == "never" {
        return Ok(Duration::ZERO);
    }
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(rule()),
    };
    let count = text[..text.len() - 1].parse::<u64>().map_err(|_| rule())?;
    match count.checked_mul(unit) {
        Some(seconds @ 60..=YEAR_SECONDS) => Ok(Duration::from_secs(seconds)),
        _ => Err(rule()),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit_and_limits() {
        assert_eq!(parse_ttl("90d"), Ok(Duration::from_secs(7_776_000)));
        assert_eq!(parse_ttl("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_ttl("never"), Ok(Duration::ZERO));
        for bad in [
            "",
            "90",
            "59s",
            "366d",
            "d",
            "-1d",
            "99999999999999999999d",
            "5\u{e9}",
        ] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}
