//! A chain of dense steps over one flat buffer of parameters, forward, backward, and the tangent pass of the
//! gradient penalty; written once for every backend.
//!
//! Generators and their critics are such chains but for the layers that face SNPs. With x the values that a step
//! reads, y those that it gives, D the slope of what is learnt by y, and s a tangent of x:
//!
//! | step | forward | backward | tangent |
//! |---|---|---|---|
//! | linear | y = x W + c V + b | ∂W = x'D, ∂V = c'D, ∂b = Σ D, slope by x: D W' | s W, and ∂W += s'D |
//! | offset | y = x + c V + b | ∂V = c'D, ∂b = Σ D, D | s |
//! | batch or layer normalisation | y = γ∘x̂ + β | ∂γ = Σ D∘x̂, ∂β = Σ D | none |
//! | activation | y = φ(x) | D∘φ'(x) | s∘φ'(x) |
//! | add | y = x + kept | D to both | s + that of kept |
//!
//! The batch may be shared out over the ranks of [`Ranks::data`], one run of rows for each; sums over the batch
//! cross them.

mod normalise;
mod pass;
mod plan;
mod tangent;
#[cfg(test)]
mod tests;

pub use pass::{Pass, Use};
pub use plan::{Part, Plan, Step};

use super::ranks::Ranks;
use super::running::RunningMoments;
use crate::device::network::{Accumulate, Activation, Adam, Draw, Network, Product, Slice, Values};
use crate::error::Result;
use crate::rng::Purpose;
use plan::{Drawn, Stage};
use std::ops::Range;
use std::sync::Arc;

/// What a chain is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To learn: batch normalisation by the batch, which has `count` rows on all data ranks together; the running
    /// moments follow.
    Train {
        /// Rows of the whole batch.
        count: usize,
    },
    /// To use: batch normalisation by the running moments.
    Predict,
}

/// A chain and its parameters, which every rank has.
pub struct Stack {
    device: Arc<dyn Network>,
    plan: Plan,
    drawn: Drawn,
    /// All parameters, as [`Stack::parts`] says.
    pub parameters: Values,
    /// Moments of the batch normalisations.
    pub running: RunningMoments,
}

/// Moments of Adam for a buffer of parameters.
pub struct Moments {
    /// Of the gradient.
    pub first: Values,
    /// Of its squares.
    pub second: Values,
}

impl Moments {
    /// Zeros for so many parameters.
    pub fn new(device: &dyn Network, length: usize) -> Result<Moments> {
        let zeros = || -> Result<Values> {
            let mut values = device.values(length)?;
            device.fill(0.0, values.whole_mut())?;
            Ok(values)
        };
        Ok(Moments { first: zeros()?, second: zeros()? })
    }

    /// One step of Adam on all parameters.
    pub fn step(
        &mut self,
        device: &dyn Network,
        adam: &Adam,
        gradient: &Values,
        parameters: &mut Values,
    ) -> Result<()> {
        let (first, second) = (self.first.whole_mut(), self.second.whole_mut());
        device.adam(adam, None, gradient.whole(), parameters.whole_mut(), first, second)
    }
}

/// The first `rows` rows of a matrix of `width` columns.
fn upto(rows: usize, width: usize) -> Range<usize> {
    0..rows * width
}

impl Stack {
    /// A chain with its first weights (He et al. 2015), normal numbers of the streams (seed, weights, `stream`
    /// + number of the part): networks of one model take other streams.
    pub fn new(device: &Arc<dyn Network>, plan: &Plan, seed: u64, stream: u64) -> Result<Stack> {
        let drawn = plan.drawn()?;
        let mut parameters = device.values(drawn.length())?;
        for (number, part) in drawn.parts.iter().enumerate() {
            let one = part.name.ends_with("scale");
            device.fill(f64::from(u8::from(one)), parameters.part_mut(part.range.clone()))?;
            let Some(variance) = variance(&drawn, plan, &part.range) else { continue };
            let mut normals = device.values(part.range.len())?;
            let draw = Draw {
                seed,
                purpose: Purpose::Weights,
                index: stream + number as u64,
                first_row: 0,
                first_column: 0,
                columns: part.columns as u64,
            };
            device.normals(draw, part.columns, normals.whole_mut())?;
            device.add_scaled(variance.sqrt(), normals.whole(), parameters.part_mut(part.range.clone()))?;
        }
        let running = RunningMoments::new(&**device, drawn.running.clone())?;
        Ok(Stack { device: device.clone(), plan: plan.clone(), drawn, parameters, running })
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The parts of the buffer of parameters.
    pub fn parts(&self) -> &[Part] {
        &self.drawn.parts
    }

    /// What computes.
    pub fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    /// Columns that it gives.
    pub fn outputs(&self) -> usize {
        self.drawn.nodes.last().expect("a chain has an input").width
    }

    fn of(&self, range: &Range<usize>) -> Slice<'_> {
        self.parameters.part(range.clone())
    }

