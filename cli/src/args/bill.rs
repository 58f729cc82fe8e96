//! Arguments of `bill`.

use clap::{Args, Subcommand, ValueEnum};

/// What was rented, for how long, and what it costs so far.
///
/// Open usage is counted to the second at which the controllers answered.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  cloudctl bill
  cloudctl bill --by day --from 2026-11-01 --to 2026-11-30
  cloudctl bill --instance web --by line
  cloudctl bill -o csv > bill.csv
  cloudctl bill explain i-00c0ffee00c0ffee/2026-11-22/n1.micro/v1
  cloudctl bill verify")]
pub struct Bill {
    #[command(subcommand)]
    pub verb: Option<BillVerb>,

    #[command(flatten)]
    pub query: Query,
}

/// Which usage, and how it is summed.
#[derive(Debug, Args)]
pub struct Query {
    /// First UTC day, as 2026-11-01. Default: the first of this month.
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub from: Option<String>,

    /// Last UTC day, included. Default: today.
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub to: Option<String>,

    /// Only this instance, name or id.
    #[arg(long, value_name = "NAME", add = crate::complete::instances())]
    pub instance: Option<String>,

    /// One row per instance, per UTC day, or per line of the bill.
    #[arg(long, value_enum, default_value_t)]
    pub by: By,
}

/// How lines are summed for the table. json and yaml always hold the lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    #[default]
    Instance,
    Day,
    Line,
}

/// Looking behind the bill.
#[derive(Debug, Subcommand)]
pub enum BillVerb {
    /// From one line to its intervals, log indexes, price and rounding.
    Explain {
        /// Id of the line, from `cloudctl bill --by line`.
        #[arg(value_name = "LINE")]
        line: String,
    },
    /// Replay the log and compare with the ledger; exit code 1 if not exact.
    Verify,
    /// The ledger itself: each run of each instance.
    Usage,
}

fn parse_day(text: &str) -> Result<String, String> {
    text.parse::<jiff::civil::Date>()
        .map(|day| day.to_string())
        .map_err(|_| "a day has the form 2026-11-22".to_owned())
}
