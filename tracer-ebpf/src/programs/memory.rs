//! Reading kernel and process memory.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel as bpf_probe_read_kernel_raw;
use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_user};

/// A field of a kernel struct; zero where it cannot be read.
#[inline(always)]
pub fn kernel<T: Copy + Default>(base: u64, offset: &Global<u32>) -> T {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset.load())) as *const T) }.unwrap_or_default()
}

/// A value in the kernel's memory.
#[inline(always)]
pub fn kernel_at<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// A value in the current process's memory.
#[inline(always)]
pub fn user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Makes the verifier forget what it knows of a value on the stack: a helper writes it, with what it was.
#[inline(always)]
pub fn forget<T>(value: &mut T) {
    let address: *mut T = value;
    // SAFETY: source and destination are the same live value.
    unsafe { bpf_probe_read_kernel_raw(address.cast(), size_of::<T>() as u32, address.cast()) };
}
