//! Whether the errors of `study` are what they say: `cargo bench --bench study-calibration`.
//!
//! Simulates studies with known differences and counts how often two models that differ in their seeds alone are called
//! different at 5 %, and how often a 95 % interval holds the expected difference. `cargo bench --bench study-calibration --
//! STUDIES SAMPLES CASE...` sets how many studies of each case (400), bootstrap samples (300) and which cases, from 1. Prints a table for
//! benches/results/study-calibration.md. The aims: 3 to 7 % and 93 to 97 % (standard error of 400 studies: 1.1 %).

#[path = "study_calibration/simulation.rs"]
mod simulation;

use genialearn::usage::cpu_seconds;
use simulation::{shares, studies, Case, PAIRS, RANDOM};

const CASES: [Case; 12] = [
    RANDOM,
    Case { name: "5 random folds × 4, 1 replicate", repeats: 4, replicates: 1, ..RANDOM },
    Case { name: "5 random folds × 2, 3 replicates", repeats: 2, ..RANDOM },
    Case { name: "10 random folds, 3 replicates", folds: 10, ..RANDOM },
    Case { name: "5 folds of 60 families of 5, 3 replicates", family: 5, ..RANDOM },
    Case { name: "5 folds of 30 families of 10, 3 replicates", family: 10, ..RANDOM },
    Case {
        name: "5 folds of 60 families of 5 × 3, 1 replicate",
        family: 5,
        repeats: 3,
        replicates: 1,
        ..RANDOM
    },
    Case { name: "one fold tested, 3 replicates", one_fold: true, ..RANDOM },
    Case { name: "h² = 0.15, 5 random folds, 3 replicates", h2: 0.15, ..RANDOM },
    Case { name: "5 random folds, 1 replicate", replicates: 1, ..RANDOM },
    Case { name: "trained networks, 5 random folds, 3 replicates", trained: true, ..RANDOM },
    Case {
        name: "trained networks, 5 random folds × 4, 1 replicate",
        repeats: 4,
        replicates: 1,
        trained: true,
        ..RANDOM
    },
];

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(400);
    let samples = numbers.get(1).copied().unwrap_or(300);
    let wanted = |k: usize| numbers.len() < 3 || numbers[2..].contains(&(k + 1));
    println!("{count} studies a case, {samples} bootstrap samples each");
    println!();
    println!("| case | pair | difference | sd of studies | mean se | p < 0.05 | covered | covered by tested animals alone |");
    println!("|---|---|---|---|---|---|---|---|");
    for (_, case) in CASES.iter().enumerate().filter(|(k, _)| wanted(*k)) {
        let found = studies(case, count, samples);
        for (k, (name, ..)) in PAIRS.iter().enumerate() {
            let s = shares(&found, k);
            println!(
                "| {} | {name} | {:.4} | {:.4} | {:.4} | {:.1} % | {:.1} % | {:.1} % |",
                case.name,
                s.mean,
                s.sd,
                s.se,
                100.0 * s.different,
                100.0 * s.covered,
                100.0 * s.covered_bootstrap
            );
        }
    }
    println!();
    println!("{:.0} CPU seconds", cpu_seconds());
}
