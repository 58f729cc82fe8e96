//! Tap devices. They are persistent: a guest's restart finds its tap, route
//! and rules as they were. Runs in the namespace of the calling thread.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
/// Frames carry a virtio header: the guest may hand over large segments.
const IFF_VNET_HDR: u16 = 0x4000;

#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    padding: [u8; 22],
}

/// Opens the tap of this name, making it when it is absent. The descriptor is
/// one queue: the device refuses a second one while the first is open.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    if name.is_empty() || name.len() > 15 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
        padding: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the file is /dev/net/tun, for which TUNSETIFF reads and writes
    // one `struct ifreq` (40 bytes, as `InterfaceRequest`) that outlives the call.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    set_persistent(&file)?;
    Ok(file.into())
}

fn set_persistent(file: &File) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes an integer, no memory.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETPERSIST, 1_usize) };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
