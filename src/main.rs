//! The program: parse, run, tell what went wrong, end with the right code.

fn main() {
    std::process::exit(genialearn::cli::main());
}
