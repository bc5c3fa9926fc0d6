//! What is recorded comes back the same.
