//! What a chain is made of, and where its tensors lie in one buffer of parameters.
//!
//! The first step may read SNPs, numbers and conditions side by side: each block of inputs has a weight of its own, and their
//! products add.

use crate::device::network::Activation;
use crate::error::{Error, Result};
use crate::nn::Normalisation;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One step of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// x W + b, and + c V where the animals' conditions c are read as well.
    Linear {
        /// Columns of W.
        units: usize,
        /// Whether there is a b: useless before batch normalisation, whose shift does its work.
        bias: bool,
        /// Whether there is a V.
        conditions: bool,
    },
    /// x + b, and + c V where there are conditions: what is left of a linear step whose products come from elsewhere.
    Offset,
    /// Normalisation with scale and shift.
    Normalise(Normalisation),
    /// An activation.
    Activate(Activation),
    /// While learning, each row loses this share of its units (Srivastava et al. 2014); the others grow.
    Dropout(f64),
    /// Remembers x for the [`Step::Add`] that belongs to it: they nest as brackets do.
    Keep,
    /// Adds what was remembered.
    Add,
}

impl Step {
    /// x W + b.
    pub fn linear(units: usize) -> Step {
        Step::Linear { units, bias: true, conditions: false }
    }

    /// x for x > 0, slope·x elsewhere.
    pub fn leaky_relu(slope: f64) -> Step {
        Step::Activate(Activation::LeakyRelu(slope))
    }
}

/// The SNPs that a chain reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snps {
    /// Those of this rank.
    pub own: Range<usize>,
    /// How many all ranks have.
    pub all: usize,
}

/// A chain of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// SNPs that the first step, a linear one, reads where they lie packed. They are of the place where a chain is used,
    /// and in no file.
    #[serde(skip)]
    pub snps: Option<Snps>,
    /// Columns of numbers that the first step reads.
    pub inputs: usize,
    /// Columns of the conditions.
    pub conditions: usize,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// What makes the values of a node, and from which node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Input,
    /// What is not read has an empty weight.
    Linear {
        snps: Range<usize>,
        weight: Range<usize>,
        of_conditions: Range<usize>,
        bias: Range<usize>,
    },
    Normalise {
        kind: Normalisation,
        shift: Range<usize>,
        scale: Range<usize>,
        running: usize,
    },
    Activate(Activation),
    Dropout {
        share: f64,
        layer: usize,
    },
    Add {
        kept: usize,
    },
}

/// Values on their way, (rows, width).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub width: usize,
    /// The node that it reads.
    pub from: usize,
    pub stage: Stage,
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weight of what a linear step reads: SNPs, or the numbers before it.
    Weight,
    /// The weight of numbers that are read beside SNPs.
    Features,
    /// The weight of conditions.
    Conditions,
    /// What a linear step adds.
    Bias,
    /// Shift of a normalisation, β.
    Shift,
    /// Scale of a normalisation, γ.
    Scale,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Features => "features",
            Role::Conditions => "conditions",
            Role::Bias => "bias",
            Role::Shift => "shift",
            Role::Scale => "scale",
        }
    }
}

/// A tensor in the buffer of parameters, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `0.weight`, `0.conditions`, `0.bias`, `0.shift`, `0.scale` and so on, by layers.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its layer: a linear step, and the normalisation behind it.
    pub layer: usize,
    /// Where it lies.
    pub range: Range<usize>,
    /// Row of the whole tensor at which this rank's part begins.
    pub first_row: usize,
    /// Columns.
    pub columns: usize,
}

impl Part {
    /// Rows of this rank.
    pub fn rows(&self) -> usize {
        self.range.len() / self.columns.max(1)
    }
}

/// A plan worked out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Drawn {
    pub nodes: Vec<Node>,
    pub parts: Vec<Part>,
    /// Widths of the batch normalisations.
    pub running: Vec<usize>,
    /// Where the values of each node lie, and the slopes by them.
    pub values: Buffers,
    pub slopes: Buffers,
    /// Whether a node is the only one that reads what it reads, and may overwrite it.
    pub alone: Vec<bool>,
    /// Linear steps.
    layers: usize,
}

