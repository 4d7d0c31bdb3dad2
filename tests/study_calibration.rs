//! A short version of the bench `study-calibration`: errors of differences hold tested animals, training animals and seeds.

#[path = "../benches/study_calibration/simulation.rs"]
mod simulation;

use simulation::{shares, studies, Case, RANDOM};

/// Shares of 40 studies have a standard error of 3.4 %: the limits are wide. The bench has the narrow ones.
#[test]
fn seeds_are_called_different_and_differences_covered_as_often_as_promised() {
    let families = Case { name: "families of 5", family: 5, ..RANDOM };
    for case in [RANDOM, families] {
        let found = studies(&case, 40, 60);
        let seeds = shares(&found, 0);
        assert!(seeds.different <= 0.15, "{}: {seeds:?}", case.name);
        assert!((0.75..1.35).contains(&(seeds.se / seeds.sd)), "{}: {seeds:?}", case.name);
        for pair in [1, 2] {
            let known = shares(&found, pair);
            assert!(known.mean > 0.0 && known.covered >= 0.85, "{}: {known:?}", case.name);
            assert!((0.75..1.35).contains(&(known.se / known.sd)), "{}: {known:?}", case.name);
        }
        // Models taken as they are: errors of tested animals alone are too small.
        let half = shares(&found, 1);
        assert!(half.covered_bootstrap < 0.88 && half.covered_bootstrap < half.covered, "{half:?}");
    }
}
