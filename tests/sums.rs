//! Sums of gradients over ranks: after the backward pass and beside it.

mod support;

use genialearn::comm::layout::share;
use genialearn::comm::reduce::{Exchange, Reduce};
use genialearn::device::network::{Loss, Values};
use genialearn::device::{open, Genotypes};
use genialearn::nn::{Architecture, Batch, Input, Mode, Net, Normalisation, Ranks, Reads, Records, Work};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use std::sync::Arc;
use std::time::Duration;
use support::on_ranks;

/// Animals, SNPs (three chunks).
const SHAPE: (usize, usize) = (46, 600);

/// Backends and ways; a GPU where there is one, or what stands for it.
const WAYS: [(&str, Exchange); 4] = [
    ("strict", Exchange::Host),
    ("cpu", Exchange::Host),
    ("cpu", Exchange::Ordered),
    ("cuda", Exchange::Staged),
];

#[test]
fn sums_over_ranks_are_those_of_all_pieces() {
    on_ranks("sums_over_ranks_are_those_of_all_pieces", &[1, 2, 3, 4], |world| {
        for (name, exchange) in WAYS.into_iter().filter(|way| open(way.0).is_ok()) {
            let device = open(name).unwrap();
            let reduce = Reduce::new(world.clone(), device.clone(), exchange, 3);
            let pieces = reduce.pieces();
            assert_eq!(pieces, if exchange == Exchange::Ordered { 3 } else { world.size() });
            // A rank without pieces brings a buffer that counts for nothing.
            let numbers = if reduce.own().is_empty() { 77..78 } else { reduce.own() };
            let mut parts: Vec<Values> = numbers.clone().map(|_| device.values(4).unwrap()).collect();
            for (part, number) in parts.iter_mut().zip(numbers) {
                device.write(&[9.0, number as f64 + 1.0, 0.5, 9.0], part.whole_mut()).unwrap();
            }
            reduce.sum(&mut parts, 1..3).unwrap();
            let mut found = [0.0; 2];
            device.read(parts[0].part(1..3), &mut found).unwrap();
            assert_eq!(found, [(pieces * (pieces + 1)) as f64 / 2.0, 0.5 * pieces as f64]);
        }
    });
}

#[test]
fn buckets_are_summed_as_they_were_when_handed_over() {
    on_ranks("buckets_are_summed_as_they_were_when_handed_over", &[1, 2, 3, 4], |world| {
        for (name, exchange) in WAYS.into_iter().filter(|way| open(way.0).is_ok()) {
            let device = open(name).unwrap();
            let reduce = Reduce::new(world.clone(), device.clone(), exchange, 3);
            let (pieces, late) = (reduce.pieces() as f64, world.rank() % 2 == 1);
            let mut parts: Vec<Values> =
                (0..reduce.own().len().max(1)).map(|_| device.values(9).unwrap()).collect();
            let fill = |parts: &mut [Values], x: f64, range: std::ops::Range<usize>| {
                for part in parts {
                    device.fill(x, part.part_mut(range.clone())).unwrap();
                }
            };
            reduce
                .overlapped(|sums| {
                    // Ranks come to their buckets at other times, and what comes later stands in the same buffer.
                    fill(&mut parts, 1.0, 6..9);
                    sums.begin(&mut parts, 6..9)?;
                    std::thread::sleep(Duration::from_millis(if late { 20 } else { 0 }));
                    fill(&mut parts, 2.0, 4..6);
                    sums.sum(&mut parts, 4..6)?;
                    let mut found = [0.0; 2];
                    device.read(parts[0].part(4..6), &mut found)?;
                    assert_eq!(found, [2.0 * pieces; 2]);
                    fill(&mut parts, 3.0, 0..4);
                    sums.begin(&mut parts, 1..4)?;
                    sums.begin(&mut parts, 4..4)?;
                    sums.end(&mut parts)
                })
                .unwrap();
            let mut found = [0.0; 9];
            device.read(parts[0].whole(), &mut found).unwrap();
            let wanted = [3.0, 3.0 * pieces, 3.0 * pieces, 3.0 * pieces, 2.0 * pieces, 2.0 * pieces];
            assert_eq!(found[..6], wanted);
            assert_eq!(found[6..], [pieces; 3]);
        }
    });
}

