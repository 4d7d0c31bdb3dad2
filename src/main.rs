//! The program: parse, run, tell what went wrong, end with the right code.

use genialearn::memory::{self, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() {
    memory::leave(genialearn::cli::main())
}
