//! Generators on small herds.

use super::*;
use crate::device;
use crate::device::network::Values;
use crate::genotype::Variants;
use crate::rng::{Purpose, Stream};

/// A herd of `n` animals: SNPs that follow each other on chromosomes of 100 SNPs, a megabase apart, with calls missing.
pub(super) fn herd(n: usize, m: usize) -> (Packed, Variants) {
    let mut codes = vec![0u8; n * m];
    for (i, row) in codes.chunks_mut(m).enumerate() {
        let mut s = Stream::new(7, Purpose::Test, i as u64);
        for j in 0..m {
            // As the SNP before, as the one before that, or new: no chain of the first order.
            let u = if j % 100 < 2 { 1.0 } else { s.uniform() };
            row[j] = if u < 0.4 {
                row[j - 1]
            } else if u < 0.8 {
                row[j - 2]
            } else {
                s.below(3) as u8
            };
        }
        row.iter_mut().for_each(|code| *code = if s.uniform() < 0.02 { 3 } else { *code });
    }
    let texts = |prefix: &str| (0..m).map(|j| format!("{prefix}{j}")).collect::<Vec<_>>();
    let variants = Variants {
        chromosome: (0..m).map(|j| (1 + j / 100).to_string()).collect(),
        position: (0..m as u64).map(|j| 1_000_000 * (1 + j % 100)).collect(),
        id: texts("snp"),
        counted_allele: vec!["A".into(); m],
        other_allele: vec!["G".into(); m],
        cm: vec![f64::NAN; m],
        frequency: vec![0.5; m],
        missing: vec![0; m],
    };
    (Packed::from_codes(n, m, &codes), variants)
}

/// What a generator learns from, on one rank.
pub(super) fn of_herd(ranks: &Ranks, packed: Packed, variants: &Variants) -> Herd {
    let rows: Vec<usize> = (0..packed.rows()).collect();
    Herd::new(ranks, (packed, &rows), variants, None, 3).unwrap()
}

/// Adds to one parameter.
pub(super) fn shift(device: &dyn Network, parameters: &mut Values, at: usize, step: f64) {
    let mut here = [0.0];
    device.read(parameters.part(at..at + 1), &mut here).unwrap();
    device.write(&[here[0] + step], parameters.part_mut(at..at + 1)).unwrap();
}

/// Trains a kind on one rank.
fn trained(kind: &str, n: usize, m: usize, config: Option<&str>) -> (Ranks, Model, Herd) {
    let device = device::open("cpu").unwrap();
    let ranks = Ranks::alone(&device);
    let (packed, variants) = herd(n, m);
    let herd = of_herd(&ranks, packed, &variants);
    let kind = Kind::named(kind).unwrap();
    let recipe = (kind.configure)(config.map(|text| (text, Path::new("x.toml")))).unwrap();
    let setting = Setting { ranks: &ranks, device: &device, seed: 3 };
    let trained = recipe.train(&setting, &herd, None).unwrap();
    let model = Model::new(kind, &*recipe, &herd, trained.generator);
    (ranks, model, herd)
}

/// Mean over SNPs of the correlation of the genotypes at `lag` SNPs distance, within chromosomes.
fn correlation(p: &Packed, lag: usize) -> f64 {
    let column = |j: usize| (0..p.rows()).map(|i| f64::from(p.get(i, j))).collect::<Vec<_>>();
    let pairs = (0..p.columns() - lag).filter(|j| j / 100 == (j + lag) / 100);
    let all: Vec<f64> = pairs.map(|j| crate::stats::pearson(&column(j), &column(j + lag))).collect();
    crate::stats::mean(&all)
}

#[test]
fn missing_calls_are_drawn_and_others_stay() {
    let device = device::open("cpu").unwrap();
    let ranks = Ranks::alone(&device);
    let (packed, variants) = herd(300, 130);
    let rows: Vec<usize> = (0..300).collect();
    let whole = Herd::new(&ranks, (packed.clone(), &rows), &variants, None, 3).unwrap();
    let mut drawn = [0.0f64; 3];
    for (i, j) in (0..300).flat_map(|i| (0..130).map(move |j| (i, j))) {
        match (packed.get(i, j), whole.packed.get(i, j)) {
            (3, new) => drawn[usize::from(new)] += 1.0,
            (old, new) => assert_eq!(old, new),
        }
    }
    let all: f64 = drawn.iter().sum();
    // Genotypes are as frequent as each other: within 4 binomial errors.
    assert!(drawn.iter().all(|d| (d / all - 1.0 / 3.0).abs() < 4.0 * (0.22 / all).sqrt()), "{drawn:?}");
    // An animal's calls do not depend on who else is there.
    let every: Vec<usize> = (0..130).collect();
    let frequencies: Vec<[f64; 3]> =
        whole.frequencies.rows().into_iter().map(|r| [r[0], r[1], r[2]]).collect();
    let mut few = packed.select(&[5, 17], &every);
    herd::fill(&mut few, &[5, 17], &(0..130), &frequencies, 3);
    assert_eq!(few, whole.packed.select(&[5, 17], &every));
    let mut none = packed;
    (0..300).for_each(|i| none.set(i, 9, 3));
    let rows: Vec<usize> = (0..300).collect();
    let e = Herd::new(&ranks, (none, &rows), &variants, None, 3).err().unwrap();
    assert!(e.to_string().contains("SNP snp9: expected calls to learn from"), "{e}");
}

