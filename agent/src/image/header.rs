//! Looks into the first bytes of a disk image before it may become anyone's
//! base disk. QEMU follows a backing file or an external data file of a qcow2
//! to any path on the host, so an image with such a reference could carry host
//! files into a guest. Bounded and without allocation; no other format is read.

use crate::driver::DiskFormat;

/// As much of the file as is looked at: the header of version 3 and all header
/// extensions lie within the first cluster, and QEMU's default is 64 KiB.
pub const BYTES_MAX: usize = 64 * 1024;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Compression type (3) and extended L2 entries (4) are harmless; dirty,
/// corrupt, external data file and all unknown bits are refused.
const INCOMPATIBLE_ALLOWED: u64 = 0b1_1000;
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
/// 64 TiB: a larger disk is a mistake or an attack on the host's memory.
const VIRTUAL_BYTES_MAX: u64 = 64 << 40;

/// Why a disk image is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Declared raw, but QEMU would call it something else when asked.
    #[error("the image is declared raw but starts like a qcow2")]
    NotRaw,
    /// Declared qcow2.
    #[error("the image is declared qcow2 but does not start like one")]
    NotQcow2,
    /// The header ends too early or contradicts itself.
    #[error("the qcow2 header is damaged")]
    Damaged,
    /// It names another file to read from.
    #[error("the qcow2 has a backing file")]
    BackingFile,
    /// It names another file to store data in.
    #[error("the qcow2 has an external data file")]
    DataFile,
    /// Its content is encrypted.
    #[error("the qcow2 is encrypted")]
    Encrypted,
    /// It has internal snapshots.
    #[error("the qcow2 has internal snapshots")]
    Snapshots,
    /// It needs a feature this host does not trust.
    #[error("the qcow2 needs unknown features, or is dirty or corrupt")]
    Features,
    /// Its disk is absurdly large.
    #[error("the qcow2's virtual size is larger than 64 TiB")]
    TooLarge,
}

/// Checks the first [`BYTES_MAX`] bytes (fewer when the file is smaller).
pub fn inspect(format: DiskFormat, head: &[u8]) -> Result<(), Refused> {
    let is_qcow2 = head.starts_with(MAGIC);
    match format {
        DiskFormat::Raw if is_qcow2 => Err(Refused::NotRaw),
        DiskFormat::Raw => Ok(()),
        DiskFormat::Qcow2 if !is_qcow2 => Err(Refused::NotQcow2),
        DiskFormat::Qcow2 => inspect_qcow2(head),
    }
}

fn inspect_qcow2(head: &[u8]) -> Result<(), Refused> {
    let version = u32_at(head, 4)?;
    if u64_at(head, 8)? != 0 || u32_at(head, 16)? != 0 {
        return Err(Refused::BackingFile);
    }
    if !(9..=21).contains(&u32_at(head, 20)?) {
        return Err(Refused::Damaged);
    }
    if u64_at(head, 24)? > VIRTUAL_BYTES_MAX {
        return Err(Refused::TooLarge);
    }
    if u32_at(head, 32)? != 0 {
        return Err(Refused::Encrypted);
    }
    if u32_at(head, 60)? != 0 {
        return Err(Refused::Snapshots);
    }
    let header_bytes = match version {
        2 => 72,
        3 => {
            let incompatible = u64_at(head, 72)?;
            if incompatible & 0b100 != 0 {
                return Err(Refused::DataFile);
            }
            if incompatible & !INCOMPATIBLE_ALLOWED != 0 {
                return Err(Refused::Features);
            }
            u32_at(head, 100)? as usize
        }
        _ => return Err(Refused::Features),
    };
    if header_bytes < if version == 2 { 72 } else { 104 } || header_bytes % 8 != 0 {
        return Err(Refused::Damaged);
    }
    inspect_extensions(head, header_bytes)
}

fn inspect_extensions(head: &[u8], mut at: usize) -> Result<(), Refused> {
    loop {
        let kind = u32_at(head, at)?;
        let length = u32_at(head, at + 4)? as usize;
        match kind {
            EXTENSION_END => return Ok(()),
            EXTENSION_BACKING_FORMAT => return Err(Refused::BackingFile),
            EXTENSION_DATA_FILE => return Err(Refused::DataFile),
            EXTENSION_ENCRYPTION => return Err(Refused::Encrypted),
            _ => {}
        }
        // Moves on by at least eight bytes and ends with the head: bounded.
        let padded = length.checked_add(7).ok_or(Refused::Damaged)? & !7;
        at = at.checked_add(8 + padded).ok_or(Refused::Damaged)?;
    }
}

