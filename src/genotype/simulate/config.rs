//! What a simulated herd is like: every number that the simulator uses, with its default, and its checks.

use super::defaults;
use crate::config;
use crate::error::{Error, Result};

/// A simulated herd. Read from TOML; a key that is left out keeps its default.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulationConfig {
    /// Genotyped animals, n.
    pub animals: usize,
    /// SNPs, m.
    pub snps: usize,
    /// How many traits, the first ones of the list `trait`; all when left out.
    pub traits: Option<usize>,
    /// Share of calls that are missing.
    pub missing_calls: f64,
    /// Loci of the polygenic part, drawn from the SNPs (all of them when there are fewer).
    pub qtl: usize,
    /// The SNP map.
    pub map: MapConfig,
    /// The founders' haplotypes.
    pub founders: FoundersConfig,
    /// Who descends from whom.
    pub pedigree: PedigreeConfig,
    /// The traits, in the order in which `traits` takes them.
    #[serde(rename = "trait")]
    pub trait_list: Vec<TraitConfig>,
    /// Genetic correlations; a later line overrides an earlier one. What is not named is uncorrelated.
    pub correlation: Vec<Correlation>,
    /// Single genes of large effect.
    pub major: Vec<MajorGene>,
}

/// The SNP map.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MapConfig {
    /// Mean distance of neighbouring SNPs in kilobases.
    pub mean_spacing_kb: f64,
    /// Centimorgans per megabase.
    pub cm_per_mb: f64,
}

/// The founders' haplotypes: mosaics of ancestral ones (docs/simulation.md).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoundersConfig {
    /// Ancestral haplotypes that the founders are mosaics of.
    pub ancestors: usize,
    /// Switches from one ancestor to another per megabase of a founder haplotype.
    pub switches_per_mb: f64,
    /// Share of the score's variance that a founder's segment has of its own.
    pub own: f64,
    /// Slow part of the ancestors' scores: changes per megabase.
    pub slow_changes_per_mb: f64,
    /// Fast part of the ancestors' scores: changes per megabase.
    pub fast_changes_per_mb: f64,
    /// Share of the ancestors' score variance in the fast part.
    pub fast: f64,
    /// Changes per megabase of the allele frequency from SNP to SNP.
    pub frequency_changes_per_mb: f64,
    /// Spread of the frequency's quantile among neighbouring SNPs, between 0 and 1.
    pub frequency_jitter: f64,
}

/// Who descends from whom.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PedigreeConfig {
    /// Birth year of the youngest genotyped animals.
    pub last_year: i32,
    /// Years over which the genotyped animals are born.
    pub years: usize,
    /// Bulls born over those years; the square root of the number of animals when left out.
    pub sires: Option<usize>,
    /// Spread of the bulls' popularity: standard deviation of its logarithm.
    pub popularity: f64,
}

/// One trait.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraitConfig {
    /// Column name.
    pub name: String,
    /// Traits of one group are recorded together; correlations may name a group.
    pub group: String,
    /// Heritability: additive share of the phenotypic variance (on the liability scale of a trait in classes).
    pub h2: f64,
    /// Mean of the phenotype.
    #[serde(default)]
    pub mean: f64,
    /// Phenotypic standard deviation.
    #[serde(default = "one")]
    pub sd: f64,
    /// Share of the phenotypic variance that is genetic but not additive.
    #[serde(default)]
    pub non_additive: f64,
    /// Where the non-additive part comes from.
    #[serde(default)]
    pub form: Form,
    /// The trait whose additive value drives a link.
    #[serde(default)]
    pub of: Option<String>,
    /// Standard deviation of the driving value x inside a link that keeps its linear part, as in the simulation
    /// of Shokor et al. (2024); x is standardised and the linear part taken out when this is left out.
    #[serde(default)]
    pub spread: Option<f64>,
    /// How many loci of its own make the trait's additive part; the common ones when left out.
    #[serde(default)]
    pub own_qtl: Option<usize>,
    /// Share of the animals that have a record of the trait's group.
    #[serde(default = "one")]
    pub recorded: f64,
    /// Shares of the animals in the upper classes 1, 2, ...; empty for a measured trait.
    #[serde(default)]
    pub classes: Vec<f64>,
}

fn one() -> f64 {
    1.0
}

impl TraitConfig {
    /// Standard deviation of what is not genetic, in units of the trait.
    pub fn residual_sd(&self) -> f64 {
        self.sd * (1.0 - self.h2 - self.non_additive).max(0.0).sqrt()
    }
}

