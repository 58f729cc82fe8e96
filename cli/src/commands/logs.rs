//! `logs`: the guest's serial console, made safe for the reader's terminal.

use nube_proto::v1::ReadSerialLogRequest;
use nube_proto::v1::instance_service_client::InstanceServiceClient;

use super::App;
use crate::args::instance::Logs;
use crate::error::Result;
use crate::output;

/// `logs`.
pub async fn run(app: &App, args: Logs) -> Result<()> {
    let client = app.client()?;
    let request = ReadSerialLogRequest {
        instance: args.instance,
        bytes_max: args.bytes,
        follow: false,
    };
    // Read to the end within one attempt: a log that broke off in the middle is
    // fetched anew, not printed twice.
    let read = |channel| {
        let request = request.clone();
        async move {
            let mut client = InstanceServiceClient::new(channel);
            let mut stream = client.read_serial_log(request).await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.message().await? {
                bytes.extend_from_slice(&chunk.data);
                if bytes.len() as u64 > 2 * nube_types::limits::SERIAL_RING_BYTES {
                    return Err(tonic::Status::out_of_range("the log does not end"));
                }
            }
            Ok(tonic::Response::new(bytes))
        }
    };
    let bytes: Vec<u8> = client.call("logs", read).await?;
    if bytes.is_empty() {
        eprintln!("the serial log is empty so far");
        return Ok(());
    }
    if args.raw {
        return output::print_bytes(&bytes);
    }
    output::print(&plain(&bytes))
}

/// What of the guest's bytes is text. Escape sequences (ECMA-48: CSI, OSC and
/// other strings, two-byte escapes) vanish whole; other controls vanish alone.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut state = Escape::None;
    for c in text.chars() {
        state = state.next(c, &mut out);
    }
    out
}

/// Where in an escape sequence the reader is.
#[derive(Clone, Copy)]
enum Escape {
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
