//! The pictures of `fidelity`, and how to read them.

use crate::evaluate::diagnostics::Histogram;
use crate::evaluate::fidelity::gwas::Scan;
use crate::evaluate::fidelity::{Findings, Portrait};
use crate::genotype::Variants;
use crate::report::picture::{self, Frame, Series};
use crate::report::study::Picture;

/// −log10 p from which on every SNP is drawn; below, one in some.
const CLEAR: f64 = 2.0;
/// SNPs drawn below that, about.
const FAINT: usize = 1200;

/// All pictures, in the order of the page.
pub fn pictures(findings: &Findings, variants: &Variants) -> Vec<Picture> {
    let p = &findings.portrait;
    let mut all = vec![frequencies(p)];
    // Distances are unknown where positions are.
    if p.ld.iter().any(|(_, bins)| bins.iter().any(|b| b.pairs > 0)) {
        all.push(decay(p));
    }
    all.push(components(p, 0));
    if p.components.explained.len() >= 4 {
        all.push(components(p, 2));
    }
    all.extend([nearest(p), kinship(p)]);
    all.extend(p.scans.as_ref().map(|scans| manhattan(scans, variants)));
    all
}

fn picture(name: &str, svg: String, caption: &str) -> Picture {
    Picture { name: name.into(), svg, caption: caption.into(), validation: None, first: false }
}

fn named(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.into(), points, errors: Vec::new() }
}

fn frequencies(p: &Portrait) -> Picture {
    let frame =
        Frame::new("Allele frequencies", "frequency in real animals", "frequency in synthetic animals");
    let svg = picture::scatter(&frame, &[named("", p.frequencies.clone())]);
    let caption = "Each point (or shaded cell) is a SNP. A faithful set lies on the diagonal, as narrowly as the number of animals \
                   allows.";
    picture("allele_frequencies", svg, caption)
}

fn decay(p: &Portrait) -> Picture {
    let series: Vec<Series> =
        p.ld.iter()
            .map(|(name, bins)| Series {
                name: (*name).into(),
                points: bins.iter().map(|b| (b.distance / 1e3, b.r2)).collect(),
                errors: bins.iter().map(|b| b.se).collect(),
            })
            .collect();
    let frame = Frame {
        log_x: true,
        ..Frame::new("Decay of linkage disequilibrium", "distance between SNPs (kb)", "mean r²")
    };
    let caption = "Squared correlation of the allele counts of pairs of SNPs by their distance, ± its standard error. The curves of \
                   real and synthetic animals should overlap; SNPs drawn independently lie near 1/n.";
    picture("ld_decay", picture::lines(&frame, &series), caption)
}

fn components(p: &Portrait, first: usize) -> Picture {
    let c = &p.components;
    let axis = |k: usize| match c.explained.get(k) {
        Some(share) => format!("PC{} ({:.1} %)", k + 1, 100.0 * share),
        None => "nothing".into(),
    };
    let points = |s: usize| {
        let of = |row: ndarray::ArrayView1<f64>, k: usize| row.get(k).copied().unwrap_or(0.0);
        c.scores[s].rows().into_iter().map(|row| (of(row, first), of(row, first + 1))).collect()
    };
    let title = format!("Principal components {} and {}", first + 1, first + 2);
    let series = [named("real", points(0)), named("synthetic", points(1))];
    let svg = picture::scatter(&Frame::new(&title, &axis(first), &axis(first + 1)), &series);
    let caption = "Real animals in their own principal components (with the share of their variance), and synthetic ones in the same. \
                   Families and breeds that only one of the colours has are missing or invented.";
    picture(&format!("pca_{}_{}", first + 1, first + 2), svg, caption)
}

/// The shares of a histogram as a line.
fn shares(name: &str, h: &Histogram) -> Series {
    let total = h.counts.iter().sum::<u64>().max(1) as f64;
    let middle = |k: usize| h.low + h.width * (k as f64 + 0.5);
    named(name, h.counts.iter().enumerate().map(|(k, &c)| (middle(k), 100.0 * c as f64 / total)).collect())
}

fn nearest(p: &Portrait) -> Picture {
    let c = &p.closeness;
    let series = [
        shares("real to other real", &c.real),
        shares("synthetic to other synthetic", &c.synthetic),
        shares("synthetic to training animals", &c.to_training),
    ];
    let frame = Frame::new("Nearest neighbours", "Euclidean distance to the nearest", "share of animals (%)");
    let caption = "Distances to the nearest neighbour. Synthetic animals whose distance to a training animal lies left of the real \
                   curve copy; distances among synthetic animals left of it say that they are few kinds, repeated.";
    picture("nearest", picture::lines(&frame, &series), caption)
}

fn kinship(p: &Portrait) -> Picture {
    let [real, synthetic] = &p.components.kinship;
    let series = [shares("real", real), shares("synthetic", synthetic)];
    let frame = Frame::new("Kinship", "genomic relationship", "share of pairs (%)");
    let caption = "Genomic relationships of pairs of animals within each set, all by the frequencies of the real animals. Close \
                   relatives make the tail on the right.";
    picture("kinship", picture::lines(&frame, &series), caption)
}

/// Both scans along the genome, the synthetic one downwards.
fn manhattan(scans: &[Scan; 2], variants: &Variants) -> Picture {
    let place = places(variants);
    let of = |scan: &Scan, sign: f64| -> Vec<(f64, f64)> {
        let step = (scan.log10_p.len() / FAINT).max(1);
        let shown = |j: &usize| scan.log10_p[*j] > CLEAR || j.is_multiple_of(step);
        (0..place.len()).filter(shown).map(|j| (place[j], sign * scan.log10_p[j])).collect()
    };
    let series =
        [named("real (upwards)", of(&scans[0], 1.0)), named("synthetic (downwards)", of(&scans[1], -1.0))];
    let chromosomes = variants.chromosome.windows(2).filter(|w| w[0] != w[1]).count() + 1;
    let x = format!("position along {chromosomes} chromosomes (Mb)");
    let frame = Frame::new("Genome scans of the conditioning phenotype", &x, "−log10 p");
    let caption = "One-SNP regressions of the phenotype that the generator was conditioned on. Peaks should stand opposite each other \
                   and be as high, as far as both sets have as many animals. Weak SNPs are thinned out.";
    picture("manhattan", picture::scatter(&frame, &series), caption)
}

/// Where each SNP stands on one long chromosome, in Mb; SNPs of unknown position stand 1 kb apart.
fn places(variants: &Variants) -> Vec<f64> {
    let (mut offset, mut last, mut chromosome) = (0.0, 0.0f64, "");
    let mut out = Vec::with_capacity(variants.len());
    for (name, &position) in variants.chromosome.iter().zip(&variants.position) {
        if name != chromosome {
            (offset, last, chromosome) = (offset + last, 0.0, name);
        }
        let at = if position > 0 { position as f64 / 1e6 } else { last + 1e-3 };
        last = last.max(at);
        out.push(offset + at);
    }
    out
}
