//! Mutations that keep CBOR whole: flips alone rarely get past a decoder, and what
//! gets past it is what `apply` has to bear. Knows the subset that records are written
//! in: definite lengths, shortest heads.

use crate::mutate::Luck;

const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    3,
    23,
    24,
    255,
    65_536,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];
const TEXTS: [&str; 8] = [
    "",
    "a",
    "-",
    "web",
    "\u{202e}",
    "a\nb",
    "../../x",
    "ssh-ed25519 AAAA",
];

/// One head with what belongs to it alone.
#[derive(Debug, Clone)]
enum Item {
    Number(u64),
    Bytes(Vec<u8>),
    Text(Vec<u8>),
    Bool(bool),
    /// Arrays, maps, null and whatever else: kept.
    Other(u8, u64),
}

fn items(mut bytes: &[u8]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some((head, rest)) = bytes.split_first() {
        let (major, info) = (head >> 5, head & 31);
        let (argument, rest) = match info {
            0..=23 => (u64::from(info), rest),
            24..=27 => {
                let width = 1 << (info - 24);
                let (number, rest) = rest.split_at_checked(width)?;
                (
                    number.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
                    rest,
                )
            }
            _ => return None,
        };
        let length = if matches!(major, 2 | 3) {
            usize::try_from(argument).ok()?
        } else {
            0
        };
        let (payload, rest) = rest.split_at_checked(length)?;
        items.push(match major {
            0 => Item::Number(argument),
            2 => Item::Bytes(payload.to_vec()),
            3 => Item::Text(payload.to_vec()),
            7 if info == 20 || info == 21 => Item::Bool(info == 21),
            _ => Item::Other(major, argument),
        });
        bytes = rest;
    }
    Some(items)
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let wide = argument.to_be_bytes();
    let (info, width) = match argument {
        0..=23 => (argument as u8, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend_from_slice(&wide[8 - width..]);
}

fn write(item: &Item, out: &mut Vec<u8>) {
    match item {
        Item::Number(number) => head(0, *number, out),
        Item::Bytes(bytes) => {
            head(2, bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        Item::Text(text) => {
            head(3, text.len() as u64, out);
            out.extend_from_slice(text);
        }
        Item::Bool(value) => out.push(0xf4 | u8::from(*value)),
        Item::Other(major, argument) => head(*major, *argument, out),
    }
}

/// Format byte and CBOR with a few values replaced; `None` when it is no CBOR.
pub fn mutated(bytes: &[u8], luck: &mut Luck) -> Option<Vec<u8>> {
    let (format, body) = bytes.split_first()?;
    let mut items = items(body)?;
    for _ in 0..=luck.below(3) {
        let at = luck.below(items.len().max(1) as u64) as usize;
        match items.get_mut(at)? {
            Item::Number(number) => *number = NUMBERS[luck.below(NUMBERS.len() as u64) as usize],
            Item::Text(text) => {
                *text = match luck.below(9) {
                    8 => vec![b'x'; 5_000],
                    n => TEXTS[n as usize].as_bytes().to_vec(),
                }
            }
            Item::Bytes(bytes) if luck.below(4) == 0 => bytes.truncate(bytes.len() / 2),
            Item::Bytes(bytes) => bytes.iter_mut().for_each(|byte| *byte ^= 1),
            Item::Bool(value) => *value = !*value,
            Item::Other(..) => {}
        }
    }
    let mut out = vec![*format];
    items.iter().for_each(|item| write(item, &mut out));
    Some(out)
}