#[test]
fn animals_do_not_depend_on_how_they_are_asked_for_and_survive_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for (name, config) in [
        ("independent", ""),
        ("markov", ""),
        ("mosaic", "error = 0.1"),
        ("relatives", ""),
        ("relatives", "generations = 3\nrelatives = 2"),
        ("vae", "widths = [12, 8]\nlatent = 4\nepochs = 2"),
        ("gan", "generator = [8]\ndiscriminator = [8, 4]\nlatent = 4\nepochs = 2"),
        ("ddpm", "widths = [8]\nsteps = 9\nepochs = 2"),
    ] {
        let kind = Kind::named(name).unwrap();
        let (ranks, mut model, _) = trained(name, 40, 310, Some(config));
        // 245..285: around the end of a block of 256 animals
        let all = model.generator.draw(&ranks, 245..285, None, 9).unwrap();
        let few = model.generator.draw(&ranks, 255..258, None, 9).unwrap();
        let every: Vec<usize> = (0..310).collect();
        assert_eq!(few, all.select(&[10, 11, 12], &every), "{}", kind.name);
        assert!(all.tally_columns().iter().all(|t| t[3] == 0));
        assert_ne!(model.generator.draw(&ranks, 245..285, None, 10).unwrap(), all);
        let path = dir.path().join(kind.name);
        model.write(&ranks, &path, true).unwrap();
        let device = device::open("cpu").unwrap();
        let mut read = Model::read(&ranks, &device, &path).unwrap();
        assert_eq!((read.header.animals, read.header.kind.as_str()), (40, kind.name));
        assert_eq!(read.generator.draw(&ranks, 245..285, None, 9).unwrap(), all, "{}", kind.name);
    }
}

#[test]
fn baselines_keep_what_they_promise() {
    let (n, m, made) = (600, 200, 3000);
    for (kind, keeps) in
        [("independent", [false, false]), ("markov", [true, false]), ("mosaic", [true, true])]
    {
        let config = if kind == "mosaic" { "segment_cm = 500.0" } else { "" };
        let (ranks, mut model, herd) = trained(kind, n, m, Some(config));
        let new = model.generator.draw(&ranks, 0..made, None, 1).unwrap();
        for (j, t) in new.tally_columns().iter().enumerate() {
            for (code, &count) in t.iter().enumerate().take(3) {
                let (p, found) = (herd.frequencies[[j, code]], count as f64 / made as f64);
                let error = (p * (1.0 - p) / made as f64).sqrt();
                // Smoothing and filling shift a chain's frequencies by less than a hundredth.
                assert!((p - found).abs() < 5.0 * error + 0.01, "{kind}, SNP {j}: {p} {found}");
            }
        }
        let (near, far) = (correlation(&new, 1), correlation(&new, 4));
        let (near_real, far_real) = (correlation(&herd.packed, 1), correlation(&herd.packed, 4));
        let kept = [(near - near_real).abs() < 0.03, (far - far_real).abs() < 0.03];
        assert_eq!(kept, keeps, "{kind}: {near} {near_real}, {far} {far_real}");
    }
}

/// How like the herd made animals are: the mean error of genotype frequencies, the correlation of neighbours and the
/// mean share of SNPs at which two animals differ, both as shares of the herd's.
fn likeness(herd: &Herd, new: &Packed) -> [f64; 3] {
    let (shares, made) = (new.tally_columns(), new.rows() as f64);
    let off = |((j, code), p): ((usize, usize), &f64)| (p - shares[j][code] as f64 / made).abs();
    let off = herd.frequencies.indexed_iter().map(off).sum::<f64>() / herd.frequencies.len() as f64;
    let differing = |p: &Packed| {
        let differ = |i: usize| (0..p.columns()).filter(|&j| p.get(i, j) != p.get(i + 1, j)).count();
        (0..p.rows() - 1).map(differ).sum::<usize>() as f64 / ((p.rows() - 1) * p.columns()) as f64
    };
    let near = correlation(new, 1) / correlation(&herd.packed, 1);
    [off, near, differing(new) / differing(&herd.packed)]
}

/// Whether frequencies, the correlation of neighbours and the differences between animals are near the herd's.
fn like([off, near, differing]: [f64; 3], most_off: f64) -> [bool; 3] {
    [off < most_off, near > 0.6 && near < 1.5, differing > 0.6]
}

#[test]
fn networks_learn_frequencies_and_how_neighbours_go_together() {
    // The largest error of genotype frequencies.
    for (kind, config, most_off) in [
        ("vae", "widths = [64, 32]\nlatent = 8\nepochs = 80\nbatch = 50\nlearning_rate = 0.003", 0.1),
        (
            "gan",
            "generator = [64, 64]\ndiscriminator = [64, 32]\nlatent = 16\ndiscriminator_learning_rate = 0.001\nepochs = 120\nbatch = 50",
            0.2,
        ),
        (
            "ddpm",
            "widths = [128, 128]\nsteps = 60\nlast_beta = 0.15\nepochs = 120\nbatch = 50\nlearning_rate = 0.002",
            0.2,
        ),
    ] {
        let (ranks, mut model, herd) = trained(kind, 400, 40, Some(config));
        let new = model.generator.draw(&ranks, 0..500, None, 1).unwrap();
        let found = likeness(&herd, &new);
        println!("{kind}: {found:.3?}");
        assert_eq!(like(found, most_off), [true; 3], "{kind}: {found:?}");
    }
}

#[test]
fn independent_snps_and_a_repeated_animal_are_not_like_the_herd() {
    let (ranks, mut model, herd) = trained("independent", 400, 40, None);
    let new = model.generator.draw(&ranks, 0..500, None, 1).unwrap();
    let found = likeness(&herd, &new);
    assert_eq!(like(found, 0.1), [true, false, true], "independent: {found:?}");
    let every: Vec<usize> = (0..40).collect();
    let found = likeness(&herd, &herd.packed.select(&[7; 500], &every));
    let [frequencies, _, differing] = like(found, 0.2);
    assert!(!frequencies && !differing, "one animal: {found:?}");
}
