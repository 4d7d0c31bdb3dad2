//! What a simulated herd is like: every number that the simulator uses, with its default.

mod check;

use super::defaults;

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

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
        let page = include_str!("../../docs/simulation.md");
        let text = page.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config = config::parse::<SimulationConfig>(text, Path::new("docs")).unwrap();
        config.check().unwrap();
        // The page shows the defaults, and the lists of a small herd.
        let default = SimulationConfig::default();
        assert_eq!((config.founders, config.map), (default.founders, default.map));
        assert_eq!(config.trait_list.len(), 2);
    }
}
