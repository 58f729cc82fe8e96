//! What of a guest's bytes is text: a log must not drive the reader's terminal.
//! Escape sequences (ECMA-48: CSI, OSC and other strings, two-byte escapes)
//! vanish whole; other controls vanish alone.

/// A filter over a log that comes in pieces.
#[derive(Debug, Default)]
pub struct Plain {
    state: Escape,
    /// Begin of a character whose rest has not come yet.
    part: Vec<u8>,
}

impl Plain {
    /// The text of the next piece.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.part);
        all.extend_from_slice(bytes);
        let mut out = String::with_capacity(all.len());
        let mut seen = 0;
        for chunk in all.utf8_chunks() {
            seen += chunk.valid().len() + chunk.invalid().len();
            for c in chunk.valid().chars() {
                self.state = self.state.next(c, &mut out);
            }
            let cut = |bytes| std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none());
            if seen == all.len() && cut(chunk.invalid()) {
                self.part = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                self.state = self.state.next(char::REPLACEMENT_CHARACTER, &mut out);
            }
        }
        out
    }
}

/// The text of a whole log.
pub fn plain(bytes: &[u8]) -> String {
    let mut filter = Plain::default();
    let mut text = filter.feed(bytes);
    if !filter.part.is_empty() {
        filter.state.next(char::REPLACEMENT_CHARACTER, &mut text);
    }
    text
}

/// Where in an escape sequence the reader is.
#[derive(Debug, Clone, Copy, Default)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Started,
    /// ESC and intermediate bytes: one final byte ends it.
    Short,
    /// After ESC [: parameters until a final byte.
    Csi,
    /// After ESC ], P, X, ^ or _: until BEL or ESC \.
    Text,
    /// ESC within such a text: `\` follows if it ends here.
    TextEnd,
}

impl Escape {
    fn next(self, c: char, out: &mut String) -> Self {
        // A newline ends every sequence: a cut one must not swallow the log.
        if c == '\n' {
            out.push(c);
            return Self::None;
        }
        match (self, c) {
            (Self::Text, '\u{1b}') => Self::TextEnd,
            (_, '\u{1b}') => Self::Started,
            (_, '\u{9b}') => Self::Csi,
            (Self::TextEnd, '\\') | (Self::Text, '\u{7}') => Self::None,
            (Self::Text, _) => Self::Text,
            (Self::Started | Self::TextEnd, '[') => Self::Csi,
            (Self::Started | Self::TextEnd, ']' | 'P' | 'X' | '^' | '_') => Self::Text,
            (Self::Started | Self::TextEnd | Self::Short, ' '..='/') => Self::Short,
            (Self::Started | Self::TextEnd | Self::Short, _) => Self::None,
            (Self::Csi, ' '..='?') => Self::Csi,
            (Self::Csi, _) => Self::None,
            (Self::None, '\t') => {
                out.push(c);
                Self::None
            }
            (Self::None, c) => {
                if !c.is_control() {
                    out.push(c);
                }
                Self::None
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn text_stays_and_sequences_go() {
        let table: [(&[u8], &str); 10] = [
            (b"plain\r\nlines\n", "plain\nlines\n"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bPq#0\x1b\\x", "x"),
            (b"\x1b(Bx\x1bc", "x"),
            (b"\x1b[2Jcut \x1b[12", "cut "),
            (b"a\x1b]0;never ended\nb", "a\nb"),
            ("\u{9b}31mc1 and \u{e9}".as_bytes(), "c1 and \u{e9}"),
            (b"\xff\x00bell\x07\ttab", "\u{fffd}bell\ttab"),
        ];
        for (bytes, expected) in table {
            assert_eq!(plain(bytes), expected);
        }
    }

    #[test]
    fn pieces_of_any_length_give_the_same_text() {
        let bytes = "\u{1b}[1;31mr\u{e9}d \u{20ac}\u{1b}[0m \u{1f600}\n".as_bytes();
        let bytes = [bytes, b"\xe2\x82 cut \xf0\x9f"].concat();
        for length in 1..bytes.len() {
            let mut filter = Plain::default();
            let parts = bytes.chunks(length).map(|part| filter.feed(part));
            let text: String = parts.collect();
            assert_eq!(format!("{text}\u{fffd}"), plain(&bytes), "{length}");
        }
    }

    #[test]
    fn no_control_character_survives_any_bytes() {
        let mut seed = 1_u32;
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((seed >> 24) as u8);
        }
        let hostile = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!plain(&bytes).contains(hostile));
    }
}
