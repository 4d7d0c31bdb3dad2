//! How long a training will take, told after its first steps.

use super::config::{Config, Preset};
use crate::generate::Herd;
use crate::progress::duration;
use std::time::{Duration, Instant};

/// Steps of the critic that are timed, behind a first one that warms up.
const TIMED: u64 = 3;
/// Enough of a time, however few steps it took.
const ENOUGH: Duration = Duration::from_secs(10);
/// Trainings that are over sooner are not spoken of.
const SHORT: f64 = 60.0;

/// Times the first steps.
pub(super) struct Pace {
    first: u64,
    begun: Instant,
    told: bool,
}

/// What the time of a training depends on.
pub(super) struct Size {
    config: Config,
    /// Training animals, SNPs and conditions.
    animals: usize,
    snps: usize,
    conditions: usize,
}

impl Size {
    /// That of a settled configuration for `animals` of a herd.
    pub fn of(config: &Config, herd: &Herd, animals: usize) -> Size {
        let conditions = herd.conditions.as_ref().map_or(0, |c| c.names.len());
        Size { config: config.clone(), animals, snps: herd.variants.len(), conditions }
    }

    /// Steps of the critic in all epochs.
    fn steps(&self) -> f64 {
        let t = &self.config.training;
        (t.epochs * t.batches(self.animals)) as f64
    }

    /// Multiplications of a step of the critic and its share of one of the generator, about.
    fn work(&self) -> f64 {
        let t = &self.config.training;
        let found = self.config.network.parameters(self.snps, self.conditions);
        let [generator, critic] = found.map_or([0.0; 2], |sizes| sizes.map(|size| size as f64));
        let rows = self.animals as f64 / t.batches(self.animals) as f64;
        // Forward, backward and weights: three rows of each animal go through the critic, one through the generator.
        rows * (9.0 * critic + generator + 3.0 * (critic + generator) / t.critic_steps as f64)
    }

    /// The same herd with the smallest networks.
    fn small(&self) -> Size {
        let config = Preset::Small.config(self.snps).settled(self.animals);
        Size { config, ..*self }
    }

    /// The sentence for steps of so many seconds.
    fn sentence(&self, step: f64) -> Option<String> {
        let whole = step * self.steps();
        if whole < SHORT {
            return None;
        }
        let mut text = format!("{} for {} epochs here", duration(whole), self.config.training.epochs);
        let small = self.small();
        let less = step * small.steps() * small.work() / self.work();
        if less < 0.5 * whole {
            text += &format!("; --preset small takes {}", duration(less));
        }
        Some(text)
    }
}

impl Pace {
    /// Before step `first`, from 0.
    pub fn begin(first: u64) -> Pace {
        Pace { first, begun: Instant::now(), told: false }
    }

    /// After step `step`: tells once how long all will take.
    pub fn tell(&mut self, step: u64, size: &Size) {
        let done = step.saturating_sub(self.first);
        let elapsed = self.begun.elapsed();
        if self.told || done == 0 {
            return;
        }
        if done > TIMED || elapsed > ENOUGH {
            self.told = true;
            if let Some(text) = size.sentence(elapsed.as_secs_f64() / done as f64) {
                log::info!("{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_training_is_told_and_what_takes_less() {
        let config = Preset::Chromosome.config(7225).settled(450);
        let size = Size { config, animals: 450, snps: 7225, conditions: 0 };
        // Four batches of 113 animals in each of 1,000 epochs.
        assert_eq!(size.steps(), 4000.0);
        let text = size.sentence(30.0).unwrap();
        assert!(
            text.starts_with("about 33 hours for 1000 epochs here; --preset small takes about "),
            "{text}"
        );
        assert!(size.sentence(0.01).is_none());
        let small = size.small();
        assert!(!small.sentence(0.1).unwrap().contains("--preset"));
        assert!(small.work() < 0.05 * size.work());
    }
}
