//! Named network namespaces (`/run/netns/NAME`, as `ip netns` shows them) and
//! work inside them.
//!
//! Work runs on a thread of its own that enters the namespace and ends after
//! it: a worker of the async runtime never leaves home, whatever goes wrong.
//! Do not start an agent with `ip netns exec`: that makes a private mount
//! namespace, and namespaces made in there are invisible to everyone else. Use
//! [`enter`].

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Where names live.
pub const DIRECTORY: &str = "/run/netns";
/// `statfs` of a file that is a namespace, not a leftover plain file.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A network namespace by name; `None` as a name means the process's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: Option<String>,
}

impl Namespace {
    /// A named one, which may not exist yet. Names are made of ids and numbers
    /// by the caller, never of a user's text.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
        }
    }

    /// The agent's own when there is no name.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        Self {
            name: name.map(str::to_owned),
        }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.name {
            Some(name) => Path::new(DIRECTORY).join(name),
            None => PathBuf::from("/proc/self/ns/net"),
        }
    }

    /// Whether it is there. A crash between making the file and mounting the
    /// namespace on it leaves a plain file, which does not count.
    #[must_use]
    pub fn exists(&self) -> bool {
        rustix::fs::statfs(self.path()).is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC)
    }

    /// A descriptor of it.
    pub fn open(&self) -> io::Result<OwnedFd> {
        File::open(self.path()).map(OwnedFd::from)
    }

    /// Makes it unless it exists.
    pub fn create(&self) -> io::Result<()> {
        if self.exists() {
            return Ok(());
        }
        let path = self.path();
        share_directory()?;
        File::create(&path)?;
        on_thread(move || {
            // SAFETY: only the network namespace of this new thread changes;
            // descriptors stay shared with the process.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &path)?;
            Ok(())
        })
    }

    /// Takes the name away; the kernel ends the namespace and the devices in it
    /// when the last process has left. Absent is fine.
    pub fn delete(&self) -> io::Result<()> {
        let path = self.path();
        if self.exists() {
            rustix::mount::unmount(&path, UnmountFlags::DETACH)?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs blocking work inside.
    pub async fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let target = match self.name {
            Some(_) => Some(self.open()?),
            None => None,
        };
        run_in(target, work).await
    }

    /// Runs asynchronous work inside, on a small runtime of that thread.
    pub async fn run_async<T, F, W>(&self, work: W) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<T>>,
        W: FnOnce() -> F + Send + 'static,
    {
        self.run(move || block_on(async { work().await })).await
    }
}

/// Runs blocking work on a new thread in that namespace, or in the own one.
pub async fn run_in<T, F>(target: Option<OwnedFd>, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            let entered = target.as_ref().map_or(Ok(()), move_into);
            // Nobody listens when the caller was cancelled.
            let _ = answer.send(entered.and_then(|()| work()));
        })?;
    answered
        .await
        .map_err(|_| io::Error::other("the work inside the namespace panicked"))?
}

/// Drives asynchronous work on the calling thread, which is no runtime's.
pub fn block_on<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Moves the calling thread, and threads it starts later, into a named
/// namespace: call it first in `main`, before the runtime has threads.
pub fn enter(name: &str) -> io::Result<()> {
    move_into(&Namespace::named(name).open()?)
}

/// Names that begin with `prefix`, sorted.
pub fn list(prefix: &str) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(prefix)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn move_into(namespace: &OwnedFd) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn on_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(work)?
        .join()
        .map_err(|_| io::Error::other("the thread that makes a namespace panicked"))?
}

/// As `ip netns` does: mounts below the directory reach other mount
/// namespaces, and so does their removal. Otherwise a namespace lives on where
/// it was copied to.
fn share_directory() -> io::Result<()> {
    std::fs::create_dir_all(DIRECTORY)?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    if rustix::mount::mount_change(DIRECTORY, shared).is_ok() {
        return Ok(());
    }
    // Not a mount point yet: it becomes one by a bind onto itself.
    rustix::mount::mount_bind_recursive(DIRECTORY, DIRECTORY)?;
    rustix::mount::mount_change(DIRECTORY, shared)?;
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[tokio::test]
    async fn create_run_delete_may_be_repeated() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let name = format!("nbtest-{}", std::process::id());
        let namespace = Namespace::named(name.clone());
        namespace.create().expect("created");
        namespace.create().expect("created again");
        let inside = namespace
            .run(|| std::fs::read_link("/proc/thread-self/ns/net"))
            .await
            .expect("inside");
        assert_ne!(
            inside,
            std::fs::read_link("/proc/self/ns/net").expect("own")
        );
        assert!(list("nbtest-").expect("list").contains(&name));
        namespace.delete().expect("deleted");
        namespace.delete().expect("deleted again");
        assert!(!namespace.exists());
    }
}
