//! What a network that predicts is made of.

use super::stack::{Plan, Snps, Step};
use crate::device::network::Activation;
use crate::error::{Error, Result};
use crate::hdf::{Group, GroupWriter};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What stands between a layer's sums and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Nothing.
    None,
    /// Over the animals of the whole batch (Ioffe & Szegedy 2015); predictions use running means.
    #[default]
    Batch,
    /// Over the units of the layer (Ba et al. 2016): does not depend on the batch.
    Layer,
}

/// Hidden layers (linear → normalisation → activation → dropout) and a linear head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Architecture {
    /// Units of each hidden layer; none for a linear model.
    pub hidden: Vec<usize>,
    /// What stands before the activation.
    pub normalisation: Normalisation,
    /// The activation.
    pub activation: Activation,
    /// Share of the hidden units that each animal of a training batch loses.
    pub dropout: f64,
}

impl Default for Architecture {
    fn default() -> Self {
        Architecture {
            hidden: vec![512, 256],
            normalisation: Normalisation::Batch,
            activation: Activation::LeakyRelu(0.0),
            dropout: 0.5,
        }
    }
}

impl Architecture {
    /// An error at `place` unless it can be built.
    pub fn check(&self, place: &str) -> Result<()> {
        let wrong = |expected: &str, found: String| {
            Err(Error::input(place, expected, found, "set it within this range"))
        };
        if self.hidden.len() > 4 || self.hidden.iter().any(|&h| h == 0 || h > 1 << 16) {
            return wrong("at most four `hidden` layers of 1 to 65536 units", format!("{:?}", self.hidden));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("a `dropout` of at least 0 and below 1", self.dropout.to_string());
        }
        match self.activation {
            Activation::LeakyRelu(slope) if !(-1.0..=1.0).contains(&slope) => {
                wrong("a slope of -1 to 1 in `activation`", slope.to_string())
            }
            _ => Ok(()),
        }
    }

    /// That of a network in a file: the JSON of its attribute `architecture`.
    ///
    /// # Errors
    /// No architecture that can be built, as [`Error::Input`].
    pub fn read(file: &Group) -> Result<Architecture> {
        let read = serde_json::from_str(&file.text("architecture")?).ok();
        let sound = read.filter(|own: &Architecture| own.check("a model").is_ok());
        sound.ok_or_else(|| file.damaged("a network of unknown architecture"))
    }

    /// Writes it where [`Architecture::read`] finds it.
    ///
    /// # Errors
    /// What the disk meets.
    pub fn write(&self, file: &GroupWriter) -> Result<()> {
        file.text("architecture", &serde_json::to_string(self).expect("plain fields serialize"))
    }

    /// Widths of the layers with batch normalisation.
    pub fn normalised(&self) -> &[usize] {
        match self.normalisation {
            Normalisation::Batch => &self.hidden,
            _ => &[],
        }
    }

    /// Units of the first layer of a network that gives `outputs` numbers.
    pub fn first_units(&self, outputs: usize) -> usize {
        self.hidden.first().copied().unwrap_or(outputs)
    }

    /// The chain of a network that gives `outputs` numbers.
    pub fn plan(&self, reads: &Reads, outputs: usize) -> Plan {
        // Under batch normalisation the shift does a bias' work.
        let bias = self.normalisation != Normalisation::Batch;
        let mut steps = Vec::new();
        for &units in &self.hidden {
            steps.push(Step::Linear { units, bias, conditions: false });
            steps.extend([Step::Normalise(self.normalisation), Step::Activate(self.activation)]);
            if self.dropout > 0.0 {
                steps.push(Step::Dropout(self.dropout));
            }
        }
        steps.push(Step::linear(outputs));
        Plan { snps: reads.snps.clone(), inputs: reads.numbers, conditions: 0, steps }
    }
}

/// What the first layer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// SNPs, where they lie packed.
    pub snps: Option<Snps>,
    /// Columns of numbers, on every rank: features beside the SNPs, or all that is read.
    pub numbers: usize,
}

impl Reads {
    /// A rank's `own` SNPs of `all`, and columns of features beside them.
    pub fn snps(own: Range<usize>, all: usize, features: usize) -> Reads {
        Reads { snps: Some(Snps { own, all }), numbers: features }
    }

    /// Columns of numbers.
    pub fn numbers(columns: usize) -> Reads {
        Reads { snps: None, numbers: columns }
    }
}
