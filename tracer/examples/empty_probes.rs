//! Attaches programs that do nothing to what the tracer would attach to, until it is ended: what is left of a server's
//! throughput under them is the floor that no tracer with these hooks can go below.
//!
//!   empty_probes --pid PID[,PID...] [--at sites|symbols] [--hook fentry|kprobe|syscall]
#![expect(clippy::print_stdout, reason = "it is what it is for")]

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeScope};
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, UProbe};
use aya::{Btf, Ebpf};
use clap::{Parser, ValueEnum};
use symbols::{Function, Role};
use tracer::attach::{LibraryFile, is_supported, mapped_files, sites};
use tracer::kernel::Hook;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EMPTY_PROGRAMS"));

#[derive(Parser)]
struct Arguments {
    /// The processes to put probes into: these alone, not their children
    #[arg(long = "pid", value_delimiter = ',', required = true)]
    pids: Vec<NonZeroU32>,
    /// Where in TLS libraries
    #[arg(long, value_enum, default_value_t = Place::Sites)]
    at: Place,
    /// Which hooks of TCP sockets
    #[arg(long, value_enum)]
    hook: Option<Hook>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// Where the tracer puts its probes.
    Sites,
    /// At the first instruction of SSL_read, SSL_write and the like, with a return probe.
    Symbols,
}

/// Each holds one attached program: a program cannot be loaded twice for two functions.
type Attached = Vec<Ebpf>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut attached = Attached::new();
    if let Some(hook) = arguments.hook {
        sockets(hook, &mut attached)?;
    }
    let mut probes = load()?;
    let mut count = 0;
    for &pid in &arguments.pids {
        count += libraries(pid, arguments.at, &mut probes)?;
    }
    println!("ready: {count} probes, {} socket hooks", attached.len());
    std::io::stdin().read_line(&mut String::new()).context("cannot wait for the end of standard input")?;
    Ok(())
}

fn load() -> Result<Ebpf> {
    Ebpf::load(OBJECT).context("cannot load the empty programs")
}

/// Puts probes into the TLS libraries of one process; how many.
fn libraries(pid: NonZeroU32, at: Place, probes: &mut Ebpf) -> Result<usize> {
    let mut count = 0;
    for mapped in mapped_files(pid.get())? {
        let Ok(Some(file)) = LibraryFile::open(pid.get(), &mapped) else { continue };
        for library in file.libraries.iter().filter(|library| is_supported(library)) {
            let points: Vec<(&str, u64)> = match at {
                Place::Sites => library.cheapest().flat_map(at_sites).collect(),
                Place::Symbols => library.functions.iter().flat_map(at_symbol).collect(),
            };
            for (program, offset) in &points {
                probe(probes, program, &file.probe_path(), *offset, pid)?;
            }
            count += points.len();
        }
    }
    Ok(count)
}

fn at_sites(function: &Function) -> Vec<(&'static str, u64)> {
    let kind = |program: &str| if program == "tls_return" { "empty_uretprobe" } else { "empty_uprobe" };
    sites(function).into_iter().map(|(program, site)| (kind(program), site.offset.0)).collect()
}

fn at_symbol(function: &Function) -> Vec<(&'static str, u64)> {
    if !matches!(function.role, Role::Read | Role::Write) {
        return Vec::new();
    }
    ["empty_uprobe", "empty_uretprobe"].map(|program| (program, function.symbol_offset.0)).into()
}

fn probe(probes: &mut Ebpf, name: &str, file: &Path, offset: u64, pid: NonZeroU32) -> Result<()> {
    let program: &mut UProbe = program(probes, name)?;
    if program.fd().is_err() {
        program.load()?;
    }
    program.attach(UProbeAttachLocation::AbsoluteOffset(offset), file, UProbeScope::OneProcess(pid))?;
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// The hooks that a transfer on a TCP socket passes.
fn sockets(hook: Hook, attached: &mut Attached) -> Result<()> {
    let btf = Btf::from_sys_fs()?;
    match hook {
        Hook::Syscall => {
            for name in ["sock_send_length", "sock_recv_length"] {
                let mut ebpf = load()?;
                let program: &mut BtfTracePoint = program(&mut ebpf, "empty_tracepoint")?;
                program.load(name, &btf)?;
                program.attach()?;
                attached.push(ebpf);
            }
        }
        Hook::Fentry => {
            for function in ["tcp_sendmsg", "tcp_recvmsg"] {
                let mut ebpf = load()?;
                let entry: &mut FEntry = program(&mut ebpf, "empty_fentry")?;
                entry.load(function, &btf)?;
                entry.attach()?;
                let exit: &mut FExit = program(&mut ebpf, "empty_fexit")?;
                exit.load(function, &btf)?;
                exit.attach()?;
                attached.push(ebpf);
            }
        }
        Hook::Kprobe => {
            for function in ["tcp_sendmsg", "tcp_recvmsg"] {
                for name in ["empty_kprobe", "empty_kretprobe"] {
                    let mut ebpf = load()?;
                    let program: &mut KProbe = program(&mut ebpf, name)?;
                    program.load()?;
                    program.attach(function, 0)?;
                    attached.push(ebpf);
                }
            }
        }
        Hook::Auto => bail!("say which hook: `tracer doctor` tells which this kernel allows"),
    }
    Ok(())
}
