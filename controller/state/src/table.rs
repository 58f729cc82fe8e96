//! A table of records: ordered, cheap to copy as a view, hashed as it changes.
//!
//! Three things happen in the same place so that they cannot drift: the record
//! changes, the table's digest changes, and the change is noted for the store.
//! The digest is a sum over hashed records (order does not matter), so equal
//! contents give equal digests whatever way they came about.

use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};

/// A key as bytes that sort like the key: the store keeps one ordered space.
pub trait KeyBytes {
    /// Appends the key, big-endian.
    fn append_to(&self, bytes: &mut Vec<u8>);
}

impl KeyBytes for u64 {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_be_bytes());
    }
}

impl KeyBytes for u32 {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_be_bytes());
    }
}

impl KeyBytes for String {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }
}

impl KeyBytes for [u8; 32] {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl<A: KeyBytes, B: KeyBytes> KeyBytes for (A, B) {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        self.0.append_to(bytes);
        self.1.append_to(bytes);
    }
}

macro_rules! id_key_bytes {
    ($($id:ty),*) => {
        $(impl KeyBytes for $id {
            fn append_to(&self, bytes: &mut Vec<u8>) {
                self.0.append_to(bytes);
            }
        })*
    };
}

id_key_bytes!(
    nube_types::ProjectId,
    nube_types::InstanceId,
    nube_types::ImageId,
    nube_types::SshKeyId,
    nube_types::NodeId,
    nube_types::NetworkId,
    nube_types::PrincipalId,
    nube_types::AccessKeyId,
    nube_types::SubnetId,
    nube_types::SecurityGroupId,
    nube_types::AddressId,
    nube_types::LoadBalancerId,
    nube_billing::Subject
);

impl KeyBytes for nube_types::RequestId {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0);
    }
}

/// Something a table holds.
pub trait Record: Clone + Encode<()> + for<'b> Decode<'b, ()> {
    /// What it is found by.
    type Key: Ord + Clone + KeyBytes;
    /// Names the table in the store and in snapshots. Never reused.
    const TABLE: u8;
    /// The key of this record; never changes while the record lives.
    fn key(&self) -> Self::Key;
}

/// For fields that came later: what has their default is written as before, so
/// that old and new replicas have the same bytes until the field is used.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One changed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where the store keeps it.
    pub key: Vec<u8>,
    /// The record now; absent when it was removed.
    pub value: Option<Vec<u8>>,
    /// The removed record, for those who must be told whose it was.
    pub removed: Option<Vec<u8>>,
}

/// Records of one kind. `clone` is O(1) once the changes were taken.
#[derive(Debug, Clone)]
pub struct Table<R: Record> {
    records: OrdMap<R::Key, Arc<R>>,
    digest: [u64; 4],
    changes: Vec<Change>,
}

impl<R: Record> Default for Table<R> {
    fn default() -> Self {
        Self {
            records: OrdMap::new(),
            digest: [0; 4],
            changes: Vec::new(),
        }
    }
}

impl<R: Record> Table<R> {
    /// The record of a key.
    #[must_use]
    pub fn get(&self, key: &R::Key) -> Option<&R> {
        self.records.get(key).map(Arc::as_ref)
    }

    /// Adds or replaces a record.
    pub fn put(&mut self, record: R) {
        let key = record.key();
        let store_key = store_key::<R>(&key);
        let bytes = encode(&record);
        if let Some(old) = self.records.insert(key, Arc::new(record)) {
            self.subtract(&store_key, &encode(old.as_ref()));
        }
        self.add(&store_key, &bytes);
        self.changes.push(Change {
            key: store_key,
            value: Some(bytes),
            removed: None,
        });
    }

    /// Removes a record, if it is there.
    pub fn remove(&mut self, key: &R::Key) {
        if let Some(old) = self.records.remove(key) {
            let store_key = store_key::<R>(key);
            let bytes = encode(old.as_ref());
            self.subtract(&store_key, &bytes);
            self.changes.push(Change {
                key: store_key,
                value: None,
                removed: Some(bytes),
            });
        }
    }

    /// Changes a record in place. Returns false when it is absent.
    pub fn update(&mut self, key: &R::Key, change: impl FnOnce(&mut R)) -> bool {
        let Some(mut record) = self.get(key).cloned() else {
            return false;
        };
        change(&mut record);
        self.put(record);
        true
    }

    /// All records in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.records.values().map(Arc::as_ref)
    }

    /// Records from a key on, in key order.
    pub fn range_from(&self, key: R::Key) -> impl Iterator<Item = &R> {
        self.records.range(key..).map(|(_, record)| record.as_ref())
    }

    /// Every record as the store keeps it, in key order.
    pub fn rows(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.records
            .iter()
            .map(|(key, record)| (store_key::<R>(key), encode(record.as_ref())))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The digest of the contents.
    #[must_use]
    pub fn digest(&self) -> [u64; 4] {
        self.digest
    }

    /// Moves the noted changes out, oldest first.
    pub fn take_changes(&mut self, into: &mut Vec<Change>) {
        into.append(&mut self.changes);
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        for (lane, word) in self.digest.iter_mut().zip(record_hash(key, value)) {
            *lane = lane.wrapping_add(word);
        }
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        for (lane, word) in self.digest.iter_mut().zip(record_hash(key, value)) {
            *lane = lane.wrapping_sub(word);
        }
    }
}

fn encode<R: Record>(record: &R) -> Vec<u8> {
    minicbor::to_vec(record).expect("encoding into memory has no way to fail")
}

/// Where the store keeps a record.
pub(crate) fn store_key<R: Record>(key: &R::Key) -> Vec<u8> {
    let mut bytes = vec![R::TABLE];
    key.append_to(&mut bytes);
    bytes
}

fn record_hash(key: &[u8], value: &[u8]) -> [u64; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let hash = hasher.finalize();
    let bytes = hash.as_bytes();
    std::array::from_fn(|lane| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[lane * 8..lane * 8 + 8]);
        u64::from_be_bytes(word)
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Encode, Decode)]
    struct Note {
        #[n(0)]
        id: u64,
        #[n(1)]
        text: String,
    }

    impl Record for Note {
        type Key = u64;
        const TABLE: u8 = 200;
        fn key(&self) -> u64 {
            self.id
        }
    }

    fn note(id: u64, text: &str) -> Note {
        Note {
            id,
            text: text.to_owned(),
        }
    }

    #[test]
    fn equal_contents_have_equal_digests_whatever_the_history() {
        let mut a = Table::default();
        a.put(note(1, "x"));
        a.put(note(2, "y"));
        let mut b = Table::default();
        b.put(note(2, "z"));
        b.put(note(3, "gone"));
        b.put(note(1, "x"));
        b.remove(&3);
        assert_ne!(a.digest(), b.digest());
        b.update(&2, |n| n.text = "y".to_owned());
        assert_eq!(a.digest(), b.digest());
    }

    #[test]
    fn every_change_is_noted_once() {
        let mut table = Table::default();
        table.put(note(1, "x"));
        table.remove(&1);
        table.remove(&1);
        let mut changes = Vec::new();
        table.take_changes(&mut changes);
        assert_eq!(changes.len(), 2);
        assert!(changes[0].value.is_some() && changes[1].removed.is_some());
        assert_eq!(table.digest(), [0; 4]);
    }
}
