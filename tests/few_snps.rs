//! More ranks than blocks of 256 SNPs: a rank without SNPs has nothing to do, and every command gives what one rank
//! gives.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use support::succeeds;

/// 10 SNPs: one block, which does not end on a whole byte.
const HERD: &str = "animals = 60\nsnps = 10\ntraits = 2\nqtl = 6\n[founders]\nancestors = 4\n";
const MLP: &str = "[network]\nhidden = [4]\n[training]\nepochs = 2\nbatch = 8\n";
const WGAN: &str = "preset = \"small\"\n[training]\nepochs = 2\n";
const BREED: &str = "h2 = 0.3\n[simulate]\nanimals = 60\nsnps = 300\nqtl = 10\ntraits = 1\n[simulate.founders]\nancestors = 4\n\
                     [selection]\ngenerations = 1\ncandidates = 20\nparents = 4\nrepeats = 1\n[dlgblup]\ninner_folds = 2\n\
                     [dlgblup.network]\nhidden = [4]\nepochs = 2\n";

/// All results in a folder but run records.
fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = support::listing(dir).into_iter().filter(|name| !name.ends_with(".run.json"));
    names.map(|name| (name.clone(), std::fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn ranks_without_snps_change_nothing() {
    let inputs = tempfile::tempdir().unwrap();
    for (name, text) in [("herd.toml", HERD), ("mlp.toml", MLP), ("wgan.toml", WGAN), ("breed.toml", BREED)] {
        std::fs::write(inputs.path().join(name), text).unwrap();
    }
    let all: Vec<_> = [1, 5]
        .into_iter()
        .map(|ranks| {
            let dir = tempfile::tempdir().unwrap();
            let input = |name: &str| inputs.path().join(name).to_str().unwrap().to_owned();
            let own = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
            let run = |line: &str, args: &[&str]| {
                let args: Vec<&str> = line.split(' ').chain(args.iter().copied()).collect();
                succeeds(ranks, &[&args[..], &["-q", "--threads", "1", "--device", "cpu"]].concat());
            };
            let (cows, traits) = (own("cows.h5"), own("traits.tsv"));
            run("simulate", &["--config", &input("herd.toml"), "--out", &cows, "--pheno", &traits]);
            run("grm", &[&cows, "--out", &own("g.h5")]);
            run("pca --components 2", &[&cows, "--out", &own("pca")]);
            run("reml", &[&cows, "--pheno", &traits, "--out", &own("reml")]);
            run("gblup --h2 0.3 --solver pcg", &[&cows, "--pheno", &traits, "--out", &own("ebv")]);
            run("predict", &[&own("ebv.model.h5"), &cows, "--out", &own("predicted")]);
            let mlp = ["--pheno", &traits, "--config", &input("mlp.toml"), "--out", &own("mlp.h5")];
            run("train mlp --exchange ordered", &[&[cows.as_str()][..], &mlp[..]].concat());
            run("train wgan", &[&cows, "--config", &input("wgan.toml"), "--out", &own("wgan.h5")]);
            run("generate --animals 5", &[&own("wgan.h5"), "--out", &own("synthetic.h5")]);
            run("breed", &[&input("breed.toml"), "--out", &own("gain")]);
            results(dir.path())
        })
        .collect();
    assert_eq!(all[0].keys().collect::<Vec<_>>(), all[1].keys().collect::<Vec<_>>());
    for (name, bytes) in &all[0] {
        assert!(*bytes == all[1][name], "{name} differs on 5 ranks");
    }
}
