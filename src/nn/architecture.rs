//! What a network is made of, and where each tensor lies in its one buffer of parameters.

use crate::device::network::Activation;
use crate::error::{Error, Result};
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

    /// Whether linear layers before a normalisation have a bias: under batch normalisation the shift does its work.
    fn biased(&self) -> bool {
        self.normalisation != Normalisation::Batch
    }
}

/// What the first layer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// This rank's SNPs, or columns of numbers.
    pub own: Range<usize>,
    /// Those of all ranks.
    pub all: usize,
    /// Columns of features beside the SNPs, on every rank.
    pub features: usize,
}

impl From<(Range<usize>, usize)> for Reads {
    /// This rank's and all inputs, without features.
    fn from((own, all): (Range<usize>, usize)) -> Reads {
        Reads { own, all, features: 0 }
    }
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weight of a linear layer: the penalty and the decay are its alone.
    Weight,
    /// The weight of features beside the SNPs.
    Features,
    /// What a linear layer adds.
    Bias,
    /// Scale of a normalisation, γ.
    Scale,
    /// Shift of a normalisation, β.
    Shift,
}

/// A named part of the buffer of parameters, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// `0.weight`, `0.scale` and so on, by layer; the last layer is the head.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its layer.
    pub layer: usize,
    /// Where it lies.
    pub range: Range<usize>,
    /// Row of the whole tensor at which this rank's part begins.
    pub first_row: usize,
    /// Rows of this rank.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// The tensors of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Units that it reads, on this rank, and gives.
    pub shape: (usize, usize),
    /// Weight (inputs, units).
    pub weight: Range<usize>,
    /// Weight of the features beside the SNPs (columns, units), of the first layer.
    pub features: Option<Range<usize>>,
    /// Bias (units).
    pub bias: Option<Range<usize>>,
    /// Shift β and scale γ of the normalisation: one run of twice the units.
    pub norm: Option<Range<usize>>,
    /// All of these.
    pub all: Range<usize>,
}

/// Where everything lies in the buffer of parameters, which starts with the first weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The tensors in order.
    pub tensors: Vec<Tensor>,
    /// The layers in order, the head last.
    pub layers: Vec<Places>,
}

impl Layout {
    /// Of a network that gives `outputs` numbers.
    pub fn new(architecture: &Architecture, reads: &Reads, outputs: usize) -> Layout {
        let mut layout = Layout { tensors: Vec::new(), layers: Vec::new() };
        let mut read = (reads.own.start, reads.own.len());
        let widths = architecture.hidden.iter().copied().chain([outputs]);
        for (layer, units) in widths.enumerate() {
            let head = layer == architecture.hidden.len();
            let start = layout.len();
            let weight = layout.push(layer, Role::Weight, read, units);
            let columns = if layer == 0 { reads.features } else { 0 };
            let features = (columns > 0).then(|| layout.push(layer, Role::Features, (0, columns), units));
            let bias = (head || architecture.biased()).then(|| layout.push(layer, Role::Bias, (0, 1), units));
            let norm = (!head && architecture.normalisation != Normalisation::None).then(|| {
                let shift = layout.push(layer, Role::Shift, (0, 1), units);
                shift.start..layout.push(layer, Role::Scale, (0, 1), units).end
            });
            let all = start..layout.len();
            layout.layers.push(Places { shape: (read.1, units), weight, features, bias, norm, all });
            read = (0, units);
        }
        layout
    }

    fn push(
        &mut self,
        layer: usize,
        role: Role,
        (first_row, rows): (usize, usize),
        columns: usize,
    ) -> Range<usize> {
        let what = match role {
            Role::Weight => "weight",
            Role::Features => "features",
            Role::Bias => "bias",
            Role::Scale => "scale",
            Role::Shift => "shift",
        };
        let (name, start) = (format!("{layer}.{what}"), self.len());
        let range = start..start + rows * columns;
        self.tensors.push(Tensor { name, role, layer, range: range.clone(), first_row, rows, columns });
        range
    }

    /// Numbers in the buffer.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