/// The shape of the non-additive genetic part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// None.
    #[default]
    Additive,
    /// Dominance deviations at the loci.
    Dominance,
    /// Products of pairs of loci.
    Epistasis,
    /// 1 + x of another trait's additive value x; needs a `spread`.
    Linear,
    /// 1 + x + 2x².
    Quadratic,
    /// sin 2x; sin x with a `spread`.
    Sine,
    /// 1 / (1 + exp(-3(x - 1))); 1 / (1 + exp(-x)) with a `spread`.
    Logistic,
    /// exp x; exp 0.4x with a `spread`.
    Exponential,
}

impl Form {
    /// Whether the part comes from another trait's additive value.
    pub fn is_link(self) -> bool {
        matches!(self, Form::Linear | Form::Quadratic | Form::Sine | Form::Logistic | Form::Exponential)
    }
}

/// A genetic correlation between two traits, or between (or within) groups of traits.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// Two names of traits or groups.
    pub between: [String; 2],
    /// The correlation of the additive values.
    pub r: f64,
}

/// A gene of large effect.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MajorGene {
    /// Name, as it stands in the table of QTL.
    pub name: String,
    /// Chromosome, 1 to 29.
    pub chromosome: usize,
    /// Place on the chromosome, 0 to 1.
    pub place: f64,
    /// Traits and the signed shares of phenotypic variance that the gene makes: minus where the counted allele
    /// lowers the trait.
    pub effects: std::collections::BTreeMap<String, f64>,
}

impl Default for SimulationConfig {
    fn default() -> Self {
        SimulationConfig {
            animals: 2000,
            snps: 5000,
            traits: None,
            missing_calls: 0.005,
            qtl: 1000,
            map: MapConfig::default(),
            founders: FoundersConfig::default(),
            pedigree: PedigreeConfig::default(),
            trait_list: defaults::traits(),
            correlation: defaults::correlations(),
            major: defaults::major_genes(),
        }
    }
}

impl Default for MapConfig {
    fn default() -> Self {
        MapConfig { mean_spacing_kb: 49.4, cm_per_mb: 1.0 }
    }
}

impl Default for FoundersConfig {
    fn default() -> Self {
        FoundersConfig {
            ancestors: 24,
            switches_per_mb: 0.4,
            own: 0.02,
            slow_changes_per_mb: 0.45,
            fast_changes_per_mb: 20.0,
            fast: 0.5,
            frequency_changes_per_mb: 25.0,
            frequency_jitter: 0.08,
        }
    }
}

impl Default for PedigreeConfig {
    fn default() -> Self {
        PedigreeConfig { last_year: 2019, years: 10, sires: None, popularity: 1.0 }
    }
}

impl SimulationConfig {
    /// The traits that will be simulated.
    pub fn selected(&self) -> &[TraitConfig] {
        &self.trait_list[..self.traits.unwrap_or(self.trait_list.len()).min(self.trait_list.len())]
    }

    /// Refuses what cannot be simulated.
    pub fn check(&self) -> Result<()> {
        at_least("animals", self.animals, 1)?;
        at_least("snps", self.snps, 1)?;
        let listed = self.trait_list.len();
        if let Some(wanted) = self.traits {
            at_least("traits", wanted, 1)?;
            if wanted > listed {
                let advice = "ask for fewer, or list more under [[trait]] in the configuration";
                return Err(Error::input("traits", format!("at most {listed}"), wanted, advice));
            }
        }
        at_least("trait", listed, 1)?;
        within("missing_calls", self.missing_calls, 0.0, 0.9)?;
        self.check_scales()?;
        self.trait_list.iter().try_for_each(|t| self.check_trait(t))?;
        self.check_names()
    }

    fn check_scales(&self) -> Result<()> {
        within("map.mean_spacing_kb", self.map.mean_spacing_kb, 0.01, 5000.0)?;
        within("map.cm_per_mb", self.map.cm_per_mb, 0.0, 100.0)?;
        let f = &self.founders;
        at_least("founders.ancestors", f.ancestors, 2)?;
        for (name, rate) in [
            ("switches_per_mb", f.switches_per_mb),
            ("slow_changes_per_mb", f.slow_changes_per_mb),
            ("fast_changes_per_mb", f.fast_changes_per_mb),
            ("frequency_changes_per_mb", f.frequency_changes_per_mb),
        ] {
            within(&format!("founders.{name}"), rate, 0.001, 10_000.0)?;
        }
        within("founders.own", f.own, 0.0, 1.0)?;
        within("founders.fast", f.fast, 0.0, 1.0)?;
        within("founders.frequency_jitter", f.frequency_jitter, 0.0, 1.0)?;
        at_least("pedigree.years", self.pedigree.years, 1)?;
        within("pedigree.last_year", f64::from(self.pedigree.last_year), 1900.0, 2200.0)?;
        within("pedigree.years", self.pedigree.years as f64, 1.0, 100.0)?;
        within("pedigree.popularity", self.pedigree.popularity, 0.0, 5.0)?;
        self.pedigree.sires.map_or(Ok(()), |s| at_least("pedigree.sires", s, 1))
    }

