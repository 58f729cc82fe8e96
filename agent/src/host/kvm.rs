//! A virtual machine of a few instructions, by hand: what the probe runs in a
//! child process that may hang. Long mode, one page table, no devices.
//!
//! The only file with raw KVM calls. Layouts are those of `linux/kvm.h` on
//! x86-64; they are kernel ABI and do not change.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const GET_API_VERSION: libc::Ioctl = 0xae00;
const CREATE_VM: libc::Ioctl = 0xae01;
const GET_VCPU_MMAP_SIZE: libc::Ioctl = 0xae04;
const GET_SUPPORTED_CPUID: libc::Ioctl = 0xc008_ae05;
const CREATE_VCPU: libc::Ioctl = 0xae41;
const SET_USER_MEMORY_REGION: libc::Ioctl = 0x4020_ae46;
const SET_TSS_ADDR: libc::Ioctl = 0xae47;
const RUN: libc::Ioctl = 0xae80;
const SET_REGS: libc::Ioctl = 0x4090_ae82;
const GET_SREGS: libc::Ioctl = 0x8138_ae83;
const SET_SREGS: libc::Ioctl = 0x4138_ae84;
const SET_CPUID2: libc::Ioctl = 0x4008_ae90;

const API_VERSION: libc::c_int = 12;
const EXIT_HLT: u32 = 5;
const MEMORY_BYTES: usize = 2 << 20;
/// Below: page tables. Above: the code.
const CODE: usize = 0x8000;
/// Byte offset of `exit_reason` in `struct kvm_run`.
const EXIT_REASON: usize = 8;
const CPUID_ENTRIES: usize = 256;

#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_address: u64,
    bytes: u64,
    host_address: u64,
}

/// 18 general registers; only these two are set.
#[repr(C)]
struct Registers {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    privilege: u8,
    big: u8,
    system: u8,
    long: u8,
    granular: u8,
    available: u8,
    unusable: u8,
    padding: u8,
}

#[repr(C)]
struct SystemRegisters {
    cs: Segment,
    data: [Segment; 5],
    tr_ldt: [Segment; 2],
    tables: [u64; 4],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupts: [u64; 4],
}

#[repr(C)]
struct CpuidEntries {
    count: u32,
    padding: u32,
    entries: [[u32; 10]; CPUID_ENTRIES],
}

/// Anonymous or device memory, unmapped at the end.
struct Mapping {
    at: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(file: Option<&OwnedFd>, bytes: usize) -> io::Result<Self> {
        let (flags, descriptor) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses an address that nothing else uses.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                flags,
                descriptor,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            at: at.cast(),
            bytes,
        })
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes, "inside the mapping");
        // SAFETY: the range was just checked to lie in this live mapping, and
        // `bytes` cannot overlap memory that only this value owns.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(offset), bytes.len()) };
    }

    fn read_u32(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.bytes, "inside the mapping");
        // SAFETY: in range, and the kernel writes it only during an ioctl of
        // this thread.
        unsafe { self.at.add(offset).cast::<u32>().read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no reference into it is left.
        unsafe { libc::munmap(self.at.cast(), self.bytes) };
    }
}

fn call<T>(file: &impl AsRawFd, request: libc::Ioctl, argument: *mut T) -> io::Result<libc::c_int> {
    // SAFETY: every caller passes the request with the structure of its ABI,
    // alive for the call, or an integer in place of the pointer where the
    // request takes one.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(code)
}

fn number<T>(value: usize) -> *mut T {
    std::ptr::without_provenance_mut(value)
}

