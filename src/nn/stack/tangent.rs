//! The tangent pass: gradients of a function of the input's slope, without a second differentiation.
//!
//! Where all activations are piecewise linear and nothing is normalised, ⟨v, ∂D/∂x⟩ with v held fixed is the
//! derivative of D along v, so that its gradient by a weight is Σ D s', with the slopes D of the backward pass and
//! the tangents s that start as v (docs/generators.md).

use super::plan::Stage;
use super::{upto, Pass, Stack};
use crate::device::network::{Accumulate, Activation, Product};
use crate::error::{Error, Result};
use std::ops::Range;

impl Stack {
    /// Adds to the gradient that of Σ ⟨v, slope by the input⟩ over the `rows` of the last backward pass, v being
    /// [`Pass::tangent_mut`] (rows.len(), inputs). Biases and what multiplies conditions have none.
    pub fn tangent(&self, rows: Range<usize>, pass: &mut Pass) -> Result<()> {
        let (device, count) = (&*self.device, rows.len());
        for at in 1..self.drawn.nodes.len() {
            let node = &self.drawn.nodes[at];
            let whole = upto(count, node.width);
            let of_batch = rows.start * node.width..rows.end * node.width;
            let (before, rest) = pass.tangents.split_at_mut(at);
            let (s, to) = (&before[node.from], &mut rest[0]);
            match &node.stage {
                Stage::Linear { weight, .. } if weight.is_empty() => {
                    device.copy(s.part(whole.clone()), to.part_mut(whole))?;
                }
                Stage::Linear { weight, .. } => {
                    let shape = self.product(at, count, self.read_by(at));
                    let s = s.part(upto(count, shape.k));
                    let learn =
                        Product { m: shape.k, n: shape.n, k: count, a_transposed: true, b_transposed: false };
                    let slope = pass.slopes.by(at).part(of_batch);
                    let gradient = pass.gradients[0].part_mut(weight.clone());
                    device.product(learn, s.clone(), slope, Accumulate::Add, gradient)?;
                    // Nothing reads the tangent of the output.
                    if at + 1 < self.drawn.nodes.len() {
                        device.product(
                            shape,
                            s,
                            self.of(weight),
                            Accumulate::Overwrite,
                            to.part_mut(whole),
                        )?;
                    }
                }
                Stage::Activate(activation @ Activation::LeakyRelu(_)) => {
                    let x = pass.values[self.drawn.values.of[node.from]].part(of_batch);
                    device.copy(s.part(whole.clone()), to.part_mut(whole.clone()))?;
                    device.activate_backward(*activation, x, to.part_mut(whole))?;
                }
                Stage::Add { kept } => {
                    device.copy(s.part(whole.clone()), to.part_mut(whole.clone()))?;
                    device.add_scaled(1.0, before[*kept].part(whole.clone()), to.part_mut(whole))?;
                }
                _ => {
                    let problem = "a step that is not piecewise linear has no tangent";
                    return Err(Error::failed("gradient penalty", problem, "please report this"));
                }
            }
        }
        Ok(())
    }
}