/// The gradient of some animals (whose costs are divided by `total`) by the ranks that are given.
fn gradient(
    net: &mut Net,
    ranks: &Ranks,
    work: &mut Work,
    held: &Genotypes,
    animals: &[usize],
    total: f64,
) -> Vec<f64> {
    let device = net.device().clone();
    let pieces = ranks.pieces(animals.len());
    let batch = Batch::new(&*device, Input::Genotypes(held, None), animals, &pieces).unwrap();
    let own = pieces.iter().flat_map(|piece| &animals[piece.clone()]);
    let y: Vec<f64> = own.flat_map(|&i| [(i % 7) as f64 - 3.0, (i % 5) as f64 - 2.0]).collect();
    let records = Records::new(&*device, &y, None, total).unwrap();
    let mode = Mode::Predict;
    net.forward(ranks, &batch, mode, work).unwrap();
    net.loss(ranks, &batch, &records, Loss::Squared, work).unwrap();
    net.backward(ranks, &batch, mode, work).unwrap();
    let mut found = vec![0.0; net.parameters().unwrap().len()];
    device.read(work.gradient().whole(), &mut found).unwrap();
    found
}

#[test]
fn sums_beside_the_backward_pass_are_those_after_it() {
    on_ranks("sums_beside_the_backward_pass_are_those_after_it", &[1, 2, 3, 4], |world| {
        let (n, m) = SHAPE;
        let mut s = Stream::new(4, Purpose::Test, 1);
        let codes: Vec<u8> = (0..n * m).map(|_| s.below(4) as u8).collect();
        let packed = Arc::new(Packed::from_codes(n, m, &codes));
        // 4,096 units: each chunk of SNPs is a bucket of its own.
        for (name, units, exchange) in [
            ("strict", 5, Exchange::Host),
            ("strict", 5, Exchange::Ordered),
            ("cpu", 4096, Exchange::Host),
            ("cpu", 4096, Exchange::Ordered),
            ("cuda", 20, Exchange::Staged),
        ] {
            let Ok(device) = open(name) else { continue };
            let coding = vec![[-1.0, 0.1, 1.2, 0.0]; m];
            let held = device.hold(&packed, &coding).unwrap();
            let architecture = Architecture {
                hidden: vec![units, 6],
                normalisation: Normalisation::Layer,
                dropout: 0.0,
                ..Architecture::default()
            };
            let mut net = Net::new(&device, &architecture, &Reads::snps(0..m, m, 0), 2, 5).unwrap();
            let (ranks, alone) =
                (Ranks::new(world, &device, (1, world.size()), exchange).unwrap(), Ranks::alone(&device));
            let mut works = [&ranks, &alone].map(|ranks| Work::new(&net, ranks, 23, true).unwrap());
            // Twice with the same buffers: what is handed over too early is that of the first time.
            for first in [0, 23] {
                let animals: Vec<usize> = (first..first + 23).collect();
                let found = gradient(&mut net, &ranks, &mut works[0], &held, &animals, 23.0);
                let mut wanted: Vec<f64> = Vec::new();
                for piece in 0..ranks.data.pieces() {
                    let part = &animals[share(animals.len(), piece, ranks.data.pieces())];
                    let part = gradient(&mut net, &alone, &mut works[1], &held, part, 23.0);
                    match (piece, name) {
                        (0, _) => wanted = part,
                        (_, "strict") => wanted.iter_mut().zip(part).for_each(|(w, x)| *w += x),
                        _ => wanted
                            .iter_mut()
                            .zip(part)
                            .for_each(|(w, x)| *w = f64::from(*w as f32 + x as f32)),
                    }
                }
                assert!(wanted.iter().any(|w| *w != 0.0) && wanted.iter().all(|w| w.is_finite()));
                let differ = found.iter().zip(&wanted).filter(|(f, w)| f != w).count();
                assert_eq!(differ, 0, "{name} {exchange} of {} numbers", found.len());
            }
        }
    });
}
