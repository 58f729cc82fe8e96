//! Seeded mutations for the replay in CI: the same seed, the same bytes.

/// A small generator; equal seeds, equal draws.
#[derive(Debug, Clone)]
pub struct Luck(u64);

impl Luck {
    /// Of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a bound that is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

/// Words that parsers stumble over.
const WORDS: [&[u8]; 12] = [
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80",
    b"\"",
    b"command=\"x\" ",
    b"[[",
    b"= 99999999999999999999",
    b"\xe2\x80\xae",
    b"0.0.0.0:0",
];

/// These bytes with one to four changes. `other` is another seed to splice with.
#[must_use]
pub fn mutated(bytes: &[u8], other: &[u8], luck: &mut Luck) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=luck.below(4) {
        let at = luck.below(bytes.len() as u64 + 1) as usize;
        match luck.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, luck.below(256) as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << luck.below(8),
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][luck.below(5) as usize],
            4 => {
                let word = WORDS[luck.below(WORDS.len() as u64) as usize];
                bytes.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = (at + luck.below(16) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let end = (at + luck.below(64) as usize).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let from = luck.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}
