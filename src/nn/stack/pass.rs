//! The buffers of a chain at work.

use super::plan::Stage;
use super::{Moments, Stack};
use crate::device::network::{Adam, Network, Values};
use crate::error::Result;
use crate::nn::Normalisation;

/// What a chain needs to work on batches; what stands behind a batch's rows means nothing.
pub struct Pass {
    /// Values of nodes, (rows, width), where the plan says.
    pub(super) values: Vec<Values>,
    /// The buffer of the last node's.
    output: usize,
    pub(super) slopes: Slopes,
    /// Of each node with normalisation.
    pub(super) normalised: Vec<Option<Normalised>>,
    /// Of each node, where there is a tangent pass.
    pub(super) tangents: Vec<Values>,
    /// (rows, conditions)
    pub(super) conditions: Values,
    /// As the parameters, of each piece.
    pub(super) gradients: Vec<Values>,
}

/// What is learnt, by the values of nodes.
pub(super) struct Slopes {
    of: Vec<usize>,
    values: Vec<Values>,
    /// Slopes on their way to a node that has got others already.
    scratch: Values,
}

/// Buffers of a normalisation.
pub(super) struct Normalised {
    /// x̂ (rows, width), where it does not overwrite the values that were read.
    pub own: Option<Values>,
    /// Means (width).
    pub mean: Values,
    /// 1/sd, (width) or (rows).
    pub inverse_sd: Values,
    /// Sums over the rows of each piece (width).
    pub totals: Vec<Values>,
}

/// What a [`Pass`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Rows of a batch, at most.
    pub rows: usize,
    /// Whether slopes go backward.
    pub learn: bool,
    /// Whether the slope by the input is wanted, too.
    pub input: bool,
    /// Rows of the gradient penalty, at most.
    pub tangents: usize,
    /// Pieces of the batch that this rank has.
    pub pieces: usize,
}

impl Use {
    /// To go forward alone.
    pub fn forward(rows: usize) -> Use {
        Use { rows, learn: false, input: false, tangents: 0, pieces: 1 }
    }

    /// To go forward and backward, down to the input.
    pub fn learn(rows: usize) -> Use {
        Use { learn: true, input: true, ..Use::forward(rows) }
    }
}

impl Pass {
    /// For batches of a chain.
    pub fn new(stack: &Stack, purpose: Use) -> Result<Pass> {
        let (device, drawn, rows) = (&**stack.device(), &stack.drawn, purpose.rows);
        let all = |widths: &[usize], rows: usize| -> Result<Vec<Values>> {
            widths.iter().map(|width| device.values(rows * width)).collect()
        };
        let normalised = |at: usize| -> Result<Option<Normalised>> {
            let h = drawn.nodes[at].width;
            let Stage::Normalise { kind, .. } = drawn.nodes[at].stage else { return Ok(None) };
            let inverse_sd = if kind == Normalisation::Layer { rows } else { h };
            Ok(Some(Normalised {
                own: (!drawn.alone[at]).then(|| device.values(rows * h)).transpose()?,
                mean: device.values(h)?,
                inverse_sd: device.values(inverse_sd)?,
                totals: (0..purpose.pieces).map(|_| device.values(h)).collect::<Result<_>>()?,
            }))
        };
        let widths: Vec<usize> = drawn.nodes.iter().map(|node| node.width).collect();
        let mut of_slopes = if purpose.learn { drawn.slopes.widths.clone() } else { Vec::new() };
        if let (Some(input), false) = (of_slopes.first_mut(), purpose.input) {
            *input = 0;
        }
        let scratch = of_slopes.iter().max().map_or(0, |widest| rows * widest);
        let pieces = if purpose.learn { purpose.pieces } else { 0 };
        Ok(Pass {
            values: all(&drawn.values.widths, rows)?,
            output: drawn.values.of[widths.len() - 1],
            slopes: Slopes {
                of: drawn.slopes.of.clone(),
                values: all(&of_slopes, rows)?,
                scratch: device.values(scratch)?,
            },
            normalised: (0..widths.len()).map(normalised).collect::<Result<_>>()?,
            tangents: if purpose.tangents > 0 { all(&widths, purpose.tangents)? } else { Vec::new() },
            conditions: device.values(rows * stack.plan().conditions)?,
            gradients: (0..pieces).map(|_| device.values(stack.parameters.len())).collect::<Result<_>>()?,
        })
    }

