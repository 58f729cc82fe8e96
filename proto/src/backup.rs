//! The file of a backup: header and data of `BackupCluster` in one container
//! that notices every damaged byte and every cut. Written by `cloudctl` and by
//! `cloud-controller backup-offline`, read by `cloud-controller restore`. May
//! not: files, or what the data means.
//!
//! ```text
//! magic "NUBEBKUP" 8 | version u32 | header length u32 | BackupHeader (proto)
//! | data (header.size_bytes) | SHA-256 of all before 32
//! ```
//! Numbers are little-endian. `header.sha256` is that of the data alone.

use std::io::{self, Read, Write};

use prost::Message;
use sha2::{Digest, Sha256};

use crate::v1::BackupHeader;

const MAGIC: &[u8; 8] = b"NUBEBKUP";
/// Version of the container; the data has its own.
pub const VERSION: u32 = 1;
/// Eight short fields; more is damage.
const HEADER_BYTES_MAX: usize = 4 * 1024;
/// First reservation for data whose size is only claimed; it grows as it comes.
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// Why a file is not a backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else altogether.
    #[error("it is not a backup of a cell (no {} at its beginning)", MAGIC.escape_ascii())]
    NotABackup,
    /// Written by a newer program.
    #[error("its format is {found}, this program knows {VERSION}")]
    Version {
        /// What was found.
        found: u32,
    },
    /// It ends too early.
    #[error("it is cut: it ends within its {within}")]
    Cut {
        /// Which part is not whole.
        within: &'static str,
    },
    /// A part is not what another part says of it.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The data handed to the writer is not what its header announced.
    #[error("the data is not what the header says: {0}")]
    Mismatch(String),
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Writes a backup; nothing is whole before [`Writer::finish`].
pub struct Writer<W> {
    out: W,
    header: BackupHeader,
    size_bytes: u64,
    data: Sha256,
    all: Sha256,
}

impl<W: Write> Writer<W> {
    /// Begins with what the data will be.
    pub fn new(mut out: W, header: &BackupHeader) -> Result<Self, Error> {
        let encoded = header.encode_to_vec();
        let length = u32::try_from(encoded.len())
            .ok()
            .filter(|length| *length as usize <= HEADER_BYTES_MAX)
            .ok_or_else(|| Error::Mismatch("it is too long".to_owned()))?;
        let mut all = Sha256::new();
        let (version, length) = (VERSION.to_le_bytes(), length.to_le_bytes());
        for part in [MAGIC.as_slice(), &version, &length, &encoded] {
            all.update(part);
            out.write_all(part)?;
        }
        Ok(Self {
            out,
            header: header.clone(),
            size_bytes: 0,
            data: Sha256::new(),
            all,
        })
    }

    /// Takes the next bytes of the data; more than announced are refused.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        self.size_bytes += data.len() as u64;
        let announced = self.header.size_bytes;
        if self.size_bytes > announced {
            let text = format!("more than the {announced} bytes announced");
            return Err(Error::Mismatch(text));
        }
        self.data.update(data);
        self.all.update(data);
        Ok(self.out.write_all(data)?)
    }

    /// Checks size and digest against the header and closes the container.
    pub fn finish(mut self) -> Result<W, Error> {
        let (found, wanted) = (self.size_bytes, self.header.size_bytes);
        if found != wanted {
            let text = format!("{found} bytes instead of {wanted}");
            return Err(Error::Mismatch(text));
        }
        let (found, wanted) = (hex(&self.data.finalize()), &self.header.sha256);
        if found != *wanted {
            let text = format!("SHA-256 {found} instead of {wanted}");
            return Err(Error::Mismatch(text));
        }
        self.out.write_all(&self.all.finalize())?;
        Ok(self.out)
    }
}

/// Reads a whole backup and checks every byte of it.
pub fn read(source: impl Read) -> Result<(BackupHeader, Vec<u8>), Error> {
    let mut source = Hashing {
        source,
        all: Sha256::new(),
    };
    let mut magic = [0; 8];
    let begins = source.source.read(&mut magic)?;
    if begins == 0 || !MAGIC.starts_with(&magic[..begins]) {
        return Err(Error::NotABackup);
    }
    source
        .source
        .read_exact(&mut magic[begins..])
        .map_err(cut("magic"))?;
    if magic != *MAGIC {
        return Err(Error::NotABackup);
    }
    source.all.update(magic);
    let version = source.number("version")?;
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    let header = source.header()?;
    let data = source.data(header.size_bytes)?;
    let (found, mut wanted) = (source.all.finalize(), [0; 32]);
    let mut rest = source.source;
    rest.read_exact(&mut wanted).map_err(cut("checksum"))?;
    if found.as_slice() != wanted {
        let text = "its bytes do not match the checksum at its end".to_owned();
        return Err(Error::Damaged(text));
    }
    if rest.read(&mut [0])? != 0 {
        return Err(Error::Damaged("bytes follow its end".to_owned()));
    }
    if hex(&Sha256::digest(&data)) != header.sha256 {
        let text = "its data has another SHA-256 than the header says".to_owned();
        return Err(Error::Damaged(text));
    }
    Ok((header, data))
}

