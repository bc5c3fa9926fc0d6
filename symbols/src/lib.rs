//! Bytes of an ELF file in, file offsets of the functions to probe out.
#![forbid(unsafe_code)]
