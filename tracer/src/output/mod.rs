//! From records to lines: what a line looks like is a [`Format`], where it goes is a [`Destination`], and a [`Sink`]
//! joins the two and counts. The [`Reporter`] is what a caller feeds: it redacts, filters, counts and prints.

mod destination;
mod json;
mod reporter;
pub mod schema;
mod select;
mod sink;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod view;

pub use destination::Destination;
pub use json::Json;
pub use reporter::Reporter;
pub use select::reporter;
pub use sink::{Format, Sink, SinkError};
pub use table::{Table, TableOptions};

/// Version of the records' meaning. A field is added without a new one; a new one means that readers must change.
pub const SCHEMA_VERSION: u32 = 1;
