//! Limits of one guest's machine process, and the surest way to find it: a
//! process joins its cgroup before it becomes QEMU, so none can hide.
//!
//! Path: `<mount>/nube/<node>/<instance>`. Both layouts are served: one tree
//! per controller (v1, also the hybrid one), and the single tree (v2). Without
//! either, guests run unlimited and are found by uid alone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Top directory of ours in each tree.
const TOP: &str = "nube";
/// The scheduler's accounting period.
const CPU_PERIOD_US: u64 = 100_000;
/// QEMU's main loop and I/O threads work beside the virtual CPUs.
const CPU_OVERHEAD_US: u64 = 25_000;
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// What one guest may use of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Guest memory and QEMU's own.
    pub memory_bytes: u64,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Threads and processes.
    pub tasks: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// Mount point per controller.
    PerController(Vec<(&'static str, PathBuf)>),
    Unified(PathBuf),
    Missing,
}

/// The cgroups of one node's guests.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    node: String,
}

impl Cgroups {
    /// Finds out how cgroups are mounted.
    pub fn detect(node: impl Into<String>) -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self {
            layout: parse_layout(&mounts),
            node: node.into(),
        })
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.layout != Layout::Missing
    }

    fn trees(&self) -> Vec<(&'static str, &Path)> {
        match &self.layout {
            Layout::PerController(trees) => trees
                .iter()
                .map(|(name, path)| (*name, path.as_path()))
                .collect(),
            Layout::Unified(path) => vec![("", path)],
            Layout::Missing => Vec::new(),
        }
    }

    fn directory(&self, tree: &Path, instance: &str) -> PathBuf {
        tree.join(TOP).join(&self.node).join(instance)
    }

    /// Makes the cgroup and sets its limits; again is fine.
    pub fn ensure(&self, instance: &str, limits: &Limits) -> io::Result<()> {
        if let Layout::Unified(root) = &self.layout {
            delegate(root)?;
            delegate(&root.join(TOP))?;
            delegate(&root.join(TOP).join(&self.node))?;
        }
        for (controller, tree) in self.trees() {
            let directory = self.directory(tree, instance);
            std::fs::create_dir_all(&directory)?;
            for (file, value) in settings(controller, limits) {
                let path = directory.join(file);
                std::fs::write(&path, value).map_err(|error| {
                    io::Error::other(format!("write {}: {error}", path.display()))
                })?;
            }
        }
        Ok(())
    }

    /// Files through which a process joins by writing `0`: opened by the agent,
    /// used between fork and exec, where opening files is no longer safe.
    pub fn open_doors(&self, instance: &str) -> io::Result<Vec<OwnedFd>> {
        let open = |(_, tree): (&str, &Path)| {
            let path = self.directory(tree, instance).join("cgroup.procs");
            OpenOptions::new().write(true).open(path).map(OwnedFd::from)
        };
        self.trees().into_iter().map(open).collect()
    }

    /// Pids in the cgroup.
    #[must_use]
    pub fn processes(&self, instance: &str) -> Vec<u32> {
        let mut pids = Vec::new();
        for (_, tree) in self.trees() {
            let path = self.directory(tree, instance).join("cgroup.procs");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// How often the kernel killed for lack of memory in there.
    #[must_use]
    pub fn memory_kills(&self, instance: &str) -> u64 {
        let (wanted, file) = match &self.layout {
            Layout::Unified(_) => ("", "memory.events"),
            _ => ("memory", "memory.oom_control"),
        };
        let trees = self.trees();
        let Some((_, tree)) = trees.iter().find(|(name, _)| *name == wanted) else {
            return 0;
        };
        let path = self.directory(tree, instance).join(file);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Names below this node's directory.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (_, tree) in self.trees() {
            let Ok(entries) = std::fs::read_dir(self.directory(tree, "")) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.path().is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Removes the cgroup of an instance, whose processes are gone.
    pub async fn remove(&self, instance: &str) -> io::Result<()> {
        for (_, tree) in self.trees() {
            remove_directory(&self.directory(tree, instance)).await?;
        }
        Ok(())
    }

    /// Removes the node's own directories when they are empty.
    pub fn remove_node(&self) {
        for (_, tree) in self.trees() {
            // Not empty means another agent or guest is there: leave it.
            let _ = std::fs::remove_dir(self.directory(tree, ""));
            let _ = std::fs::remove_dir(tree.join(TOP));
        }
    }
}

/// The kernel lets go of a cgroup a moment after its last process died.
async fn remove_directory(path: &Path) -> io::Result<()> {
    for _ in 0..50 {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "{} still holds processes",
        path.display()
    )))
}

