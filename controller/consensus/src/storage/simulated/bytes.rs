//! One simulated file: what its writer sees, what the platter has, what syncs promised.
//!
//! Lives here: pages, sectors and damage of a single file. May not: names. Owned by
//! `storage::simulated`.

use std::collections::BTreeSet;
use std::ops::Range;

use super::SECTOR_BYTES;

/// `cache` is read and written; `platter` survives a power cut. `meant` and `promised` are what the
/// two would hold had no sync lied and no bit flipped: a sector that is changed in one half takes
/// the rot of its other half along, so the sectors themselves cannot tell.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    cache: Vec<u8>,
    platter: Vec<u8>,
    meant: Vec<u8>,
    promised: Vec<u8>,
    /// Sectors written since the last sync.
    changed: BTreeSet<u64>,
    /// Ever damaged: everything else need not be compared.
    suspect: bool,
}

impl Bytes {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self {
            cache: bytes.to_vec(),
            platter: bytes.to_vec(),
            meant: bytes.to_vec(),
            promised: bytes.to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn platter(&self) -> &[u8] {
        &self.platter
    }

    pub(super) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn read(&self) -> Vec<u8> {
        self.cache.clone()
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if self.cache.len() < to {
            self.cache.resize(to, 0);
            self.meant.resize(to, 0);
        }
        self.cache[from..to].copy_from_slice(bytes);
        self.meant[from..to].copy_from_slice(bytes);
        let sectors = from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES);
        self.changed.extend(sectors.map(|sector| sector as u64));
    }

    /// The blocks are given back at once: a file that is made again has no old bytes.
    pub(super) fn truncate(&mut self) {
        *self = Self::default();
    }

    pub(super) fn changed(&self) -> Vec<u64> {
        self.changed.iter().copied().collect()
    }

    pub(super) fn cached_sector(&self, sector: u64) -> Vec<u8> {
        self.cache[span(sector, self.cache.len())].to_vec()
    }

    /// Puts changed sectors on the platter, but those of `spared`; promises all of them.
    pub(super) fn sync(&mut self, spared: &BTreeSet<u64>) {
        let len = self.cache.len();
        self.platter.resize(len, 0);
        self.promised.resize(len, 0);
        for sector in std::mem::take(&mut self.changed) {
            let span = span(sector, len);
            self.promised[span.clone()].copy_from_slice(&self.meant[span.clone()]);
            if spared.contains(&sector) {
                self.suspect = true;
            } else {
                self.platter[span.clone()].copy_from_slice(&self.cache[span]);
            }
        }
    }

    /// A sync failed: the pages count as clean, and nothing was promised.
    pub(super) fn drop_changes(&mut self) {
        self.changed.clear();
    }

    /// Another file's sector lands here.
    pub(super) fn overwrite(&mut self, sector: u64, bytes: &[u8]) {
        self.suspect = true;
        let from = sector as usize * SECTOR_BYTES;
        for (at, byte) in (from..).zip(bytes) {
            if let Some(place) = self.platter.get_mut(at) {
                *place = *byte;
            }
        }
    }

    /// False when the bit is not on the platter, or waits to be written anew.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let at = (bit / 8) as usize;
        if at >= self.platter.len() || self.changed.contains(&((at / SECTOR_BYTES) as u64)) {
            return false;
        }
        self.suspect = true;
        self.platter[at] ^= 1 << (bit % 8);
        if let Some(byte) = self.cache.get_mut(at) {
            *byte = self.platter[at];
        }
        true
    }

    pub(super) fn drop_cache(&mut self) {
        let len = self.cache.len().min(self.platter.len());
        for sector in 0..len.div_ceil(SECTOR_BYTES) as u64 {
            if !self.changed.contains(&sector) {
                let span = span(sector, len);
                self.cache[span.clone()].copy_from_slice(&self.platter[span]);
            }
        }
    }

    /// Any subset of the changed sectors reaches the platter, and the size may be the old one.
    pub(super) fn power_cut(&mut self, random: &mut dyn FnMut() -> u64) {
        let changed = std::mem::take(&mut self.changed);
        let grown = self.cache.len() > self.platter.len() && random().is_multiple_of(2);
        if grown {
            self.platter.resize(self.cache.len(), 0);
            self.promised.resize(self.cache.len(), 0);
        }
        // All, none, or each by its own: whole batches must survive as well as torn ones.
        let mood = random() % 4;
        for sector in changed {
            let span = span(sector, self.platter.len().min(self.cache.len()));
            let kept = match mood {
                0 => false,
                1 => true,
                _ => random().is_multiple_of(2),
            };
            if kept {
                self.platter[span.clone()].copy_from_slice(&self.cache[span.clone()]);
                self.promised[span.clone()].copy_from_slice(&self.meant[span]);
            }
        }
        self.cache.clone_from(&self.platter);
        self.meant.clone_from(&self.promised);
    }

    /// Where the platter breaks a promise.
    pub(super) fn damage(&self) -> Vec<Range<u64>> {
        self.differing(&self.platter)
    }

    /// Where a reader would see that.
    pub(super) fn damage_in_cache(&self) -> Vec<Range<u64>> {
        self.differing(&self.cache)
    }

    fn differing(&self, seen: &[u8]) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        if !self.suspect {
            return ranges;
        }
        for (at, (seen, promised)) in (0_u64..).zip(seen.iter().zip(&self.promised)) {
            let rewritten = || self.changed.contains(&(at / SECTOR_BYTES as u64));
            if seen == promised || rewritten() {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => ranges.push(at..at + 1),
            }
        }
        ranges
    }
}

fn span(sector: u64, len: usize) -> Range<usize> {
    let from = sector as usize * SECTOR_BYTES;
    from.min(len)..(from + SECTOR_BYTES).min(len)
}