fn descriptor(file: &impl AsRawFd, request: libc::Ioctl) -> io::Result<OwnedFd> {
    let raw = call::<u8>(file, request, number(0))?;
    // SAFETY: these requests return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Runs 64-bit code that ends in HLT. Returns how long it took; an error says
/// at which step the machine is not one. It may also never return.
pub fn run(code: &[u8]) -> io::Result<Duration> {
    let kvm = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map_err(|error| io::Error::other(format!("/dev/kvm does not open: {error}")))?;
    if call::<u8>(&kvm, GET_API_VERSION, number(0))? != API_VERSION {
        return Err(io::Error::other("/dev/kvm speaks another version"));
    }
    let machine = descriptor(&kvm, CREATE_VM)?;
    // Three pages that Intel processors need, outside of the guest's memory.
    call::<u8>(&machine, SET_TSS_ADDR, number(0xfffb_d000))?;
    let mut memory = Mapping::new(None, MEMORY_BYTES)?;
    let mut region = MemoryRegion {
        slot: 0,
        flags: 0,
        guest_address: 0,
        bytes: MEMORY_BYTES as u64,
        host_address: memory.at as u64,
    };
    call(&machine, SET_USER_MEMORY_REGION, &raw mut region)?;
    // One chain of tables that maps the lowest 2 MiB onto themselves.
    memory.write(0x1000, &0x2003_u64.to_le_bytes());
    memory.write(0x2000, &0x3003_u64.to_le_bytes());
    memory.write(0x3000, &0x0083_u64.to_le_bytes());
    memory.write(CODE, code);

    let cpu = descriptor(&machine, CREATE_VCPU)?;
    prepare_cpu(&kvm, &cpu)?;
    let shared_bytes = call::<u8>(&kvm, GET_VCPU_MMAP_SIZE, number(0))?;
    let shared = Mapping::new(Some(&cpu), shared_bytes.unsigned_abs() as usize)?;
    let began = Instant::now();
    call::<u8>(&cpu, RUN, number(0))?;
    match shared.read_u32(EXIT_REASON) {
        EXIT_HLT => Ok(began.elapsed()),
        reason => Err(io::Error::other(format!(
            "the processor stopped with exit {reason} instead of HLT"
        ))),
    }
}

/// 64-bit mode with SSE switched on, at the first instruction.
fn prepare_cpu(kvm: &File, cpu: &OwnedFd) -> io::Result<()> {
    let mut cpuid = Box::new(CpuidEntries {
        count: CPUID_ENTRIES as u32,
        padding: 0,
        entries: [[0; 10]; CPUID_ENTRIES],
    });
    call(kvm, GET_SUPPORTED_CPUID, &raw mut *cpuid)?;
    call(cpu, SET_CPUID2, &raw mut *cpuid)?;

    // SAFETY: all fields are integers, for which zero is a value.
    let mut system: SystemRegisters = unsafe { std::mem::zeroed() };
    call(cpu, GET_SREGS, &raw mut system)?;
    let code = Segment {
        base: 0,
        limit: u32::MAX,
        selector: 8,
        kind: 11,
        present: 1,
        privilege: 0,
        big: 0,
        system: 1,
        long: 1,
        granular: 1,
        available: 0,
        unusable: 0,
        padding: 0,
    };
    system.cs = code;
    system.data = [Segment {
        selector: 16,
        kind: 3,
        big: 1,
        long: 0,
        ..code
    }; 5];
    system.cr3 = 0x1000;
    // PAE, OSFXSR, OSXMMEXCPT.
    system.cr4 = 0x620;
    // PE, MP, ET, NE, WP, AM, PG.
    system.cr0 = 0x8005_0033;
    // LME, LMA.
    system.efer = 0x500;
    call(cpu, SET_SREGS, &raw mut system)?;
    let mut registers = Registers {
        general: [0; 16],
        rip: CODE as u64,
        rflags: 2,
    };
    call(cpu, SET_REGS, &raw mut registers)?;
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    /// Whatever this machine's KVM is worth, the layouts are right: a halt at
    /// the first instruction works even where KVM is emulated.
    #[test]
    fn a_processor_that_halts_at_once_halts() {
        if !std::path::Path::new("/dev/kvm").exists() {
            println!("skipped: no /dev/kvm");
            return;
        }
        match run(&[0xf4]) {
            Ok(took) => assert!(took < Duration::from_secs(1)),
            // Not root, or somebody else's hypervisor holds it.
            Err(error) => assert!(error.to_string().contains("does not open"), "{error}"),
        }
    }
}
