//! Unix sockets in a guest's directory. They are made and listened on by the
//! agent and inherited by QEMU, so they belong to root and nobody else connects.
//!
//! Paths of sockets are limited to 107 bytes; a data directory may be deeper.
//! So they are reached through a descriptor of their directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::net::UnixStream;

/// Control channel.
pub const QMP: &str = "qmp.sock";
/// Serial port.
pub const SERIAL: &str = "serial.sock";

/// Listens anew; a socket of an earlier run goes away.
pub fn listen(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let path = directory.join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let holder = File::open(directory)?;
    let listener = UnixListener::bind(short_path(&holder, name))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener.into())
}

/// Connects to one.
pub async fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let holder = File::open(directory)?;
    UnixStream::connect(short_path(&holder, name)).await
}

fn short_path(holder: &File, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", holder.as_raw_fd())
}
