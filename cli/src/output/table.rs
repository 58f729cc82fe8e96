//! Tables: plain columns two spaces apart, without lines, so that both eyes and
//! `awk` can read them. On a terminal they are folded to its width; in a pipe
//! each row stays one line.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table as Comfy};

use super::text::escape;

/// How a table may look here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Every column, whatever the width.
    pub wide: bool,
    /// Standard output is a terminal.
    pub terminal: bool,
    /// A terminal that wants colours.
    pub color: bool,
}

/// How a value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
}

/// A text in the colour of its meaning, where colours are wanted. The text must
/// be escaped already.
#[must_use]
pub fn paint(look: Look, text: &str, tone: Tone) -> String {
    let code = match tone {
        _ if !look.color => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Busy => 33,
        Tone::Bad => 31,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// One value of a row.
#[derive(Debug, Clone)]
pub struct Value {
    text: String,
    tone: Tone,
}

impl Value {
    /// A value with a meaning.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Value {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Where a column's values stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    look: Look,
    columns: Vec<(&'static str, Side, bool)>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// A header from words: `>` before a word puts the column to the right (for
    /// numbers), `+` shows it only with `-o wide`.
    #[must_use]
    pub fn new(look: Look, header: &[&'static str]) -> Self {
        let column = |word: &&'static str| {
            let wide_only = word.starts_with('+');
            let word = word.trim_start_matches('+');
            let side = if word.starts_with('>') {
                Side::Right
            } else {
                Side::Left
            };
            (word.trim_start_matches('>'), side, wide_only)
        };
        Self {
            look,
            columns: header.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one value for each word of the header.
    pub fn row<const N: usize>(&mut self, values: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "one value per column");
        self.rows.push(values.into());
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, or `nothing` when there are no rows.
    #[must_use]
    pub fn render_or(&self, nothing: &str) -> String {
        if self.is_empty() {
            format!("{nothing}\n")
        } else {
            self.render()
        }
    }

    /// The text, each line ended.
    #[must_use]
    pub fn render(&self) -> String {
        let shown = |column: &(&str, Side, bool)| self.look.wide || !column.2;
        let keep: Vec<bool> = self.columns.iter().map(shown).collect();
        let mut table = Comfy::new();
        table.load_style(comfy_table::presets::NOTHING);
        let fold = self.look.terminal && !self.look.wide;
        table.set_content_arrangement(match fold {
            true => ContentArrangement::Dynamic,
            false => ContentArrangement::Disabled,
        });
        if self.look.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        // `force_no_tty` also hides the width: say it.
        if fold && !self.look.color {
            table.set_width(Comfy::new().width().unwrap_or(80));
        }
        let header = self.columns.iter().map(|column| column.0);
        table.set_header(pick(&keep, header));
        for row in &self.rows {
            let cells = row.iter().map(|value| self.cell(value));
            table.add_row(pick(&keep, cells));
        }
        let sides = pick(&keep, self.columns.iter().map(|column| column.1));
        for (column, side) in table.column_iter_mut().zip(sides) {
            column.set_padding((0, 2));
            if side == Side::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{}\n", table.trim_fmt())
    }

    fn cell(&self, value: &Value) -> Cell {
        let cell = Cell::new(escape(&value.text));
        match value.tone {
            _ if !self.look.color => cell,
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Busy => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red),
        }
    }
}

/// `name   value` lines: one thing, field by field.
#[derive(Debug, Default)]
pub struct Fields {
    lines: Vec<(&'static str, String)>,
}

impl Fields {
    /// Adds a field; empty values are left out.
    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.lines.push((name, value));
        }
    }

    /// The text, names padded to one width.
    #[must_use]
    pub fn render(&self) -> String {
        let width = self.lines.iter().map(|line| line.0.len()).max();
        let width = width.unwrap_or(0);
        let line = |(name, value): &(&str, String)| format!("{name:width$}  {}\n", escape(value));
        self.lines.iter().map(line).collect()
    }
}

fn pick<T>(keep: &[bool], all: impl Iterator<Item = T>) -> Vec<T> {
    all.zip(keep)
        .filter_map(|(value, keep)| keep.then_some(value))
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;

    fn sample(look: Look) -> String {
        let mut table = Table::new(look, &["NAME", ">PRICE", "STATE", "+ID"]);
        table.row([
            "web".into(),
            "0.0020".into(),
            "running".into(),
            "i-1".into(),
        ]);
        let bad = Value::new("failed\u{1b}[0m", Tone::Bad);
        table.row(["database".into(), "12.5".into(), bad, "i-2".into()]);
        table.render()
    }

    #[test]
    fn columns_align_and_control_characters_are_escaped() {
        assert_eq!(
            sample(Look::default()),
            "NAME       PRICE  STATE\n\
             web       0.0020  running\n\
             database    12.5  failed\\u{1b}[0m\n"
        );
    }

    #[test]
    fn wide_shows_every_column_and_color_only_where_wanted() {
        let wide = Look {
            wide: true,
            ..Look::default()
        };
        assert!(sample(wide).contains("i-2"));
        assert!(!sample(wide).contains('\u{1b}'));
        let color = Look {
            terminal: true,
            color: true,
            wide: true,
        };
        assert!(sample(color).contains('\u{1b}'));
    }

    #[test]
    fn fields_align() {
        let mut fields = Fields::default();
        fields.add("id", "i-1");
        fields.add("reason", "");
        fields.add("address", "10.0.0.2");
        assert_eq!(fields.render(), "id       i-1\naddress  10.0.0.2\n");
    }
}
