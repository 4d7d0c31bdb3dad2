//! The buffers of a chain at work.

use super::plan::Stage;
use super::{Moments, Stack};
use crate::device::network::{Adam, Network, Values};
use crate::error::Result;
use crate::nn::Normalisation;

/// What a chain needs to work on batches; what stands behind a batch's rows means nothing.
pub struct Pass {
    /// Of each node, (rows, width).
    pub(super) values: Vec<Values>,
    pub(super) slopes: Slopes,
    /// Of each node with normalisation: x̂ (rows, width).
    pub(super) normalised: Vec<Values>,
    /// Means (width) and 1/sd, (width) or (rows), of each such node.
    pub(super) moments: Vec<[Values; 2]>,
    /// Sums over the rows of each piece (width), of each such node.
    pub(super) totals: Vec<Vec<Values>>,
    /// Of each node, where there is a tangent pass.
    pub(super) tangents: Vec<Values>,
    /// (rows, conditions)
    pub(super) conditions: Values,
    /// As the parameters, of each piece.
    pub(super) gradients: Vec<Values>,
}

/// What is learnt, by the values of each node.
pub(super) struct Slopes {
    pub values: Vec<Values>,
    /// Slopes on their way to a node that has got others already.
    scratch: Values,
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
        let (device, nodes) = (&**stack.device(), &stack.drawn.nodes);
        let each = |rows: usize| -> Result<Vec<Values>> {
            nodes.iter().map(|node| device.values(rows * node.width)).collect()
        };
        let rows = purpose.rows;
        let (mut normalised, mut moments, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        for node in nodes {
            let (h, by_rows) = match node.stage {
                Stage::Normalise { kind, .. } => (node.width, kind == Normalisation::Layer),
                _ => (0, false),
            };
            normalised.push(device.values(rows * h)?);
            moments.push([device.values(h)?, device.values(if by_rows { rows } else { h })?]);
            totals.push((0..purpose.pieces).map(|_| device.values(h)).collect::<Result<_>>()?);
        }
        let widest = nodes.iter().map(|node| node.width).max().unwrap_or(0);
        let learning = if purpose.learn { rows } else { 0 };
        let mut slopes = Slopes { values: each(learning)?, scratch: device.values(learning * widest)? };
        if !purpose.input {
            slopes.values[0] = device.values(0)?;
        }
        let pieces = if purpose.learn { purpose.pieces } else { 0 };
        Ok(Pass {
            values: each(rows)?,
            slopes,
            normalised,
            moments,
            totals,
            tangents: each(purpose.tangents)?,
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
        self.values.last().expect("a chain has an input")
    }

    /// What it gave, and the place of the slope of what is learnt by it, (rows, outputs): to be filled before
    /// [`Stack::backward`].
    pub fn output_and_slope_mut(&mut self) -> (&Values, &mut Values) {
        let (values, slopes) = (self.values.last(), self.slopes.values.last_mut());
        (values.expect("a chain has an input"), slopes.expect("a chain has an input"))
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
        let (before, rest) = self.values.split_at_mut(at);
        let (slope, to, first) =
            (rest[0].part(0..length), &mut before[to], !std::mem::replace(&mut seen[to], true));
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
