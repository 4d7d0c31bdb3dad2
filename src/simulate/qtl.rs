//! Which SNPs are QTL, and what each does to each trait before scaling.

use super::config::{Form, SimulationConfig, TraitConfig};
use super::map::Map;
use crate::rng::{Purpose, Stream};
use ndarray::Array2;

/// Pairs of loci behind an epistatic trait, at most.
const PAIRS: usize = 100;
/// A gene of large effect sits at the nearest SNP with at least this minor-allele frequency.
const MAJOR_MAF: f64 = 0.2;

/// The QTL and their raw effects. The same on every rank.
pub struct Qtl {
    /// The SNPs of all QTL, rising.
    pub snps: Vec<usize>,
    /// Rows of `snps` that make the polygenic part: the common ones, then those of single traits.
    pub polygenic: Vec<usize>,
    /// Row of `snps` of each gene of large effect; none where its chromosome has no SNP.
    pub major: Vec<Option<usize>>,
    /// Raw additive effects: (polygenic loci, traits).
    pub additive: Array2<f64>,
    /// Raw dominance effects or pair effects of each trait that has them.
    pub other: Vec<Other>,
}

/// The raw non-additive effects of one trait.
pub enum Other {
    /// None, or a link to another trait.
    Nothing,
    /// One dominance effect a polygenic locus.
    Dominance(Vec<f64>),
    /// Two rows of `snps` and the effect of their product.
    Pairs(Vec<(usize, usize, f64)>),
}

impl Qtl {
    /// Draws loci and raw effects. `frequency` is the founders', of every SNP.
    pub fn draw(seed: u64, map: &Map, frequency: &[f64], config: &SimulationConfig) -> Qtl {
        let mut stream = Stream::new(seed, Purpose::Qtl, 0);
        let mut all: Vec<usize> = (0..map.len()).collect();
        stream.shuffle(&mut all);
        let rest = all.split_off(config.qtl.min(all.len()));
        all.sort_unstable();
        // A few loci with larger, many with smaller effects: normal times the root of an exponential.
        let sizes: Vec<f64> = all.iter().map(|_| (-(1.0 - stream.uniform()).ln()).sqrt()).collect();
        let traits = config.selected();
        let genes: Vec<Option<usize>> = config
            .major
            .iter()
            .map(|gene| nearest_common(map, frequency, gene.chromosome - 1, gene.place))
            .collect();
        let own: Vec<Vec<usize>> =
            traits.iter().enumerate().map(|(t, of)| own_loci(seed, t, of, &rest)).collect();
        let mut snps = all.clone();
        snps.extend(own.iter().flatten());
        snps.extend(genes.iter().flatten());
        snps.sort_unstable();
        snps.dedup();
        let row = |snp: usize| snps.binary_search(&snp).expect("listed above");
        let common: Vec<usize> = all.into_iter().map(row).collect();
        let single = own.iter().flatten().map(|&snp| row(snp));
        let polygenic: Vec<usize> = common.iter().copied().chain(single).collect();
        let mut additive = Array2::zeros((polygenic.len(), traits.len()));
        let mut next = common.len();
        let mut other = Vec::new();
        for (t, of) in traits.iter().enumerate() {
            let mut stream = Stream::new(seed, Purpose::Qtl, t as u64 + 1);
            if of.own_qtl.is_none() {
                for (k, size) in sizes.iter().enumerate() {
                    additive[[k, t]] = size * stream.normal();
                }
            }
            for _ in &own[t] {
                additive[[next, t]] = 2.0 * stream.uniform() - 1.0;
                next += 1;
            }
            other.push(match of.form {
                Form::Dominance => Other::Dominance(sizes.iter().map(|s| s * stream.normal()).collect()),
                Form::Epistasis => Other::Pairs(pairs(&mut stream, &common)),
                _ => Other::Nothing,
            });
        }
        Qtl { major: genes.into_iter().map(|g| g.map(row)).collect(), snps, polygenic, additive, other }
    }
}

/// The loci that belong to trait `t` alone, among the SNPs that are not common loci; none where it has the common
/// ones.
fn own_loci(seed: u64, t: usize, of: &TraitConfig, rest: &[usize]) -> Vec<usize> {
    let Some(count) = of.own_qtl else { return Vec::new() };
    let mut loci = rest.to_vec();
    // Another range of indices than the effects'.
    Stream::new(seed, Purpose::Qtl, 1 << 32 | t as u64).shuffle(&mut loci);
    loci.truncate(count);
    loci
}

fn pairs(stream: &mut Stream, loci: &[usize]) -> Vec<(usize, usize, f64)> {
    let mut order = loci.to_vec();
    stream.shuffle(&mut order);
    order.chunks_exact(2).take(PAIRS).map(|p| (p[0], p[1], stream.normal())).collect()
}

/// The common SNP nearest to the `place` (0 to 1) of a chromosome; any SNP there when none is common.
fn nearest_common(map: &Map, frequency: &[f64], chromosome: usize, place: f64) -> Option<usize> {
    let snps = map.chromosome(chromosome);
    let target = f64::from(map.span(chromosome)) * place;
    let distance = |j: usize| (f64::from(map.position[j] - map.position[snps.start]) - target).abs();
    let common = |j: &usize| frequency[*j].min(1.0 - frequency[*j]) >= MAJOR_MAF;
    let near = |a: &usize, b: &usize| distance(*a).total_cmp(&distance(*b));
    snps.clone().filter(common).min_by(near).or_else(|| snps.clone().min_by(near))
}