    /// From [`Pass::input_mut`] (rows, inputs) and [`Pass::conditions_mut`] (rows, conditions) to
    /// [`Pass::output`] (rows, outputs). Collective over the data ranks where batches are normalised to learn.
    pub fn forward(&mut self, ranks: &Ranks, rows: usize, mode: Mode, pass: &mut Pass) -> Result<()> {
        for at in 1..self.drawn.nodes.len() {
            let (from, whole) = (self.drawn.nodes[at].from, upto(rows, self.drawn.nodes[at].width));
            if let Stage::Normalise { .. } = self.drawn.nodes[at].stage {
                self.normalise(ranks, (at, rows), mode, pass)?;
                continue;
            }
            let (before, rest) = pass.values.split_at_mut(at);
            let (x, y, device) = (&before[from], &mut rest[0], &*self.device);
            match self.drawn.nodes[at].stage {
                Stage::Linear { .. } => self.linear(at, rows, (x, &pass.conditions), y)?,
                Stage::Activate(activation) => {
                    device.activate(activation, x.part(whole.clone()), y.part_mut(whole))?;
                }
                Stage::Add { kept } => {
                    device.copy(x.part(whole.clone()), y.part_mut(whole.clone()))?;
                    device.add_scaled(1.0, before[kept].part(whole.clone()), y.part_mut(whole))?;
                }
                Stage::Input | Stage::Normalise { .. } => {}
            }
        }
        Ok(())
    }

    /// x (rows, k) times the weight of node `at`.
    fn product(&self, at: usize, rows: usize) -> Product {
        let node = &self.drawn.nodes[at];
        let k = self.drawn.nodes[node.from].width;
        Product { m: rows, n: node.width, k, a_transposed: false, b_transposed: false }
    }

    /// y = x W + c V + b.
    fn linear(&self, at: usize, rows: usize, (x, c): (&Values, &Values), y: &mut Values) -> Result<()> {
        let Stage::Linear { weight, of_conditions, bias } = &self.drawn.nodes[at].stage else {
            return Ok(());
        };
        let (shape, device) = (self.product(at, rows), &*self.device);
        let whole = upto(rows, shape.n);
        let x = x.part(upto(rows, shape.k));
        if weight.is_empty() {
            device.copy(x, y.part_mut(whole.clone()))?;
        } else {
            device.product(shape, x, self.of(weight), Accumulate::Overwrite, y.part_mut(whole.clone()))?;
        }
        if !of_conditions.is_empty() {
            let shape = Product { k: self.plan.conditions, ..shape };
            let c = c.part(upto(rows, shape.k));
            device.product(shape, c, self.of(of_conditions), Accumulate::Add, y.part_mut(whole.clone()))?;
        }
        if !bias.is_empty() {
            device.add_row(self.of(bias), y.part_mut(whole))?;
        }
        Ok(())
    }

    /// From the slope by the output in [`Pass::slope_mut`] to that by the input in [`Pass::input_slope`], after
    /// [`Stack::forward`] of as many rows. The rows `learn` give the gradient in [`Pass::gradient`], which is this
    /// rank's alone until [`Stack::sum_gradient`]; a range that is empty leaves it as it is. Collective over the
    /// data ranks where there is batch normalisation.
    pub fn backward(&self, ranks: &Ranks, rows: usize, learn: Range<usize>, pass: &mut Pass) -> Result<()> {
        let mut seen = vec![false; self.drawn.nodes.len()];
        for at in (1..self.drawn.nodes.len()).rev() {
            let (from, width) = (self.drawn.nodes[at].from, self.drawn.nodes[at].width);
            match self.drawn.nodes[at].stage {
                Stage::Input => {}
                Stage::Linear { .. } => {
                    self.learn_linear(at, learn.clone(), pass)?;
                    self.linear_backward(at, rows, onto(&mut seen, from), pass)?;
                }
                Stage::Activate(activation) => {
                    let (whole, accumulate) = (upto(rows, width), onto(&mut seen, from));
                    let x = pass.values[from].part(whole.clone());
                    let slope = pass.slopes[at].part(whole.clone());
                    self.device.copy(slope, pass.scratch.part_mut(whole.clone()))?;
                    self.device.activate_backward(activation, x, pass.scratch.part_mut(whole))?;
                    pass.deliver(&*self.device, from, rows * width, accumulate)?;
                }
                Stage::Add { kept } => {
                    for to in [from, kept] {
                        let (slope, accumulate) =
                            (pass.slopes[at].part(upto(rows, width)), onto(&mut seen, to));
                        self.device.copy(slope, pass.scratch.part_mut(upto(rows, width)))?;
                        pass.deliver(&*self.device, to, rows * width, accumulate)?;
                    }
                }
                Stage::Normalise { .. } => {
                    self.normalise_backward(ranks, (at, rows), learn.clone(), pass)?;
                    pass.deliver(&*self.device, from, rows * width, onto(&mut seen, from))?;
                }
            }
        }
        Ok(())
    }