/// Which buffer holds the numbers of each node: some work in place.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Buffers {
    /// The buffer of each node, rising but for those that share one.
    pub of: Vec<usize>,
    /// The width of each buffer.
    pub widths: Vec<usize>,
}

impl Buffers {
    /// One for each node that stands for itself in `shared`; the others take that of the node that stands for them.
    fn new(shared: &[usize], nodes: &[Node]) -> Buffers {
        let own: Vec<usize> = (0..shared.len()).filter(|&at| shared[at] == at).collect();
        let place = |node: &usize| own.binary_search(node).expect("it stands for itself");
        Buffers {
            of: shared.iter().map(place).collect(),
            widths: own.iter().map(|&at| nodes[at].width).collect(),
        }
    }
}

impl Plan {
    /// Numbers in the buffer of parameters.
    pub fn parameters(&self) -> Result<usize> {
        Ok(self.drawn()?.length())
    }

    /// Columns that the last step gives.
    pub fn outputs(&self) -> Result<usize> {
        Ok(self.drawn()?.nodes.last().map_or(self.inputs, |node| node.width))
    }

    /// Widths of the batch normalisations.
    ///
    /// # Errors
    /// Steps that do not belong together.
    pub fn normalised(&self) -> Result<Vec<usize>> {
        Ok(self.drawn()?.running)
    }

    /// The tensors, in their order.
    ///
    /// # Errors
    /// Steps that do not belong together.
    pub fn parts(&self) -> Result<Vec<Part>> {
        Ok(self.drawn()?.parts)
    }

    pub(super) fn drawn(&self) -> Result<Drawn> {
        let wrong = |expected: &str, found: &str| {
            Err(Error::input("the plan of a network", expected, found, "please report this"))
        };
        let input = Node { width: self.inputs, from: 0, stage: Stage::Input };
        let mut drawn = Drawn { nodes: vec![input], ..Drawn::default() };
        let mut kept = Vec::new();
        for step in &self.steps {
            let from = drawn.nodes.len() - 1;
            let width = drawn.nodes[from].width;
            let (width, stage) = match *step {
                _ if from == 0 && self.snps.is_some() && !matches!(step, Step::Linear { .. }) => {
                    return wrong("a linear step that reads the SNPs", "another one");
                }
                Step::Keep => {
                    kept.push(from);
                    continue;
                }
                Step::Add => {
                    let Some(kept) = kept.pop() else { return wrong("a keep for every add", "none") };
                    if drawn.nodes[kept].width != width {
                        return wrong("sums of one width", "two widths");
                    }
                    (width, Stage::Add { kept })
                }
                Step::Activate(activation) => (width, Stage::Activate(activation)),
                Step::Dropout(share) => (width, Stage::Dropout { share, layer: drawn.layer() }),
                Step::Linear { units, bias, conditions } => {
                    let snps = self.snps.as_ref().filter(|_| from == 0);
                    let conditions = if conditions { self.conditions } else { 0 };
                    (units, drawn.linear(snps, [width, conditions, usize::from(bias)], units))
                }
                Step::Offset => (width, drawn.linear(None, [0, self.conditions, 1], width)),
                Step::Normalise(Normalisation::None) => continue,
                Step::Normalise(kind) => {
                    let [shift, scale] = [Role::Shift, Role::Scale].map(|role| drawn.push(role, 0..1, width));
                    let running = drawn.running.len();
                    if kind == Normalisation::Batch {
                        drawn.running.push(width);
                    }
                    (width, Stage::Normalise { kind, shift, scale, running })
                }
            };
            drawn.nodes.push(Node { width, from, stage });
        }
        match kept.len() {
            0 => Ok(drawn.with_buffers()),
            _ => wrong("an add for every keep", "none"),
        }
    }
}

