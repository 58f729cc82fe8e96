//! A fingerprint of everything that happened: equal seeds must give equal fingerprints, also
//! in another process (A4). On request it tells the events as well, for people.

/// What happened so far.
pub struct Trace {
    hasher: blake3::Hasher,
    events: u64,
    tell: bool,
}

impl Trace {
    /// `tell`: also print each event.
    #[must_use]
    pub fn new(tell: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            events: 0,
            tell,
        }
    }

    /// Notes an event.
    pub fn note(&mut self, now_ms: u64, what: &str, a: u64, b: u64) {
        self.events += 1;
        self.hasher.update(what.as_bytes());
        for number in [now_ms, a, b] {
            self.hasher.update(&number.to_le_bytes());
        }
        if self.tell {
            eprintln!("{now_ms:>8} {what} {a} {b}");
        }
    }

    /// More of an event, for people only.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        if self.tell {
            eprintln!("         | {}", text());
        }
    }

    /// How many events were noted.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The fingerprint.
    #[must_use]
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}
