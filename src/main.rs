//! The `sitefs` program.

fn main() {}
