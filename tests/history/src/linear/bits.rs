//! A small set of small numbers: one word until it must be more.

/// The numbers in the set, as bits; the tail has no trailing zero words, so that
/// equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bits {
    first: u64,
    more: Vec<u64>,
}

impl Bits {
    fn place(number: usize) -> (usize, u64) {
        (number / 64, 1 << (number % 64))
    }

    pub fn has(&self, number: usize) -> bool {
        let (word, bit) = Self::place(number);
        let held = if word == 0 {
            self.first
        } else {
            self.more.get(word - 1).copied().unwrap_or(0)
        };
        held & bit != 0
    }

    pub fn with(&self, number: usize) -> Self {
        let mut set = self.clone();
        let (word, bit) = Self::place(number);
        if word == 0 {
            set.first |= bit;
        } else {
            if set.more.len() < word {
                set.more.resize(word, 0);
            }
            set.more[word - 1] |= bit;
        }
        set
    }

    pub fn without(&self, number: usize) -> Self {
        let mut set = self.clone();
        let (word, bit) = Self::place(number);
        if word == 0 {
            set.first &= !bit;
        } else if let Some(held) = set.more.get_mut(word - 1) {
            *held &= !bit;
            while set.more.last() == Some(&0) {
                set.more.pop();
            }
        }
        set
    }

    /// Whether all of this set is in `other`.
    pub fn within(&self, other: &Self) -> bool {
        self.first & !other.first == 0
            && self
                .more
                .iter()
                .enumerate()
                .all(|(at, word)| word & !other.more.get(at).copied().unwrap_or(0) == 0)
    }
}

#[cfg(test)]
mod test {
    use super::Bits;

    #[test]
    fn equal_sets_are_equal_values() {
        let far = Bits::default().with(3).with(200);
        assert!(far.has(3) && far.has(200) && !far.has(72));
        assert_eq!(far.without(200), Bits::default().with(3));
        assert!(Bits::default().with(3).within(&far));
        assert!(!far.within(&Bits::default().with(3)));
        assert_eq!(far.without(9999), far);
    }
}
