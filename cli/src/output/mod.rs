//! What the user sees on standard output: one message in five forms. Progress
//! and errors go to standard error, so that a pipe sees the answer alone.

pub mod json;
pub mod progress;
pub mod table;
pub mod text;

use std::io::{IsTerminal, Write};

use prost::{Message, Name};

use crate::args::Format;
use crate::error::{Context, Error, Result};
use table::Look;

/// Where and how answers are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    look: Look,
}

impl Output {
    /// For this process's standard output.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            format,
            look: Look {
                wide: format == Format::Wide,
                terminal,
                color: terminal && wants_color(|name| std::env::var_os(name)),
            },
        }
    }

    /// Which form was asked for.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// How tables look here.
    #[must_use]
    pub fn look(&self) -> Look {
        self.look
    }

    /// Prints `message` for programs, or what `table` makes of it for people.
    pub fn message<M: Message + Name>(
        &self,
        message: &M,
        table: impl FnOnce(Look) -> String,
    ) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide => print(&table(self.look)),
            Format::Json => print(&json::json(message)?),
            Format::Yaml => print(&json::yaml(message)?),
            Format::Csv => Err(Error::usage("-o csv is for `bill` and `bill usage`")),
        }
    }

    /// The same for an answer put together from several messages.
    pub fn value(
        &self,
        value: &serde_json::Value,
        table: impl FnOnce(Look) -> String,
    ) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide => print(&table(self.look)),
            Format::Json => print(&json::json_text(value)?),
            Format::Yaml => print(&json::yaml_text(value)?),
            Format::Csv => Err(Error::usage("-o csv is for `bill` and `bill usage`")),
        }
    }

    /// Like `message`, for answers that also have a spreadsheet form.
    pub fn spreadsheet<M: Message + Name>(
        &self,
        message: &M,
        csv: impl FnOnce() -> Vec<Vec<String>>,
        table: impl FnOnce(Look) -> String,
    ) -> Result<()> {
        if self.format != Format::Csv {
            return self.message(message, table);
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in csv() {
            writer.write_record(&row).context("csv")?;
        }
        let bytes = writer.into_inner().context("csv")?;
        print(&String::from_utf8_lossy(&bytes))
    }

    /// True for table and wide: hints for people may follow.
    #[must_use]
    pub fn for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Refuses csv before anything is done, for commands that change things.
    pub fn refuse_csv(&self) -> Result<()> {
        if self.format == Format::Csv {
            return Err(Error::usage("-o csv is for `bill` and `bill usage`"));
        }
        Ok(())
    }
}

/// no-color.org, and terminals that know no colours.
fn wants_color(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let refused = env("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && env("TERM").is_none_or(|value| value != "dumb")
}

/// Writes text to standard output, with a newline at its end.
pub fn print(text: &str) -> Result<()> {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    print_bytes(format!("{text}{newline}").as_bytes())
}

/// Writes bytes as they are. A reader that has gone away (`| head`) is no
/// failure: it has seen what it wanted.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn colors_are_refused_by_no_color_and_dumb_terminals() {
        let with = |set: &'static [(&str, &str)]| {
            wants_color(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            })
        };
        assert!(with(&[("TERM", "xterm")]));
        assert!(with(&[("NO_COLOR", "")]));
        assert!(!with(&[("NO_COLOR", "1"), ("TERM", "xterm")]));
        assert!(!with(&[("TERM", "dumb")]));
    }
}
