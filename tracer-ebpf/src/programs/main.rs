//! The kernel programs.
//!
//! ```text
//!  SSL_read, SSL_write --> tls.rs, go.rs, rustls.rs ------.
//!  SSL_set_fd, BIO_write -> fd.rs, ciphertext.rs          |
//!                            | bind session to socket     v
//!  sock tracepoints -------> source/*.rs -> transfer.rs -> ship.rs -> ring buffer
//!  tcp state, fork, exec --> lifecycle.rs ----------------^
//! ```
//!
//! Struct offsets come from user space, which reads them from the kernel's BTF, as frozen read-only globals
//! ([`config`]): the verifier sees constants, and branches on absent features are never verified.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)] // an atomic addition, which core does not offer for this target
#![allow(missing_docs, reason = "programs and maps are named by user space; their modules say what they do")]

mod buffers;
mod ciphertext;
mod config;
mod counters;
mod datagram;
mod descriptor;
mod entries;
mod fd;
mod gather;
mod go;
mod lifecycle;
mod maps;
mod memory;
mod registers;
mod rustls;
mod shed;
mod ship;
mod socket;
mod source;
mod stack;
mod tls;
mod transfer;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No panic survives to the object: the verifier refuses endless loops.
    loop {}
}

/// Helpers such as `bpf_probe_read_kernel` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
