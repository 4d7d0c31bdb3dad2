//! Calls of all ranks brought together.

use crate::nn::Ranks;
use crate::packed::Packed;
use crate::packed::PER_BYTE;

/// Calls at all `m` SNPs, from those at the SNPs of the ranks of this line; on the line's first rank. Collective over
/// the line.
pub fn snps(ranks: &Ranks, m: usize, own: &Packed) -> Option<Packed> {
    let line = ranks.snps.world();
    if line.rank() > 0 {
        line.send(0, own.bytes());
        return None;
    }
    let mut all = Packed::missing(own.rows(), m);
    for rank in 0..line.size() {
        let snps = ranks.snps_of_rank(m, rank);
        let received = if rank == 0 { Vec::new() } else { line.receive(rank) };
        let bytes: &[u8] = if rank == 0 { own.bytes() } else { &received };
        if snps.is_empty() {
            continue;
        }
        let (first, stride) = (snps.start / PER_BYTE, snps.len().div_ceil(PER_BYTE));
        for (i, row) in bytes.chunks_exact(stride).enumerate() {
            all.row_mut(i)[first..first + stride].copy_from_slice(row);
        }
    }
    Some(all)
}

/// Calls of the animals of all lines, in the order of the lines, at all `m` SNPs; on the root. Collective.
pub fn animals(ranks: &Ranks, m: usize, own: &Packed) -> Option<Packed> {
    let whole = snps(ranks, m, own)?;
    let column = ranks.data.world();
    if column.rank() > 0 {
        column.send(0, whole.bytes());
        return None;
    }
    let (mut rows, mut bytes) = (whole.rows(), whole.bytes().to_vec());
    for rank in 1..column.size() {
        let received: Vec<u8> = column.receive(rank);
        rows += received.len() / whole.stride().max(1);
        bytes.extend(received);
    }
    Some(Packed::from_bytes(rows, m, bytes))
}