    /// The slope by x: D W'.
    fn linear_backward(&self, at: usize, rows: usize, accumulate: Accumulate, pass: &mut Pass) -> Result<()> {
        let Stage::Linear { weight, .. } = &self.drawn.nodes[at].stage else { return Ok(()) };
        let (k, h) = (self.product(at, rows).k, self.drawn.nodes[at].width);
        let shape = Product { m: rows, n: k, k: h, a_transposed: false, b_transposed: true };
        let (before, rest) = pass.slopes.split_at_mut(at);
        let to = before[self.drawn.nodes[at].from].part_mut(upto(rows, k));
        if weight.is_empty() {
            let slope = rest[0].part(upto(rows, h));
            return match accumulate {
                Accumulate::Overwrite => self.device.copy(slope, to),
                Accumulate::Add => self.device.add_scaled(1.0, slope, to),
            };
        }
        self.device.product(shape, rest[0].part(upto(rows, h)), self.of(weight), accumulate, to)
    }

    /// ∂W = x'D, ∂V = c'D, ∂b = Σ D over some rows.
    fn learn_linear(&self, at: usize, learn: Range<usize>, pass: &mut Pass) -> Result<()> {
        let node = &self.drawn.nodes[at];
        let Stage::Linear { weight, of_conditions, bias } = &node.stage else { return Ok(()) };
        if learn.is_empty() {
            return Ok(());
        }
        let rows = |width: usize| learn.start * width..learn.end * width;
        let slope = pass.slopes[at].part(rows(node.width));
        let read = [
            (&pass.values[node.from], self.product(at, 0).k, weight),
            (&pass.conditions, self.plan.conditions, of_conditions),
        ];
        for (x, k, part) in read.into_iter().filter(|r| !r.2.is_empty()) {
            let shape =
                Product { m: k, n: node.width, k: learn.len(), a_transposed: true, b_transposed: false };
            let to = pass.gradient.part_mut(part.clone());
            self.device.product(shape, x.part(rows(k)), slope.clone(), Accumulate::Overwrite, to)?;
        }
        if !bias.is_empty() {
            self.device.column_sums(slope, Accumulate::Overwrite, pass.gradient.part_mut(bias.clone()))?;
        }
        Ok(())
    }

    /// Makes the gradient that of all data ranks. Collective.
    pub fn sum_gradient(&self, ranks: &Ranks, pass: &mut Pass) -> Result<()> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for part in &self.drawn.parts {
            // Those of batch normalisations were summed when they were needed.
            if self.drawn.is_summed_early(&part.range) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == part.range.start => run.end = part.range.end,
                _ => runs.push(part.range.clone()),
            }
        }
        let gradient = std::slice::from_mut(&mut pass.gradient);
        runs.into_iter().try_for_each(|run| ranks.data.sum(gradient, run))
    }
}

/// Whether what comes to a node is the first that comes there.
fn onto(seen: &mut [bool], node: usize) -> Accumulate {
    match std::mem::replace(&mut seen[node], true) {
        true => Accumulate::Add,
        false => Accumulate::Overwrite,
    }
}

/// The variance of a part's first values (He et al. 2015, eq. 14 and 15); nothing where they are 0 or 1.
fn variance(drawn: &Drawn, plan: &Plan, part: &Range<usize>) -> Option<f64> {
    let (at, reads_conditions) = drawn.nodes.iter().enumerate().find_map(|(at, node)| match &node.stage {
        Stage::Linear { weight, of_conditions, .. } if weight == part || of_conditions == part => {
            Some((at, !of_conditions.is_empty()))
        }
        _ => None,
    })?;
    let read = drawn.nodes[drawn.nodes[at].from].width + if reads_conditions { plan.conditions } else { 0 };
    let gain = match drawn.activation_after(at) {
        Some(Activation::LeakyRelu(slope)) => 2.0 / (1.0 + slope * slope),
        Some(Activation::Gelu) => 2.0,
        None => 1.0,
    };
    Some(gain / read.max(1) as f64)
}
