//! What a chain is made of, and where its tensors lie in one buffer of parameters.

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

/// A chain of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Columns that the first step reads.
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
    /// The weight of an offset is empty.
    Linear {
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

/// A linear step's or normalisation's place in the buffer of parameters, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `0.weight`, `0.conditions`, `0.bias`, `1.shift`, `1.scale` and so on, by steps with parameters.
    pub name: String,
    /// Where it lies.
    pub range: Range<usize>,
    /// Columns.
    pub columns: usize,
}

/// A plan worked out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drawn {
    pub nodes: Vec<Node>,
    pub parts: Vec<Part>,
    /// Widths of the batch normalisations.
    pub running: Vec<usize>,
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

    pub(super) fn drawn(&self) -> Result<Drawn> {
        let wrong = |expected: &str, found: &str| {
            Err(Error::input("the plan of a network", expected, found, "please report this"))
        };
        let input = Node { width: self.inputs, from: 0, stage: Stage::Input };
        let mut drawn = Drawn { nodes: vec![input], parts: Vec::new(), running: Vec::new() };
        let (mut kept, mut number) = (Vec::new(), 0);
        for step in &self.steps {
            let from = drawn.nodes.len() - 1;
            let width = drawn.nodes[from].width;
            let (width, stage) = match *step {
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
                Step::Linear { units, bias, conditions } => {
                    let rows = [width, if conditions { self.conditions } else { 0 }, usize::from(bias)];
                    (units, drawn.linear(&mut number, rows, units))
                }
                Step::Offset => (width, drawn.linear(&mut number, [0, self.conditions, 1], width)),
                Step::Normalise(Normalisation::None) => continue,
                Step::Normalise(kind) => {
                    number += 1;
                    let [shift, scale] =
                        ["shift", "scale"].map(|what| drawn.push(number - 1, what, (1, width)));
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
            0 => Ok(drawn),
            _ => wrong("an add for every keep", "none"),
        }
    }
}

/// The parts of a linear step.
const LINEAR: [&str; 3] = ["weight", "conditions", "bias"];

impl Drawn {
    fn push(&mut self, number: usize, what: &str, (rows, columns): (usize, usize)) -> Range<usize> {
        let range = self.length()..self.length() + rows * columns;
        if !range.is_empty() {
            self.parts.push(Part { name: format!("{number}.{what}"), range: range.clone(), columns });
        }
        range
    }

    fn linear(&mut self, number: &mut usize, rows: [usize; 3], units: usize) -> Stage {
        *number += 1;
        let [weight, of_conditions, bias] =
            std::array::from_fn(|k| self.push(*number - 1, LINEAR[k], (rows[k], units)));
        Stage::Linear { weight, of_conditions, bias }
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
        let plan = Plan { inputs: 3, conditions: 2, steps };
        let drawn = plan.drawn().unwrap();
        let names: Vec<&str> = drawn.parts.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["0.weight", "0.conditions", "1.shift", "1.scale", "2.weight", "2.bias"]);
        assert!(drawn.parts.windows(2).all(|p| p[0].range.end == p[1].range.start));
        assert_eq!((plan.parameters().unwrap(), plan.outputs().unwrap()), (15 + 10 + 10 + 25 + 5, 5));
        assert_eq!(drawn.nodes[5].stage, Stage::Add { kept: 2 });
        assert_eq!(drawn.activation_after(1), Some(Activation::LeakyRelu(0.1)));
        assert_eq!(drawn.activation_after(4), None);
        for steps in [vec![Step::Add], vec![Step::Keep], vec![Step::Keep, Step::linear(2), Step::Add]] {
            assert!(Plan { inputs: 3, conditions: 0, steps }.drawn().is_err());
        }
    }
}