impl Drawn {
    /// Dropout works on the values that it reads, and slopes go in place through activations, dropout and normalisations,
    /// where nothing else reads these values. The input stays as it was given.
    fn with_buffers(self) -> Drawn {
        let nodes = &self.nodes;
        let mut readers = vec![0; nodes.len()];
        for node in &nodes[1..] {
            readers[node.from] += 1;
            if let Stage::Add { kept } = node.stage {
                readers[kept] += 1;
            }
        }
        let alone: Vec<bool> = nodes.iter().map(|node| node.from > 0 && readers[node.from] == 1).collect();
        let (mut values, mut slopes): (Vec<usize>, Vec<usize>) =
            ((0..nodes.len()).collect(), (0..nodes.len()).collect());
        for at in 1..nodes.len() {
            if alone[at] && matches!(nodes[at].stage, Stage::Dropout { .. }) {
                values[at] = values[nodes[at].from];
            }
        }
        for at in (1..nodes.len()).rev() {
            let through = matches!(
                nodes[at].stage,
                Stage::Activate(_) | Stage::Dropout { .. } | Stage::Normalise { .. }
            );
            if alone[at] && through {
                slopes[nodes[at].from] = slopes[at];
            }
        }
        let (values, slopes) = (Buffers::new(&values, nodes), Buffers::new(&slopes, nodes));
        Drawn { values, slopes, alone, ..self }
    }

    /// The layer at work.
    fn layer(&self) -> usize {
        self.layers.saturating_sub(1)
    }

    fn push(&mut self, role: Role, rows: Range<usize>, columns: usize) -> Range<usize> {
        let range = self.length()..self.length() + rows.len() * columns;
        if !range.is_empty() {
            let (layer, first_row) = (self.layer(), rows.start);
            let name = format!("{layer}.{}", role.name());
            self.parts.push(Part { name, role, layer, range: range.clone(), first_row, columns });
        }
        range
    }

    fn linear(&mut self, snps: Option<&Snps>, [read, conditions, bias]: [usize; 3], units: usize) -> Stage {
        self.layers += 1;
        let beside = if snps.is_some() { Role::Features } else { Role::Weight };
        Stage::Linear {
            snps: self.push(Role::Weight, snps.map_or(0..0, |snps| snps.own.clone()), units),
            weight: self.push(beside, 0..read, units),
            of_conditions: self.push(Role::Conditions, 0..conditions, units),
            bias: self.push(Role::Bias, 0..bias, units),
        }
    }

    pub fn length(&self) -> usize {
        self.parts.last().map_or(0, |part| part.range.end)
    }

    /// Whether a part's gradient is summed over the data ranks while the slopes go backward.
    pub fn is_summed_early(&self, part: &Range<usize>) -> bool {
        self.nodes.iter().any(|node| match &node.stage {
            Stage::Normalise { kind: Normalisation::Batch, shift, scale, .. } => {
                part == shift || part == scale
            }
            _ => false,
        })
    }

    /// The activation that the values of a node go through before they are multiplied again.
    pub fn activation_after(&self, node: usize) -> Option<Activation> {
        self.nodes[node + 1..].iter().find_map(|n| match n.stage {
            Stage::Activate(activation) => Some(Some(activation)),
            Stage::Linear { .. } => Some(None),
            _ => None,
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_tile_the_buffer_and_brackets_must_match() {
        let steps = vec![
            Step::Linear { units: 5, bias: false, conditions: true },
            Step::Normalise(Normalisation::Batch),
            Step::Keep,
            Step::leaky_relu(0.1),
            Step::linear(5),
            Step::Add,
        ];
        let plan = Plan { snps: None, inputs: 3, conditions: 2, steps };
        let drawn = plan.drawn().unwrap();
        let names: Vec<&str> = drawn.parts.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["0.weight", "0.conditions", "0.shift", "0.scale", "1.weight", "1.bias"]);
        assert!(drawn.parts.windows(2).all(|p| p[0].range.end == p[1].range.start));
        assert_eq!((plan.parameters().unwrap(), plan.outputs().unwrap()), (15 + 10 + 10 + 25 + 5, 5));
        assert_eq!(drawn.nodes[5].stage, Stage::Add { kept: 2 });
        assert_eq!(drawn.activation_after(1), Some(Activation::LeakyRelu(0.1)));
        assert_eq!(drawn.activation_after(4), None);
        for steps in [vec![Step::Add], vec![Step::Keep], vec![Step::Keep, Step::linear(2), Step::Add]] {
            assert!(Plan { snps: None, inputs: 3, conditions: 0, steps }.drawn().is_err());
        }
    }
}