fn cut(within: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Cut { within },
        _ => Error::Io(error),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hashing<R> {
    source: R,
    all: Sha256,
}

impl<R: Read> Hashing<R> {
    fn exact(&mut self, bytes: &mut [u8], within: &'static str) -> Result<(), Error> {
        self.source.read_exact(bytes).map_err(cut(within))?;
        self.all.update(bytes);
        Ok(())
    }

    fn number(&mut self, within: &'static str) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.exact(&mut bytes, within)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn header(&mut self) -> Result<BackupHeader, Error> {
        let length = self.number("header")? as usize;
        if length > HEADER_BYTES_MAX {
            let text = format!("its header claims {length} bytes");
            return Err(Error::Damaged(text));
        }
        let mut bytes = vec![0; length];
        self.exact(&mut bytes, "header")?;
        let header = BackupHeader::decode(bytes.as_slice());
        header.map_err(|error| Error::Damaged(format!("its header: {error}")))
    }

    fn data(&mut self, size_bytes: u64) -> Result<Vec<u8>, Error> {
        let reserve = usize::try_from(size_bytes.min(RESERVE_BYTES_MAX)).unwrap_or_default();
        let mut data = Vec::with_capacity(reserve);
        (&mut self.source).take(size_bytes).read_to_end(&mut data)?;
        if data.len() as u64 != size_bytes {
            return Err(Error::Cut { within: "data" });
        }
        self.all.update(&data);
        Ok(data)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn sample() -> Vec<u8> {
        let data = b"canonical bytes of a state".repeat(3);
        let header = BackupHeader {
            cluster_id: "00".repeat(16),
            index: 42,
            time_ms: 1_790_000_000_000,
            state_hash: "ab".repeat(32),
            size_bytes: data.len() as u64,
            sha256: hex(&Sha256::digest(&data)),
            version: "0.1.0".to_owned(),
            term: 3,
        };
        let mut writer = Writer::new(Vec::new(), &header).expect("a short header");
        for chunk in data.chunks(7) {
            writer.write(chunk).expect("as announced");
        }
        writer.finish().expect("whole")
    }

    #[test]
    fn what_was_written_reads_back() {
        let (header, data) = read(sample().as_slice()).expect("whole");
        assert_eq!((header.index, header.term), (42, 3));
        assert_eq!(data, b"canonical bytes of a state".repeat(3));
    }

    #[test]
    fn b1_every_flipped_bit_and_every_cut_is_noticed() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(bad.as_slice()).is_err(), "bit {bit} went unnoticed");
        }
        for length in 0..good.len() {
            let error = read(&good[..length]).expect_err("cut");
            let named = matches!(error, Error::Cut { .. } | Error::NotABackup);
            assert!(named, "{length}: {error}");
        }
        let longer = [good.as_slice(), b"x"].concat();
        assert!(matches!(read(longer.as_slice()), Err(Error::Damaged(_))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = |bytes: &[u8]| read(bytes).expect_err("not a backup").to_string();
        assert!(text(b"").contains("not a backup"));
        assert!(text(b"#!/bin/true").contains("NUBEBKUP"));
        let mut newer = sample();
        newer[8] = 9;
        assert!(text(&newer).contains("format is 9"));
        let good = sample();
        assert!(text(&good[..good.len() - 40]).contains("within its data"));
        assert!(text(&good[..good.len() - 4]).contains("within its checksum"));
    }

    #[test]
    fn a_stream_that_is_not_what_it_announced_makes_no_file() {
        let header = BackupHeader {
            size_bytes: 2,
            sha256: hex(&Sha256::digest(b"ab")),
            ..BackupHeader::default()
        };
        let begin = || Writer::new(Vec::new(), &header).expect("a short header");
        let mut more = begin();
        assert!(more.write(b"abc").is_err());
        let mut less = begin();
        less.write(b"a").expect("within");
        assert!(less.finish().is_err());
        let mut other = begin();
        other.write(b"xy").expect("within");
        assert!(other.finish().is_err());
    }
}