/// Lets children of a v2 cgroup have the controllers.
fn delegate(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for controller in CONTROLLERS {
        let file = File::options()
            .write(true)
            .open(directory.join("cgroup.subtree_control"));
        // A controller that the kernel lacks costs its limit, not the guest.
        let _ = file.and_then(|mut file| {
            use io::Write;
            write!(file, "+{controller}")
        });
    }
    Ok(())
}

fn settings(controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    let quota_us = u64::from(limits.vcpus) * CPU_PERIOD_US + CPU_OVERHEAD_US;
    match controller {
        "memory" => vec![("memory.limit_in_bytes", limits.memory_bytes.to_string())],
        "cpu" => vec![
            ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", quota_us.to_string()),
        ],
        "pids" => vec![("pids.max", limits.tasks.to_string())],
        _ => vec![
            ("memory.max", limits.memory_bytes.to_string()),
            ("cpu.max", format!("{quota_us} {CPU_PERIOD_US}")),
            ("pids.max", limits.tasks.to_string()),
        ],
    }
}

/// Field 5 is the mount point; after the lone dash come type, source, options.
fn parse_layout(mountinfo: &str) -> Layout {
    let mut trees: Vec<(&'static str, PathBuf)> = Vec::new();
    let mut unified = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = before.split(' ').nth(4) else {
            continue;
        };
        let mut after = after.split(' ');
        match (after.next(), after.nth(1)) {
            (Some("cgroup"), Some(options)) => {
                for controller in CONTROLLERS {
                    let has = options.split(',').any(|option| option == controller);
                    if has && !trees.iter().any(|(name, _)| *name == controller) {
                        trees.push((controller, PathBuf::from(point)));
                    }
                }
            }
            (Some("cgroup2"), _) => unified = Some(PathBuf::from(point)),
            _ => {}
        }
    }
    match (trees.is_empty(), unified) {
        (false, _) => Layout::PerController(trees),
        (true, Some(point)) => Layout::Unified(point),
        (true, None) => Layout::Missing,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn hybrid_trees_are_taken_per_controller() {
        let mounts = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let expected = Layout::PerController(vec![
            ("cpu", PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
            ("memory", PathBuf::from("/sys/fs/cgroup/memory")),
        ]);
        assert_eq!(parse_layout(mounts), expected);
    }

    #[test]
    fn the_single_tree_is_taken_when_it_is_alone() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            parse_layout(mounts),
            Layout::Unified(PathBuf::from("/sys/fs/cgroup"))
        );
        assert_eq!(parse_layout(""), Layout::Missing);
    }

    #[tokio::test]
    async fn a_cgroup_is_made_twice_and_removed_twice() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let node = format!("test{:08x}", std::process::id());
        let cgroups = Cgroups::detect(node).expect("detected");
        let limits = Limits {
            memory_bytes: 64 << 20,
            vcpus: 1,
            tasks: 20,
        };
        for _ in 0..2 {
            cgroups.ensure("00000000000000aa", &limits).expect("made");
        }
        assert!(cgroups.processes("00000000000000aa").is_empty());
        for _ in 0..2 {
            cgroups.remove("00000000000000aa").await.expect("removed");
        }
        cgroups.remove_node();
        assert!(cgroups.list().is_empty());
    }
}