    fn check_trait(&self, t: &TraitConfig) -> Result<()> {
        let at = |key: &str| format!("trait {}: {key}", t.name);
        within(&at("h2"), t.h2, 0.0, 1.0)?;
        within(&at("non_additive"), t.non_additive, 0.0, 1.0)?;
        within(&at("h2 + non_additive"), t.h2 + t.non_additive, 0.0, 1.0)?;
        within(&at("recorded"), t.recorded, 0.0, 1.0)?;
        within(&at("sd"), t.sd, 1e-12, 1e12)?;
        within(&at("sum of classes"), t.classes.iter().sum(), 0.0, 1.0)?;
        t.classes.iter().try_for_each(|&share| within(&at("classes"), share, 0.0, 1.0))?;
        if (t.non_additive > 0.0) != (t.form != Form::Additive) {
            let advice = "give both `form` and a positive `non_additive`, or neither";
            return Err(Error::input(
                at("form"),
                "a form with its share",
                format!("{:?} with {}", t.form, t.non_additive),
                advice,
            ));
        }
        t.spread.map_or(Ok(()), |s| within(&at("spread"), s, 1e-6, 1e6))?;
        if let Some(own) = t.own_qtl {
            let left = self.snps.saturating_sub(self.qtl);
            within(&at("own_qtl"), own as f64, 1.0, left.max(1) as f64)?;
        }
        if t.spread.is_some() && !t.form.is_link() || t.spread.is_none() && t.form == Form::Linear {
            let advice = "give it to links only; a linear link needs it";
            let found = t.spread.map_or("none".into(), |s| s.to_string());
            return Err(Error::input(at("spread"), format!("what suits {:?}", t.form), found, advice));
        }
        let driven = t.of.as_deref();
        match (t.form.is_link(), driven) {
            (false, None) => Ok(()),
            (true, Some(of)) if self.trait_list.iter().any(|o| o.name == of && o.name != t.name) => Ok(()),
            (true, Some(of)) => Err(self.unknown(&at("of"), of)),
            (true, None) => {
                Err(Error::input(at("of"), "another trait", "none", "name the trait that drives it"))
            }
            (false, Some(of)) => {
                Err(Error::input(at("of"), "a link's form", of, "remove `of` or set `form`"))
            }
        }
    }

    /// Every name must be known: a configured trait or group, or one of the default list.
    fn check_names(&self) -> Result<()> {
        for (i, t) in self.trait_list.iter().enumerate() {
            if self.trait_list[..i].iter().any(|o| o.name == t.name) || t.name == "id" {
                return Err(Error::input("trait", "names that differ", &t.name, "rename one of the two"));
            }
        }
        for t in self.selected() {
            match &t.of {
                Some(of) if !self.selected().iter().any(|o| &o.name == of) => {
                    let advice = format!("ask for more traits, so that {of} is among them");
                    return Err(Error::input(
                        format!("trait {}: of", t.name),
                        "a simulated trait",
                        of,
                        advice,
                    ));
                }
                _ => {}
            }
        }
        for c in &self.correlation {
            within(&format!("correlation {}, {}: r", c.between[0], c.between[1]), c.r, -0.99, 0.99)?;
            c.between.iter().try_for_each(|name| self.check_known("correlation", name))?;
        }
        for gene in &self.major {
            let at = format!("major {}", gene.name);
            within(&format!("{at}: chromosome"), gene.chromosome as f64, 1.0, 29.0)?;
            within(&format!("{at}: place"), gene.place, 0.0, 1.0)?;
            gene.effects.keys().try_for_each(|name| self.check_known(&at, name))?;
        }
        self.trait_list.iter().try_for_each(|t| {
            let majors: f64 =
                self.major.iter().filter_map(|g| g.effects.get(&t.name)).map(|share| share.abs()).sum();
            within(&format!("trait {}: shares of its major genes", t.name), majors, 0.0, t.h2)
        })
    }

