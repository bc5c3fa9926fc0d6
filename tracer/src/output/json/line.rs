//! One record as one line, appended to a buffer piece by piece.
//!
//! serde's derived code would write the same, and look at each byte of each key again for each line; half the time that
//! a small record takes went there. What a line looks like is told by [`crate::output::view`].

use serde::Serialize;
use serde_json::Error;

use crate::output::view::{Connection, End, Ends, L7, Message};
use crate::record::{Process, Timing};

/// Appends a record, without a line end.
pub(super) fn print(line: &L7<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    field(out, r#"{"schema":"#, &line.schema)?;
    field(out, r#","kind":"#, line.kind)?;
    field(out, r#","timestamp":"#, &line.timestamp)?;
    field(out, r#","protocol":"#, line.protocol)?;
    if let Some(process) = line.process {
        print_process(process, out)?;
    }
    print_connection(&line.connection, out)?;
    field(out, r#","sequence":"#, &line.sequence)?;
    field(out, r#","latency_ns":"#, &line.latency_ns)?;
    print_timing(&line.timing, out)?;
    print_message(r#","request":"#, line.request.as_ref(), out)?;
    print_message(r#","response":"#, line.response.as_ref(), out)?;
    field(out, r#","integrity":"#, &line.integrity)?;
    out.push(b'}');
    Ok(())
}

fn print_process(process: &Process, out: &mut Vec<u8>) -> Result<(), Error> {
    let Process { pid, tid, comm, executable, namespace_pid, container_id } = process;
    field(out, r#","process":{"pid":"#, pid)?;
    optional(out, r#","tid":"#, tid)?;
    field(out, r#","comm":"#, comm)?;
    optional(out, r#","executable":"#, executable)?;
    optional(out, r#","namespace_pid":"#, namespace_pid)?;
    optional(out, r#","container_id":"#, container_id)?;
    out.push(b'}');
    Ok(())
}

fn print_connection(connection: &Connection<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let Connection { id, transport, role, local, remote, proxied, tls, tuple_source } = connection;
    field(out, r#","connection":{"id":"#, id)?;
    field(out, r#","transport":"#, transport)?;
    field(out, r#","role":"#, role)?;
    print_end(r#","local":"#, local.as_ref(), out)?;
    print_end(r#","remote":"#, remote.as_ref(), out)?;
    print_proxied(proxied.as_ref(), out)?;
    optional(out, r#","tls":"#, tls)?;
    field(out, r#","tuple_source":"#, tuple_source)?;
    out.push(b'}');
    Ok(())
}

fn print_proxied(ends: Option<&Ends<'_>>, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some(Ends { source, destination }) = ends else { return Ok(()) };
    out.extend_from_slice(br#","proxied":{"#);
    print_end(r#""source":"#, Some(source), out)?;
    print_end(r#","destination":"#, Some(destination), out)?;
    out.push(b'}');
    Ok(())
}

fn print_end(key: &str, end: Option<&End<'_>>, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some(end) = end else { return Ok(()) };
    out.extend_from_slice(key.as_bytes());
    match end {
        End::Inet { address, port } => {
            field(out, r#"{"address":"#, address)?;
            field(out, r#","port":"#, port)?;
        }
        End::Unix { path } => field(out, r#"{"path":"#, path)?,
    }
    out.push(b'}');
    Ok(())
}

fn print_timing(timing: &Timing, out: &mut Vec<u8>) -> Result<(), Error> {
    let Timing { request_start_ns, request_end_ns, response_start_ns, response_end_ns } = timing;
    field(out, r#","timing":{"request_start_ns":"#, request_start_ns)?;
    field(out, r#","request_end_ns":"#, request_end_ns)?;
    field(out, r#","response_start_ns":"#, response_start_ns)?;
    field(out, r#","response_end_ns":"#, response_end_ns)?;
    out.push(b'}');
    Ok(())
}

fn print_message(key: &str, message: Option<&Message<'_>>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.extend_from_slice(key.as_bytes());
    let Some(message) = message else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    field(out, r#"{"bytes":"#, &message.bytes)?;
    let start = out.len();
    message.payload.print(out)?;
    // The payload is an object of its own: its fields go on where ours end.
    if out.get(start..) == Some(b"{}") {
        out.remove(start);
    } else if let Some(brace) = out.get_mut(start) {
        *brace = b',';
    }
    Ok(())
}

fn optional<T: Serialize>(out: &mut Vec<u8>, key: &str, value: &Option<T>) -> Result<(), Error> {
    value.as_ref().map_or(Ok(()), |value| field(out, key, value))
}

/// `key` stands as it is, with what comes before it.
fn field<T: Serialize + ?Sized>(out: &mut Vec<u8>, key: &str, value: &T) -> Result<(), Error> {
    out.extend_from_slice(key.as_bytes());
    serde_json::to_writer(out, value)
}
