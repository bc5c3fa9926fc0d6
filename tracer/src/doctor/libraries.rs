//! The TLS libraries of a process and where probes in them would go.

use std::collections::BTreeMap;

use symbols::Role;

use super::embedded;
use super::report::{Embedded, Library, Probe, Process, Unreadable};
use crate::attach::library::LibraryError;
use crate::attach::{FileId, LibraryFile, MappedFile, is_supported, mapped_files, sites};
use crate::sys;

/// Looks into every file that the traced processes execute, each once.
pub fn examine(traced: &[u32], process: &mut Process) {
    let mut files: BTreeMap<FileId, (u32, MappedFile, usize)> = BTreeMap::new();
    for &pid in traced {
        match mapped_files(pid) {
            Ok(mapped) => mapped.into_iter().for_each(|file| {
                files.entry(file.id).or_insert_with(|| (pid, file, 0)).2 += 1;
            }),
            // One of the descendants may have ended meanwhile.
            Err(error) if pid == process.pid => process.maps_error = Some(error.to_string()),
            Err(_) => {}
        }
    }
    for (pid, file, processes) in files.into_values() {
        process.java |= file.path.file_name().is_some_and(|name| name == "libjvm.so");
        if let Err(error) = look_into(pid, &file, processes, process) {
            process.unreadable.push(Unreadable { path: file.path.display().to_string(), cause: error.to_string() });
        }
    }
}

fn look_into(pid: u32, file: &MappedFile, processes: usize, process: &mut Process) -> Result<(), LibraryError> {
    let path = file.path.display().to_string();
    if let Some(found) = LibraryFile::open(pid, file)? {
        process.libraries.extend(found.libraries.iter().map(|library| describe(library, path.clone(), processes)));
        return Ok(());
    }
    let bytes = sys::map(&file.open(pid)?)?;
    if let Some(library) = embedded::library(&bytes) {
        process.embedded.push(Embedded { path, library });
    }
    Ok(())
}

fn describe(library: &symbols::TlsLibrary, path: String, processes: usize) -> Library {
    let supported = is_supported(library);
    let probes = library.cheapest().flat_map(|function| {
        sites(function).into_iter().map(|(program, site)| Probe {
            function: function.name.clone(),
            role: match function.role {
                Role::Read => "read",
                Role::Write => "write",
                Role::Handshake => "handshake",
                _ => "end",
            },
            kind: match program {
                "tls_return" => "return",
                "tls_result" | "go_return" | "go_return_spilled" | "go_handshake_return" => "result",
                _ => "entry",
            },
            offset: site.offset.0,
            instruction: site.instruction.clone(),
            emulated: site.class.is_emulated(),
        })
    });
    Library {
        path,
        kind: library.kind.name(),
        version: library.version.clone(),
        supported,
        processes,
        probes: if supported { probes.collect() } else { Vec::new() },
        // Probes go to the inner functions, which see what these reasons say that the exported ones do not.
        blind: library.blind.iter().filter(|reason| !reason.ends_with("`inner` sees it")).cloned().collect(),
    }
}
