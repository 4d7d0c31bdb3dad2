//! A study in shares: several jobs fit, and one that follows scores.

use crate::error::{Error, Result};
use crate::evaluate::config::StudyConfig;
use std::path::Path;
use std::str::FromStr;

/// Which share of the fits a run does, `K/N`; 0 makes what all others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// K, from 1 to N, or 0.
    pub number: usize,
    /// N.
    pub of: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Part, String> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if of >= 1 && number <= of => Ok(Part { number, of }),
            _ => Err("expected K/N with K from 0 to N, such as 2/8".into()),
        }
    }
}

impl Part {
    /// Where the run's record goes, without its ending.
    pub fn record(self) -> String {
        format!("tasks/part-{}-of-{}", self.number, self.of)
    }

    /// Refuses a share of the fits before part 0 has made the data: several jobs at once would all make them.
    pub fn refuse_early(self, config: &StudyConfig, dir: &Path) -> Result<()> {
        let made = match (&config.simulate, &config.import) {
            // The parameters are the last that a simulation writes.
            (Some(_), _) => dir.join("data.parameters.tsv").exists() && dir.join("data.h5").exists(),
            (None, Some(_)) => dir.join("data.h5").exists(),
            (None, None) => true,
        };
        if self.number == 0 || made {
            return Ok(());
        }
        let advice = format!("run --part 0/{} first, and wait for it", self.of);
        Err(Error::input(dir.display(), "the study's data, data.h5", "none", advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_from_what_people_type() {
        assert_eq!("2/8".parse(), Ok(Part { number: 2, of: 8 }));
        assert_eq!("0/1".parse(), Ok(Part { number: 0, of: 1 }));
        for wrong in ["", "2", "9/8", "1/0", "0/0", "-1/8", "a/b", "1/2/3"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