    fn check_known(&self, place: &str, name: &str) -> Result<()> {
        let known = |list: &[TraitConfig]| list.iter().any(|t| t.name == name || t.group == name);
        if known(&self.trait_list) || known(&defaults::traits()) {
            return Ok(());
        }
        Err(self.unknown(place, name))
    }

    fn unknown(&self, place: &str, name: &str) -> Error {
        let known = self.trait_list.iter().flat_map(|t| [t.name.as_str(), t.group.as_str()]);
        let advice = match config::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a trait under [[trait]]".to_string(),
        };
        Error::input(place, "the name of a trait", format!("`{name}`"), advice)
    }
}

fn at_least(name: &str, found: usize, low: usize) -> Result<()> {
    if found < low {
        return Err(Error::input(name, format!("at least {low}"), found, "raise it"));
    }
    Ok(())
}

fn within(name: &str, found: f64, low: f64, high: f64) -> Result<()> {
    if !(low..=high).contains(&found) {
        return Err(Error::input(name, format!("a number from {low} to {high}"), found, "change it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn problem(text: &str) -> String {
        let read = config::parse::<SimulationConfig>(text, Path::new("sim.toml"));
        let e = read.and_then(|c| c.check()).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        e.to_string()
    }

    #[test]
    fn the_defaults_are_valid_for_any_number_of_traits() {
        let mut config = SimulationConfig::default();
        assert_eq!(config.trait_list.len(), 33);
        for traits in 1..=33 {
            config.traits = Some(traits);
            config.check().unwrap();
        }
        let other = config.trait_list.iter().filter(|t| t.form != Form::Additive).count();
        assert!((10..=12).contains(&other), "{other}: about a third");
        config.traits = Some(4);
        assert!(config.selected().iter().any(|t| t.form != Form::Additive), "small lists have one too");
    }

    #[test]
    fn a_configuration_survives_being_written_and_read() {
        let config = SimulationConfig::default();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(config::parse::<SimulationConfig>(&text, Path::new("x")).unwrap(), config);
    }

    #[test]
    fn the_documented_configuration_is_valid() {
        let page = include_str!("../../../docs/simulation.md");
        let text = page.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config = config::parse::<SimulationConfig>(text, Path::new("docs")).unwrap();
        config.check().unwrap();
        // The page shows the defaults, and the lists of a small herd.
        let default = SimulationConfig::default();
        assert_eq!((config.founders, config.map), (default.founders, default.map));
        assert_eq!(config.trait_list.len(), 2);
    }

    #[test]
    fn wrong_configurations_are_told() {
        assert!(problem("animls = 3").contains("did you mean `animals`?"));
        assert!(problem("[map]\nmean_spacing = 3").contains("did you mean `mean_spacing_kb`?"));
        assert!(problem("animals = 0").contains("animals: expected at least 1, found 0"));
        assert!(problem("traits = 34").contains("at most 33"));
        let one = "[[trait]]\nname = \"a\"\ngroup = \"g\"\n";
        assert!(problem(&format!("{one}h2 = 1.5")).contains("trait a: h2: expected a number from 0 to 1"));
        assert!(problem(&format!("{one}h2 = 0.6\nnon_additive = 0.6\nform = \"sine\"")).contains("1.2"));
        assert!(problem(&format!("{one}h2 = 0.5\nnon_additive = 0.1")).contains("a form with its share"));
        let link = "h2 = 0.5\nnon_additive = 0.1\nform = \"sine\"\nof = \"mlik\"\n";
        assert!(problem(&format!("{one}{link}")).contains("`mlik`"));
        assert!(
            problem(&format!("{one}h2 = 0.5\nspread = 2")).contains("spread: expected what suits Additive")
        );
        let linear = "h2 = 0.5\nnon_additive = 0.1\nform = \"linear\"\nof = \"milk\"\n";
        assert!(problem(&format!("{one}{linear}")).contains("what suits Linear, found none"));
        assert!(problem(&format!("{one}h2 = 0.5\n{one}h2 = 0.5\n")).contains("names that differ"));
        assert!(problem("[[correlation]]\nbetween = [\"milk\", \"fatt\"]\nr = 0.5").contains("`fat`"));
        assert!(problem("[[major]]\nname = \"X\"\nchromosome = 30\nplace = 0.5\neffects = {}").contains("29"));
        let big = "[[major]]\nname = \"X\"\nchromosome = 3\nplace = 0.5\neffects = { milk = 0.9 }";
        assert!(problem(big).contains("shares of its major genes"));
    }
}
