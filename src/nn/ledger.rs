//! Losses of the last steps, on the device until it is read for several of them at once: no step waits for it.

use crate::device::network::{Network, Values};
use crate::error::Result;
use std::ops::Range;

/// Steps whose numbers are read at once.
const STEPS: usize = 16;

/// Numbers of steps that nobody has read yet, a row a step, each with what is known of it here.
pub struct Ledger<T> {
    /// The rows; what stands in those that are not written means nothing.
    pub values: Values,
    width: usize,
    known: Vec<T>,
}

impl<T> Ledger<T> {
    /// For `width` numbers a step.
    pub fn new(device: &dyn Network, width: usize) -> Result<Ledger<T>> {
        Ok(Ledger { values: device.values(STEPS * width)?, width, known: Vec::new() })
    }

    /// Where the numbers of the step at work go. [`Ledger::is_full`] is to be asked after each step.
    pub fn row(&self) -> Range<usize> {
        let start = self.known.len() * self.width;
        start..start + self.width
    }

    /// Where those of the step before went.
    pub fn last(&self) -> Range<usize> {
        let end = self.known.len() * self.width;
        end - self.width..end
    }

    /// The step at work is done: its row is written.
    pub fn close(&mut self, known: T) {
        self.known.push(known);
    }

    /// Whether all is to be read before the next step.
    pub fn is_full(&self) -> bool {
        self.known.len() == STEPS
    }

    /// The steps since the last call, in their order.
    pub fn take(&mut self, device: &dyn Network) -> Result<Vec<(T, Vec<f64>)>> {
        let known = std::mem::take(&mut self.known);
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = vec![0.0; known.len() * self.width];
        device.read(self.values.part(0..rows.len()), &mut rows)?;
        Ok(known.into_iter().zip(rows.chunks_exact(self.width).map(<[f64]>::to_vec)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::open;

    #[test]
    fn steps_are_read_in_their_order_and_once() {
        let device = open("reference").unwrap();
        let mut ledger = Ledger::new(&*device, 2).unwrap();
        assert!(ledger.take(&*device).unwrap().is_empty());
        for round in 0..2 {
            for step in 0..STEPS {
                assert!(!ledger.is_full());
                let row = ledger.row();
                // What is given up half way is written again.
                for number in [-1.0, (round * STEPS + step) as f64] {
                    device.write(&[number, 0.5], ledger.values.part_mut(row.clone())).unwrap();
                }
                ledger.close(step);
            }
            assert!(ledger.is_full());
            let found = ledger.take(&*device).unwrap();
            let wanted = (0..STEPS).map(|step| (step, vec![(round * STEPS + step) as f64, 0.5]));
            assert_eq!(found, wanted.collect::<Vec<_>>());
        }
    }
}
