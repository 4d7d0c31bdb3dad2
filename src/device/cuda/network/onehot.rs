//! One-hot genotypes on a card.

use super::super::Cuda;
use crate::device::network::{Draw, OneHot, Onto, Rows, Slice, SliceMut, Smooth};
use crate::device::Genotypes;
use crate::error::{Error, Result};

fn absent<T>() -> Result<T> {
    Err(Error::failed("--device cuda", "generators do not run on cards yet", "use --device cpu"))
}

#[allow(clippy::too_many_arguments)] // they are the terms of one formula
impl OneHot for Cuda {
    fn onehot_times(
        &self,
        _: &Genotypes,
        _: &Rows,
        _: Option<&Smooth>,
        _: Slice,
        _: usize,
        _: SliceMut,
    ) -> Result<()> {
        absent()
    }

    fn onehot_transposed_times(
        &self,
        _: &Genotypes,
        _: &Rows,
        _: Option<&Smooth>,
        _: Option<Slice>,
        _: Slice,
        _: usize,
        _: Onto,
        _: SliceMut,
    ) -> Result<()> {
        absent()
    }

    fn softmax(&self, _: f64, _: Option<Draw>, _: usize, _: SliceMut) -> Result<()> {
        absent()
    }

    fn softmax_backward(&self, _: f64, _: Slice, _: SliceMut) -> Result<()> {
        absent()
    }

    fn cross_entropy(
        &self,
        _: &Genotypes,
        _: &Rows,
        _: f64,
        _: Slice,
        _: SliceMut,
        _: SliceMut,
    ) -> Result<()> {
        absent()
    }

    fn row_squares(&self, _: Slice, _: SliceMut) -> Result<()> {
        absent()
    }

    fn scale_rows(&self, _: Slice, _: Slice, _: Onto, _: SliceMut) -> Result<()> {
        absent()
    }
}
