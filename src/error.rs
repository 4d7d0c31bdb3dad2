//! The one error type: where, what was expected, what was found, what to do.
//!
//! Every message is one sentence that a user can act on. The exit codes are the program's contract:
//! 1 failed while running, 2 wrong command line or input, 130 interrupted.

use std::path::Path;

/// Everything that can go wrong, as told to the user.
#[derive(Debug, Clone, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Error {
    /// The user's input or command line is wrong (exit code 2).
    #[error("{place}: expected {expected}, found {found}; {advice}")]
    Input {
        /// File, line, option or column in which the problem stands.
        place: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
        /// What the user can do about it.
        advice: String,
    },
    /// The work failed although the input was right (exit code 1): disk full, file vanished, no memory.
    #[error("{place}: {problem}; {advice}")]
    Failed {
        /// What was being done, or the file in question.
        place: String,
        /// What happened.
        problem: String,
        /// What the user can do about it.
        advice: String,
    },
    /// The user or the job manager stopped the program (exit code 130).
    #[error("interrupted: {kept}")]
    Interrupted {
        /// What was kept and how to go on.
        kept: String,
    },
    /// Another rank failed; its message travels to every rank so that all stop for the same reason.
    #[error("{message}")]
    Elsewhere {
        /// The lowest rank that failed.
        rank: usize,
        /// That rank's exit code.
        exit_code: i32,
        /// That rank's message.
        message: String,
    },
}

/// What fallible functions of this library return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A problem with what the user gave (exit code 2).
    pub fn input(
        place: impl ToString,
        expected: impl ToString,
        found: impl ToString,
        advice: impl ToString,
    ) -> Self {
        Error::Input {
            place: place.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
            advice: advice.to_string(),
        }
    }

    /// A failure while running (exit code 1).
    pub fn failed(place: impl ToString, problem: impl ToString, advice: impl ToString) -> Self {
        Error::Failed { place: place.to_string(), problem: problem.to_string(), advice: advice.to_string() }
    }

    /// An input file that cannot be read: a wrong path is the user's to mend, anything else is a failure.
    pub fn reading(path: &Path, err: &std::io::Error) -> Self {
        use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        match err.kind() {
            NotFound => Self::input(path.display(), "a file", "nothing there", "check the path"),
            PermissionDenied => Self::input(
                path.display(),
                "a readable file",
                "no permission to read it",
                "check its owner and mode",
            ),
            IsADirectory => Self::input(path.display(), "a file", "a folder", "name a file in it"),
            _ => Self::failed(
                path.display(),
                format!("cannot be read ({err})"),
                "check the disk and try again",
            ),
        }
    }

    /// An output file that cannot be written (disk full, no such folder, no permission).
    pub fn writing(path: &Path, err: &std::io::Error) -> Self {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        match err.kind() {
            NotFound => Self::input(
                path.display(),
                "an existing folder to write into",
                "no such folder",
                "make the folder first",
            ),
            PermissionDenied => Self::input(
                path.display(),
                "a writable place",
                "no permission to write there",
                "choose another --out",
            ),
            _ => Self::failed(
                path.display(),
                format!("cannot be written ({err})"),
                "free some disk space or choose another --out; no half-written file was left behind",
            ),
        }
    }

    /// The exit code that the program ends with.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Input { .. } => 2,
            Error::Failed { .. } => 1,
            Error::Interrupted { .. } => 130,
            Error::Elsewhere { exit_code, .. } => *exit_code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_where_expected_found_and_what_to_do() {
        let e = Error::input("traits.tsv line 3", "3 columns", "4", "remove the extra tab");
        assert_eq!(e.to_string(), "traits.tsv line 3: expected 3 columns, found 4; remove the extra tab");
        assert_eq!(e.exit_code(), 2);
        assert_eq!(Error::failed("x", "y", "z").exit_code(), 1);
        assert_eq!(Error::Interrupted { kept: String::new() }.exit_code(), 130);
    }

    #[test]
    fn a_missing_file_is_wrong_input_and_a_full_disk_is_a_failure() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(Error::reading(Path::new("a.bed"), &missing).exit_code(), 2);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let e = Error::writing(Path::new("g.h5"), &full);
        assert_eq!(e.exit_code(), 1);
        assert!(e.to_string().contains("disk space"));
    }
}
