//! The buffers of a chain at work.

use super::plan::Stage;
use super::{Moments, Stack};
use crate::device::network::{Accumulate, Adam, Network, Values};
use crate::error::Result;
use crate::nn::Normalisation;

/// What a chain needs to work on batches; what stands behind a batch's rows means nothing.
pub struct Pass {
    /// Of each node, (rows, width).
    pub(super) values: Vec<Values>,
    /// What is learnt, by the values of each node.
    pub(super) slopes: Vec<Values>,
    /// Of each node with normalisation: x̂ (rows, width).
    pub(super) normalised: Vec<Values>,
    /// Means (width) and 1/sd, (width) or (rows), of each such node.
    pub(super) moments: Vec<[Values; 2]>,
    /// Rows of the whole batch that made them.
    pub(super) counts: Vec<f64>,
    /// Of each node, where there is a tangent pass.
    pub(super) tangents: Vec<Values>,
    /// (rows, conditions)
    pub(super) conditions: Values,
    /// Slopes on their way to the node before.
    pub(super) scratch: Values,
    pub(super) gradient: Values,
}

/// What a [`Pass`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Rows of a batch, at most.
    pub rows: usize,
    /// Whether slopes go backward.
    pub learn: bool,
    /// Rows of the gradient penalty, at most.
    pub tangents: usize,
}

impl Use {
    /// To go forward alone.
    pub fn forward(rows: usize) -> Use {
        Use { rows, learn: false, tangents: 0 }
    }

    /// To go forward and backward.
    pub fn learn(rows: usize) -> Use {
        Use { rows, learn: true, tangents: 0 }
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
        let (mut normalised, mut moments) = (Vec::new(), Vec::new());
        for node in nodes {
            let (h, by_rows) = match node.stage {
                Stage::Normalise { kind, .. } => (node.width, kind == Normalisation::Layer),
                _ => (0, false),
            };
            normalised.push(device.values(rows * h)?);
            moments.push([device.values(h)?, device.values(if by_rows { rows } else { h })?]);
        }
        let widest = nodes.iter().map(|node| node.width).max().unwrap_or(0);
        let learning = if purpose.learn { rows } else { 0 };
        Ok(Pass {
            values: each(rows)?,
            slopes: each(learning)?,
            normalised,
            moments,
            counts: vec![1.0; nodes.len()],
            tangents: each(purpose.tangents)?,
            conditions: device.values(rows * stack.plan().conditions)?,
            scratch: device.values(learning * widest)?,
            gradient: device.values(if purpose.learn { stack.parameters.len() } else { 0 })?,
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
        let (values, slopes) = (self.values.last(), self.slopes.last_mut());
        (values.expect("a chain has an input"), slopes.expect("a chain has an input"))
    }

    /// The slope of what is learnt by the output, (rows, outputs).
    pub fn slope_mut(&mut self) -> &mut Values {
        self.output_and_slope_mut().1
    }

    /// The slope of what is learnt by the input, (rows, inputs).
    pub fn input_slope(&self) -> &Values {
        &self.slopes[0]
    }

    /// The same, to change it once the chain needs it no more.
    pub fn input_slope_mut(&mut self) -> &mut Values {
        &mut self.slopes[0]
    }

    /// The direction of [`Stack::tangent`], (its rows, inputs).
    pub fn tangent_mut(&mut self) -> &mut Values {
        &mut self.tangents[0]
    }

    /// The gradient, as the parameters.
    pub fn gradient(&self) -> &Values {
        &self.gradient
    }

    /// One step of the optimizer along the gradient.
    pub fn step(&self, adam: &Adam, moments: &mut Moments, stack: &mut Stack) -> Result<()> {
        let device = stack.device().clone();
        moments.step(&*device, adam, &self.gradient, &mut stack.parameters)
    }

    /// Gives the first `length` slopes in `scratch` to a node.
    pub(super) fn deliver(
        &mut self,
        device: &dyn Network,
        to: usize,
        length: usize,
        accumulate: Accumulate,
    ) -> Result<()> {
        let (from, to) = (self.scratch.part(0..length), self.slopes[to].part_mut(0..length));
        match accumulate {
            Accumulate::Overwrite => device.copy(from, to),
            Accumulate::Add => device.add_scaled(1.0, from, to),
        }
    }
}