    /// What the chain reads, (rows, inputs): to be filled before [`Stack::forward`].
    pub fn input_mut(&mut self) -> &mut Values {
        &mut self.values[0]
    }

    /// The conditions that it reads, (rows, conditions): to be filled before [`Stack::forward`].
    pub fn conditions_mut(&mut self) -> &mut Values {
        &mut self.conditions
    }

    /// The conditions that it reads, (rows, conditions).
    pub fn conditions(&self) -> &Values {
        &self.conditions
    }

    /// What it gave, (rows, outputs).
    pub fn output(&self) -> &Values {
        &self.values[self.output]
    }

    /// What it gave, and the place of the slope of what is learnt by it, (rows, outputs): to be filled before
    /// [`Stack::backward`].
    pub fn output_and_slope_mut(&mut self) -> (&Values, &mut Values) {
        (&self.values[self.output], self.slopes.values.last_mut().expect("a chain has an input"))
    }

    /// The slope of what is learnt by the output, (rows, outputs).
    pub fn slope_mut(&mut self) -> &mut Values {
        self.output_and_slope_mut().1
    }

    /// The slope of what is learnt by the input, (rows, inputs).
    pub fn input_slope(&self) -> &Values {
        &self.slopes.values[0]
    }

    /// The same, to change it once the chain needs it no more.
    pub fn input_slope_mut(&mut self) -> &mut Values {
        &mut self.slopes.values[0]
    }

    /// The direction of [`Stack::tangent`], (its rows, inputs).
    pub fn tangent_mut(&mut self) -> &mut Values {
        &mut self.tangents[0]
    }

    /// The gradient, as the parameters.
    pub fn gradient(&self) -> &Values {
        &self.gradients[0]
    }

    /// One step of the optimizer along the gradient.
    pub fn step(&self, adam: &Adam, moments: &mut Moments, stack: &mut Stack) -> Result<()> {
        let device = stack.device().clone();
        moments.step(&*device, adam, self.gradient(), &mut stack.parameters)
    }
}

impl Slopes {
    /// Those by the values of node `at`.
    pub fn by(&self, at: usize) -> &Values {
        &self.values[self.of[at]]
    }

    /// Those by the values of node `at`, and those by the values of node `from` before it, which are not the same.
    pub fn by_and_before(&mut self, at: usize, from: usize) -> (&Values, &mut Values) {
        let (before, rest) = self.values.split_at_mut(self.of[at]);
        (&rest[0], &mut before[self.of[from]])
    }

    /// Takes the first `length` slopes of node `at` through `work` to node `to` before it; nothing where nobody wants
    /// them there.
    pub fn through(
        &mut self,
        device: &dyn Network,
        (at, to): (usize, usize),
        length: usize,
        seen: &mut [bool],
        work: impl FnOnce(&mut Values) -> Result<()>,
    ) -> Result<()> {
        let first = !std::mem::replace(&mut seen[to], true);
        if self.of[at] == self.of[to] {
            return work(&mut self.values[self.of[at]]);
        }
        let (before, rest) = self.values.split_at_mut(self.of[at]);
        let (slope, to) = (rest[0].part(0..length), &mut before[self.of[to]]);
        if to.is_empty() {
            return Ok(());
        }
        if first {
            device.copy(slope, to.part_mut(0..length))?;
            return work(to);
        }
        device.copy(slope, self.scratch.part_mut(0..length))?;
        work(&mut self.scratch)?;
        device.add_scaled(1.0, self.scratch.part(0..length), to.part_mut(0..length))
    }
}
