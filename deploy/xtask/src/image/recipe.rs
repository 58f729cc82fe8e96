//! What the images are made of. Only data: how it is put together is the
//! work of the neighbouring modules.

/// One image: what differs between them.
pub struct Recipe {
    /// Its name, and that of its directory below `target/images`.
    pub name: &'static str,
    /// Directories below `deploy/images`; files of a later one replace those of
    /// an earlier one. The first has the initrd and the helper.
    pub sources: &'static [&'static str],
    /// Where its guests look for their name and keys, in `image.json`'s word.
    pub datasource: &'static str,
}

/// Reads the seed that the host attaches.
pub const MICRO: Recipe = Recipe {
    name: "micro",
    sources: &["micro"],
    datasource: "seed",
};

/// Knows DHCP and EC2's metadata service, and nothing of this cloud's seed.
pub const MICRO_EC2: Recipe = Recipe {
    name: "micro-ec2",
    sources: &["micro", "micro-ec2"],
    datasource: "ec2",
};

pub const ARCHITECTURE: &str = "x86_64";
pub const DEBIAN_ARCHITECTURE: &str = "amd64";
/// Debian's name for the directory of the architecture's libraries.
pub const LIBRARY_DIRECTORY: &str = "x86_64-linux-gnu";
pub const USER: &str = "root";

pub const KERNEL_FILE: &str = "vmlinuz";
pub const INITRD_FILE: &str = "initrd.img";
pub const DISK_FILE: &str = "disk.qcow2";
pub const MANIFEST_FILE: &str = "image.json";

/// Always depends on the one package that holds the newest cloud kernel.
pub const KERNEL_META_PACKAGE: &str = "linux-image-cloud-amd64";
pub const KERNEL_PACKAGE_PREFIX: &str = "linux-image-";

/// Packages whose files are picked from; their maintainer scripts never run.
pub const PACKAGES: [&str; 10] = [
    "busybox-static",
    "dropbear-bin",
    "openssh-client",
    "openssh-sftp-server",
    "libc6",
    "libcrypt1",
    "libgmp10",
    "libtomcrypt1",
    "libtommath1",
    "zlib1g",
];

/// Programs copied into the root, by their path in the packages. The libraries
/// they need are found by reading them.
pub const PROGRAMS: [(&str, &str); 5] = [
    (BUSYBOX, "usr/bin/busybox"),
    ("usr/sbin/dropbear", "usr/bin/dropbear"),
    ("usr/bin/dropbearkey", "usr/bin/dropbearkey"),
    // `scp -O` of an SSH client starts this; its SFTP mode starts the next one,
    // at the path compiled into dropbear.
    ("usr/bin/scp", "usr/bin/scp"),
    ("usr/lib/openssh/sftp-server", "usr/lib/sftp-server"),
];
pub const BUSYBOX: &str = "bin/busybox";

/// Drivers the initrd loads at every boot, with what they depend on. Each costs
/// about 15 ms under TCG, half of it for checking Debian's signature.
/// button and evdev carry the ACPI power button to busybox acpid.
pub const BOOT_MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "qemu_fw_cfg",
    "button",
    "evdev",
];

/// Drivers that lie on the root disk for the NoCloud fallback.
pub const SPARE_MODULES: [&str; 5] = ["virtio-rng", "isofs", "vfat", "nls_ascii", "nls_cp437"];

/// The kernel's command line. The root disk is found by its label, in the initrd.
///
/// - `panic=-1`: a guest that panicked restarts at once.
/// - `cryptomgr.notests`: the self-tests of ciphers that nobody uses here take
///   0.4 s under TCG.
/// - `no_timer_check`: on a busy host the emulated timer may tick late, which the
///   kernel would take for broken hardware and panic.
/// - `random.trust_cpu=on`: RDRAND counts where the CPU has it (not under TCG's
///   qemu64), beside the seed's entropy.
pub const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check random.trust_cpu=on";

pub const MEMORY_MIB_MIN: u64 = 96;
/// Also the size of the published disk; a larger overlay is grown into at boot.
pub const DISK_MIB: u64 = 64;
/// Read by the initrd; at most 16 bytes.
pub const ROOT_LABEL: &str = "cloudroot";

/// Directories of the root that hold nothing at build time, with their modes.
pub const EMPTY_DIRECTORIES: [(&str, u32); 12] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("mnt", 0o755),
    ("root", 0o700),
    ("home", 0o755),
    ("srv", 0o755),
    ("usr/local/bin", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
];

/// Symbolic links of the root: path, target. One directory for programs keeps the
/// search of PATH short.
pub const LINKS: [(&str, &str); 9] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/bin"),
    ("usr/sbin", "bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "../run"),
    ("var/tmp", "../tmp"),
    ("etc/mtab", "/proc/mounts"),
    // Written at each boot from the seed.
    ("etc/resolv.conf", "/run/resolv.conf"),
];

/// Files of the guest's tree that not everybody may read.
pub const PRIVATE_FILES: [(&str, u32); 1] = [("etc/shadow", 0o600)];
