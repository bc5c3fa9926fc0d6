//! The functions under the system calls, each with a pair of programs for fentry/fexit and one for kprobe/kretprobe.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};

use super::call::{enter, enter_socket, exit};

/// Arguments of a function, however the source gets at them.
trait Arguments {
    fn at(&self, index: usize) -> u64;
}

impl Arguments for FEntryContext {
    #[inline(always)]
    fn at(&self, index: usize) -> u64 {
        self.arg(index)
    }
}

impl Arguments for ProbeContext {
    #[inline(always)]
    fn at(&self, index: usize) -> u64 {
        self.arg(index).unwrap_or(0)
    }
}

/// `(sk, msg, size)`
#[inline(always)]
fn send(arguments: &impl Arguments) {
    enter(arguments.at(0), arguments.at(1), true, 0);
}

/// `(sk, msg, len, flags, addr_len)` since Linux 5.19, `(sk, msg, len, flags)` in 7.2.
#[inline(always)]
fn receive(arguments: &impl Arguments) {
    enter(arguments.at(0), arguments.at(1), false, arguments.at(3) as i32);
}

/// `(sk, msg, len, nonblock, flags, addr_len)`
#[inline(always)]
fn receive_nonblock(arguments: &impl Arguments) {
    enter(arguments.at(0), arguments.at(1), false, arguments.at(4) as i32);
}

/// `(sock, msg, len)`
#[inline(always)]
fn unix_send(arguments: &impl Arguments) {
    enter_socket(arguments.at(0), arguments.at(1), true, 0);
}

/// `(sock, msg, size, flags)`
#[inline(always)]
fn unix_receive(arguments: &impl Arguments) {
    enter_socket(arguments.at(0), arguments.at(1), false, arguments.at(3) as i32);
}

/// `(sk, page, offset, size, flags)`: sendfile and splice before Linux 6.5.
#[inline(always)]
fn send_page(arguments: &impl Arguments) {
    enter(arguments.at(0), 0, true, 0);
}

/// `(sock, ppos, pipe, len, flags)`
#[inline(always)]
fn splice_read(arguments: &impl Arguments) {
    enter_socket(arguments.at(0), 0, false, 0);
}

// `receive` and `receive_nonblock` are programs of their own: where an argument's place depended on a number, the
// compiler would compute an address from it, and the verifier refuses that.

/// Where fexit finds the result: behind the parameters.
#[inline(always)]
fn fixed<const N: usize>(ctx: &FExitContext) -> i32 {
    ctx.arg(N)
}

/// Where the number of parameters is not known here: since Linux 5.17 the kernel tells (bpf_get_func_ret).
#[inline(always)]
fn told(ctx: &FExitContext) -> i32 {
    ctx.ret().unwrap_or_else(|error| error)
}

/// At the end of every function that kprobes are in: unlike fexit, one program serves them all, and the kernel verifies
/// but one, of the longest there are.
#[kretprobe]
pub fn kretprobe_transfer(ctx: RetProbeContext) -> u32 {
    exit(ctx.ret());
    0
}

macro_rules! functions {
    ($($function:literal: $fentry:ident, $fexit:ident, $kprobe:ident, $enter:ident, $result:expr;)*) => {
        $(
            #[fentry(function = $function)]
            pub fn $fentry(ctx: FEntryContext) -> i32 {
                $enter(&ctx);
                0
            }

            #[fexit(function = $function)]
            pub fn $fexit(ctx: FExitContext) -> i32 {
                exit($result(&ctx));
                0
            }

            #[kprobe(function = $function)]
            pub fn $kprobe(ctx: ProbeContext) -> u32 {
                $enter(&ctx);
                0
            }
        )*
    };
}

functions! {
    "tcp_sendmsg": fentry_tcp_sendmsg, fexit_tcp_sendmsg, kprobe_tcp_sendmsg, send, fixed::<3>;
    "tcp_recvmsg": fentry_tcp_recvmsg, fexit_tcp_recvmsg, kprobe_tcp_recvmsg, receive, told;
    "tcp_recvmsg": fentry_tcp_recvmsg_nonblock, fexit_tcp_recvmsg_nonblock, kprobe_tcp_recvmsg_nonblock, receive_nonblock, fixed::<6>;
    "udp_sendmsg": fentry_udp_sendmsg, fexit_udp_sendmsg, kprobe_udp_sendmsg, send, fixed::<3>;
    "udp_recvmsg": fentry_udp_recvmsg, fexit_udp_recvmsg, kprobe_udp_recvmsg, receive, told;
    "udp_recvmsg": fentry_udp_recvmsg_nonblock, fexit_udp_recvmsg_nonblock, kprobe_udp_recvmsg_nonblock, receive_nonblock, fixed::<6>;
    "udpv6_sendmsg": fentry_udpv6_sendmsg, fexit_udpv6_sendmsg, kprobe_udpv6_sendmsg, send, fixed::<3>;
    "udpv6_recvmsg": fentry_udpv6_recvmsg, fexit_udpv6_recvmsg, kprobe_udpv6_recvmsg, receive, told;
    "udpv6_recvmsg": fentry_udpv6_recvmsg_nonblock, fexit_udpv6_recvmsg_nonblock, kprobe_udpv6_recvmsg_nonblock, receive_nonblock, fixed::<6>;
    "unix_stream_sendmsg": fentry_unix_stream_sendmsg, fexit_unix_stream_sendmsg, kprobe_unix_stream_sendmsg, unix_send, fixed::<3>;
    "unix_stream_recvmsg": fentry_unix_stream_recvmsg, fexit_unix_stream_recvmsg, kprobe_unix_stream_recvmsg, unix_receive, fixed::<4>;
    "tcp_sendpage": fentry_tcp_sendpage, fexit_tcp_sendpage, kprobe_tcp_sendpage, send_page, fixed::<5>;
    "tcp_splice_read": fentry_tcp_splice_read, fexit_tcp_splice_read, kprobe_tcp_splice_read, splice_read, fixed::<5>;
}
