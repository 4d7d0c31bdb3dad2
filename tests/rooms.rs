//! The house keeps its order: a room imports only from rooms before it, and a few names stay in their rooms.

mod support;

use std::path::Path;
use support::sources;

/// The rooms in the order of `lib.rs`.
fn rooms() -> Vec<String> {
    let lib = std::fs::read_to_string("src/lib.rs").unwrap();
    lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

/// The room of a source file: `src/ROOM.rs` or `src/ROOM/...`.
fn room_of(path: &Path) -> String {
    let first = path.strip_prefix("src").unwrap().iter().next().unwrap();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The code of a file above the tests that stand in it; a `mod tests;` that names another file ends nothing.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
}

#[test]
fn only_tests_inside_a_file_end_what_is_read_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.rs");
    std::fs::write(&path, "#[cfg(test)]\nmod tests;\nuse crate::rng::Stream;\n#[cfg(test)]\nmod tests {\nX")
        .unwrap();
    let text = code(&path);
    assert!(text.contains("crate::rng") && !text.contains('X'), "{text}");
    for path in sources(Path::new("src")) {
        let whole = std::fs::read_to_string(&path).unwrap();
        let behind = whole.matches("#[cfg(test)]\nmod tests {").count();
        assert!(
            behind <= 1,
            "{}: more than one module of tests: what is between them is not read",
            path.display()
        );
    }
}

#[test]
fn rooms_import_only_from_rooms_before_them() {
    let rooms = rooms();
    let place = |room: &str| rooms.iter().position(|r| r == room);
    let mut checked = 0;
    for path in sources(Path::new("src")) {
        let Some(own) = place(&room_of(&path)) else { continue }; // lib.rs and main.rs
        for (number, line) in code(&path).lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(other) = place(&name) else {
                    panic!("{}:{}: import one room a line, not {line}", path.display(), number + 1)
                };
                assert!(other <= own, "{}:{}: {} may not use {name}", path.display(), number + 1, rooms[own]);
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} imports were found: does this test still read the sources?");
}

#[test]
fn names_of_foreign_libraries_stay_in_their_rooms() {
    // (what, where it may stand)
    let walls: [(&str, &[&str]); 5] = [
        ("use mpi::", &["src/comm/mpi.rs"]),
        ("cudarc::", &["src/device/cuda"]),
        ("libloading::", &["src/device/cuda"]),
        ("hdf5::", &["src/hdf"]),
        ("clap::", &["src/cli"]),
    ];
    for path in sources(Path::new("src")) {
        let text = code(&path);
        let place = path.to_str().unwrap();
        for (what, allowed) in walls {
            let inside = allowed.iter().any(|a| place.starts_with(a));
            assert!(inside || !text.contains(what), "{place} names {what}, which belongs to {allowed:?}");
        }
    }
}
