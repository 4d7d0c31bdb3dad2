//! Options that another option leaves without an effect: they are refused, so that none passes for done.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::ArgMatches;

/// Options of a command, and when they have no effect.
struct Rule {
    /// The command's words.
    command: &'static [&'static str],
    /// Names of the options within clap.
    options: &'static [&'static str],
    /// Whether they have none beside the other options.
    ignored: fn(&ArgMatches) -> bool,
    /// Where they would have one.
    advice: &'static str,
}

/// Options of several random effects and repeated records.
const SEVERAL: [&str; 7] =
    ["effects", "kernels", "random", "permanent_environment", "absorb", "repeated", "model"];

/// Whether several random effects or repeated records are wanted.
fn several(m: &ArgMatches) -> bool {
    SEVERAL.iter().any(|option| given(m, option))
}

const RULES: [Rule; 8] = [
    Rule {
        command: &["gblup"],
        options: &["grid"],
        ignored: several,
        advice: "several random effects have no grid: leave it out",
    },
    Rule {
        command: &["reml"],
        options: &["grid"],
        ignored: several,
        advice: "several random effects are estimated on single ranks, or by products: leave it out",
    },
    Rule {
        command: &["reml"],
        options: &["probes"],
        ignored: |m| several(m) && !is(m, "method", &["stochastic"]),
        advice: "choose --method stochastic, or leave it out",
    },
    Rule {
        command: &["gblup"],
        options: &[
            "tolerance",
            "precision",
            "preconditioner",
            "max_iterations",
            "checkpoint_every",
            "resume",
        ],
        ignored: |m| is(m, "solver", &["cholesky", "eigen"]) || several(m) && !is(m, "solver", &["pcg"]),
        advice: "choose --solver pcg, or leave it out",
    },
    Rule {
        command: &["gblup"],
        options: &["grid"],
        ignored: |m| is(m, "solver", &["pcg"]) || given(m, "joint"),
        advice: "conjugate gradients hold no dense matrix: leave it out",
    },
    Rule {
        command: &["gblup"],
        options: &["draws"],
        ignored: |m| !is(m, "reliability", &["sampled"]),
        advice: "add --reliability sampled, or leave it out",
    },
    Rule {
        command: &["reml"],
        options: &["probes"],
        ignored: |m| is(m, "method", &["exact", "ai"]),
        advice: "exact methods draw no random vectors: leave it out",
    },
    Rule {
        command: &["reml"],
        options: &["grid"],
        ignored: |m| is(m, "method", &["stochastic", "he"]),
        advice: "this method holds no dense matrix: leave it out",
    },
];

/// Refuses what has no effect.
pub fn refuse(matches: &ArgMatches) -> Result<(), clap::Error> {
    for rule in &RULES {
        let command = rule.command.iter().try_fold(matches, |m, name| m.subcommand_matches(name));
        let Some(command) = command.filter(|m| (rule.ignored)(m)) else { continue };
        if let Some(option) = rule.options.iter().find(|option| given(command, option)) {
            let text = format!(
                "--{}: expected options that have an effect, found one that the others leave without; {}\n",
                option.replace('_', "-"),
                rule.advice
            );
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        }
    }
    Ok(())
}

/// Whether the user typed the option.
fn given(m: &ArgMatches, option: &str) -> bool {
    m.value_source(option) == Some(ValueSource::CommandLine)
}

/// Whether an option, or its default, is one of `names`.
fn is(m: &ArgMatches, option: &str, names: &[&str]) -> bool {
    m.get_raw(option)
        .and_then(|mut all| all.next())
        .is_some_and(|text| names.iter().any(|name| text == *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    /// What is said of a command line, if it is refused.
    fn refused(line: &str) -> Option<String> {
        let words = std::iter::once("genialearn").chain(line.split_whitespace());
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        refuse(&matches).err().map(|e| e.to_string())
    }

    #[test]
    fn options_without_an_effect_are_refused_and_others_are_not() {
        let gblup = "gblup s.h5 --pheno p.tsv --out o";
        let reml = "reml s.h5 --pheno p.tsv --out o";
        for (line, option) in [
            (format!("{gblup} --solver cholesky --tolerance 1e-6"), "--tolerance"),
            (format!("{gblup} --solver eigen --resume"), "--resume"),
            (format!("{gblup} --solver eigen --max-iterations 9"), "--max-iterations"),
            (format!("{gblup} --solver pcg --grid 1x1"), "--grid"),
            (format!("{gblup} --joint --grid 1x1"), "--grid"),
            (format!("{gblup} --draws 9"), "--draws"),
            (format!("{gblup} --random herd --tolerance 1e-6"), "--tolerance"),
            (format!("{gblup} --effects additive,dominance --grid 1x1"), "--grid"),
            (format!("{reml} --permanent-environment --probes 9"), "--probes"),
            (format!("{gblup} --reliability exact --draws 9"), "--draws"),
            (format!("{reml} --method exact --probes 9"), "--probes"),
            (format!("{reml} --method he --grid 1x1"), "--grid"),
        ] {
            let said = refused(&line).unwrap_or_else(|| panic!("{line} is taken"));
            assert!(said.starts_with(&format!("error: {option}: expected")), "{line}: {said}");
        }
        for line in [
            gblup.to_owned(),
            format!("{gblup} --solver pcg --tolerance 1e-6 --resume"),
            format!("{gblup} --tolerance 1e-6"),
            format!("{gblup} --reliability sampled --draws 9"),
            format!("{gblup} --solver eigen --grid 1x1"),
            format!("{reml} --method he --probes 9"),
            format!("{reml} --probes 9"),
        ] {
            assert_eq!(refused(&line), None, "{line}");
        }
    }
}
