//! The process that moved the bytes.

use protocols::Text;
use schemars::JsonSchema;

/// The process that moved the bytes of a record.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Process {
    /// Process id (the kernel's thread group id) as the tracer sees it.
    pub pid: u32,
    /// A thread of the process that moved bytes of this exchange; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Name of the process as the kernel keeps it, at most 15 bytes.
    pub comm: Text,
    /// Path of the executable; absent where it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<Text>,
    /// Process id inside the innermost pid namespace, where that differs from `pid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_pid: Option<u32>,
    /// Id of the container that the process runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}