fn u32_at(head: &[u8], at: usize) -> Result<u32, Refused> {
    let bytes = head
        .get(at..at.saturating_add(4))
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or(Refused::Damaged)
}

fn u64_at(head: &[u8], at: usize) -> Result<u64, Refused> {
    let bytes = head
        .get(at..at.saturating_add(8))
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or(Refused::Damaged)
}

#[cfg(test)]
mod test {
    use super::*;

    /// A header of version 3 with the given patches of (offset, bytes).
    fn crafted(patches: &[(usize, &[u8])]) -> Result<(), Refused> {
        let mut head = vec![0; 512];
        head[..4].copy_from_slice(MAGIC);
        head[4..8].copy_from_slice(&3_u32.to_be_bytes());
        head[20..24].copy_from_slice(&16_u32.to_be_bytes());
        head[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        head[100..104].copy_from_slice(&104_u32.to_be_bytes());
        for (at, bytes) in patches {
            head[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        inspect(DiskFormat::Qcow2, &head)
    }

    #[test]
    fn plain_images_pass() {
        assert_eq!(crafted(&[]), Ok(()));
        assert_eq!(
            crafted(&[(4, &2_u32.to_be_bytes()), (72, &[0; 32])]),
            Ok(())
        );
        assert_eq!(
            crafted(&[(104, &0x6803_f857_u32.to_be_bytes()), (108, &[0, 0, 0, 5])]),
            Ok(())
        );
        assert_eq!(inspect(DiskFormat::Raw, b"\xeb\x63\x90"), Ok(()));
        assert_eq!(inspect(DiskFormat::Raw, b""), Ok(()));
    }

    #[test]
    fn references_to_other_files_are_refused() {
        let one = 1_u64.to_be_bytes();
        assert_eq!(crafted(&[(8, &one)]), Err(Refused::BackingFile));
        assert_eq!(crafted(&[(16, &[0, 0, 0, 9])]), Err(Refused::BackingFile));
        assert_eq!(
            crafted(&[(72, &4_u64.to_be_bytes())]),
            Err(Refused::DataFile)
        );
        for (kind, refused) in [
            (EXTENSION_BACKING_FORMAT, Refused::BackingFile),
            (EXTENSION_DATA_FILE, Refused::DataFile),
            (EXTENSION_ENCRYPTION, Refused::Encrypted),
        ] {
            assert_eq!(crafted(&[(104, &kind.to_be_bytes())]), Err(refused));
            // Also behind an extension that is harmless.
            let patches: [(usize, &[u8]); 3] = [
                (104, &[1, 1, 1, 1]),
                (111, &[8]),
                (120, &kind.to_be_bytes()),
            ];
            assert_eq!(crafted(&patches), Err(refused));
        }
    }

    #[test]
    fn untrusted_features_are_refused() {
        assert_eq!(crafted(&[(32, &[0, 0, 0, 2])]), Err(Refused::Encrypted));
        assert_eq!(crafted(&[(60, &[0, 0, 0, 1])]), Err(Refused::Snapshots));
        for bit in [0, 1, 5, 63] {
            let bits = (1_u64 << bit).to_be_bytes();
            assert_eq!(crafted(&[(72, &bits)]), Err(Refused::Features), "bit {bit}");
        }
        assert_eq!(crafted(&[(4, &[0, 0, 0, 4])]), Err(Refused::Features));
        assert_eq!(crafted(&[(24, &[0xff; 8])]), Err(Refused::TooLarge));
        assert_eq!(crafted(&[(20, &[0, 0, 0, 63])]), Err(Refused::Damaged));
        assert_eq!(crafted(&[(100, &[0, 0, 0, 1])]), Err(Refused::Damaged));
        assert_eq!(
            crafted(&[(104, &[1; 4]), (108, &[0xff; 4])]),
            Err(Refused::Damaged)
        );
    }

    #[test]
    fn the_declared_format_must_be_true() {
        assert_eq!(
            inspect(DiskFormat::Raw, b"QFI\xfb\0\0\0\x03"),
            Err(Refused::NotRaw)
        );
        assert_eq!(
            inspect(DiskFormat::Qcow2, b"conectix"),
            Err(Refused::NotQcow2)
        );
        for cut in 4..108 {
            let head = [MAGIC.as_slice(), &[0, 0, 0, 3], &[0; 200]].concat();
            assert!(
                inspect(DiskFormat::Qcow2, &head[..cut]).is_err(),
                "cut {cut}"
            );
        }
    }
}
