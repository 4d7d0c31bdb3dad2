//! How a WGAN-GP is made and trained, with the defaults in one place.

use crate::device::network::CLASSES;
use crate::error::{Error, Result};
use crate::nn::config::Sharing;
use crate::nn::division::held_back;
use crate::nn::epochs::straight;
use crate::nn::stack::{Plan, Step};
use crate::nn::Normalisation;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Networks and training for herds of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The one that suits the number of SNPs.
    #[default]
    Auto,
    /// Some hundred animals and up to a few thousand SNPs: minutes on two cores.
    Small,
    /// One chromosome: widths m/2 and m.
    Chromosome,
    /// 50,000 SNPs: the published widths 1045, 2090 and 4180.
    HolsteinGenome,
}

/// Steps of the generator after which a small network has learned a herd.
const STEPS: usize = 6000;
/// Looks at the generated animals in a training of full length.
const LOOKS: usize = 50;
/// Animals held back, at least: balls around fewer tell nothing.
const FEWEST: usize = 20;
/// From this many SNPs on a herd has more than a small network can hold.
const SMALL: usize = 5000;
/// From this many SNPs on they are those of a genome.
const GENOME: usize = 12_000;

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 4] = [Preset::Auto, Preset::Small, Preset::Chromosome, Preset::HolsteinGenome];

    /// The name in options.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Auto => "auto",
            Preset::Small => "small",
            Preset::Chromosome => "chromosome",
            Preset::HolsteinGenome => "holstein-genome",
        }
    }

    /// Itself, or the one for `m` SNPs.
    pub fn of(self, m: usize) -> Preset {
        match self {
            Preset::Auto if m < SMALL => Preset::Small,
            Preset::Auto if m < GENOME => Preset::Chromosome,
            Preset::Auto => Preset::HolsteinGenome,
            other => other,
        }
    }

    /// Its configuration for `m` SNPs.
    pub fn config(self, m: usize) -> Config {
        let (network, training) = (Network::default(), Training::default());
        let (network, training) = match self.of(m) {
            Preset::HolsteinGenome => (
                Network { latent: 256, widths: vec![1045, 2090, 4180], ..network },
                Training { k: 100, ..training },
            ),
            Preset::Chromosome => (
                Network { latent: 128, widths: vec![(m / 2).max(1), m.max(1)], ..network },
                Training { k: 60, ..training },
            ),
            Preset::Auto | Preset::Small => {
                (network, Training { learning_rate: 5e-4, batch: 64, critic_steps: 2, epochs: 0, ..training })
            }
        };
        Config { preset: self.of(m), network, training, ranks: Sharing::default() }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Preset::ALL.into_iter().find(|p| p.name() == text);
        found.ok_or_else(|| format!("expected {}", Preset::ALL.map(Preset::name).join(", ")))
    }
}

/// A whole configuration of `train wgan`: `preset` and the tables `[network]`, `[training]` and `[ranks]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where all that is not said comes from.
    pub preset: Preset,
    /// What the networks are made of.
    pub network: Network,
    /// How they learn.
    pub training: Training,
    /// How ranks share the work.
    pub ranks: Sharing,
}

impl Default for Config {
    fn default() -> Self {
        Preset::Small.config(SMALL / 2)
    }
}

/// What generator and critic are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Normal numbers that an animal is made from.
    pub latent: usize,
    /// Units of the generator's layers from the latent numbers on; the critic has the mirror.
    pub widths: Vec<usize>,
    /// LeakyReLU's slope below zero.
    pub negative_slope: f64,
    /// Whether a residual block stands between two layers.
    pub residual: bool,
    /// How often each condition is repeated among what a layer reads.
    pub repeat: usize,
}

impl Default for Network {
    fn default() -> Self {
        Network { latent: 64, widths: vec![128, 256], negative_slope: 0.05, residual: true, repeat: 4 }
    }
}

/// How they learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Animals in a batch, at most; the batches of an epoch are nearly even.
    pub batch: usize,
    /// Rounds through the training animals, at most; 0 for as many as give 6,000 steps of the generator.
    pub epochs: usize,
    /// Steps of the critic for each of the generator.
    pub critic_steps: usize,
    /// Learning rate of both.
    pub learning_rate: f64,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Weight of the gradient penalty.
    pub gradient_penalty: f64,
    /// The most that a real zero becomes.
    pub smoothing: f64,
    /// Temperature of the classes in the first and in the last epoch.
    pub temperature: [f64; 2],
    /// Share of the animals that only the choice of the model looks at; 0 to look at the training animals, which
    /// rewards a generator that copies them.
    pub validation: f64,
    /// Epochs between looks at the generated animals; 0 for fifty looks.
    pub evaluate_every: usize,
    /// Neighbours to whom the balls of precision and recall reach; fewer among few animals that are held back.
    pub k: usize,
    /// Looks without a better F1 before training stops; 0 for never.
    pub patience: usize,
    /// Epochs between checkpoints; 0 for one after each evaluation.
    pub checkpoint_every: usize,
}

impl Default for Training {
    fn default() -> Self {
        Training {
            batch: 128,
            epochs: 1000,
            critic_steps: 5,
            learning_rate: 1e-4,
            beta1: 0.5,
            beta2: 0.9,
            epsilon: 1e-8,
            gradient_penalty: 10.0,
            smoothing: 0.025,
            temperature: [1.0, 0.1],
            validation: 0.1,
            evaluate_every: 0,
            k: 10,
            patience: 15,
            checkpoint_every: 0,
        }
    }
}

impl Training {
    /// With numbers of epochs for `n` training animals where 0 left them open.
    pub fn settled(&self, n: usize) -> Training {
        let or = |said: usize, open: usize| if said == 0 { open.max(1) } else { said };
        let epochs = or(self.epochs, (STEPS * self.critic_steps).div_ceil(self.batches(n)));
        let evaluate_every = or(self.evaluate_every, epochs / LOOKS);
        Training {
            epochs,
            evaluate_every,
            checkpoint_every: or(self.checkpoint_every, evaluate_every),
            ..self.clone()
        }
    }

    /// Share of `n` animals that are held back: none where they would be too few to tell anything.
    pub fn share(&self, n: usize) -> f64 {
        if held_back(n, self.validation) < FEWEST {
            return 0.0;
        }
        self.validation
    }

    /// Neighbours among `n` animals that are held back: a tenth of them at most, as k is chosen for whole herds.
    pub fn neighbours_among(&self, n: usize) -> usize {
        self.k.min((n / 10).max(3))
    }

    /// Batches in an epoch of `n` animals.
    pub fn batches(&self, n: usize) -> usize {
        n.div_ceil(self.batch).max(1)
    }

    /// The temperature in an epoch, from 0: a straight way (Xie et al. 2025).
    pub fn temperature_at(&self, epoch: usize) -> f64 {
        straight(self.temperature, epoch, self.epochs)
    }
}

impl Config {
    /// With numbers of epochs for a herd of `n` animals where 0 left them open.
    pub fn settled(&self, n: usize) -> Config {
        let trained = n - held_back(n, self.training.share(n));
        Config { training: self.training.settled(trained), ..self.clone() }
    }

    /// That of a preset for `m` SNPs, with what the text of a file says instead.
    pub fn of(file: Option<(&str, &Path)>, preset: Option<Preset>, m: usize) -> Result<Config> {
        let Some((text, path)) = file else { return Ok(preset.unwrap_or_default().config(m)) };
        let said: Config = crate::config::parse(text, path)?;
        let table: toml::Table = crate::config::parse(text, path)?;
        let from = if table.contains_key("preset") { said.preset } else { Preset::Auto };
        let base = preset.unwrap_or(from).config(m);
        let mut merged = toml::Table::try_from(&base).expect("plain fields serialize");
        merge(&mut merged, table);
        merged.insert("preset".into(), base.preset.name().into());
        let config: Config = merged.try_into().expect("both were configurations");
        config.check(&path.display().to_string())?;
        Ok(config)
    }

    /// An error at `place` unless it makes sense.
    pub fn check(&self, place: &str) -> Result<()> {
        let (n, t) = (&self.network, &self.training);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let share = |x: f64| (0.0..1.0).contains(&x);
        let widths =
            !n.widths.is_empty() && n.widths.len() <= 8 && n.widths.iter().all(|&h| h > 0 && h <= 1 << 16);
        let width = n.widths.iter().copied().find(|&h| h == 0 || h > 1 << 16).unwrap_or(n.widths.len());
        let rules = [
            (n.latent >= 1, "1 or more `latent` numbers", n.latent as f64),
            (widths, "one to eight `widths` of 1 to 65536 units", width as f64),
            ((0.0..=1.0).contains(&n.negative_slope), "a `negative_slope` from 0 to 1", n.negative_slope),
            (n.repeat >= 1, "a `repeat` of 1 or more", n.repeat as f64),
            (t.batch >= 2, "a `batch` of 2 or more", t.batch as f64),
            (t.critic_steps >= 1, "1 or more `critic_steps`", t.critic_steps as f64),
            (positive(t.learning_rate), "a positive `learning_rate`", t.learning_rate),
            (positive(t.epsilon), "a positive `epsilon`", t.epsilon),
            (share(t.beta1), "a `beta1` of at least 0 and below 1", t.beta1),
            (share(t.beta2), "a `beta2` of at least 0 and below 1", t.beta2),
            (
                t.gradient_penalty >= 0.0 && t.gradient_penalty.is_finite(),
                "a `gradient_penalty` of 0 or more",
                t.gradient_penalty,
            ),
            ((0.0..0.5).contains(&t.smoothing), "a `smoothing` of at least 0 and below 0.5", t.smoothing),
            (positive(t.temperature[0]), "a positive first `temperature`", t.temperature[0]),
            (positive(t.temperature[1]), "a positive last `temperature`", t.temperature[1]),
            (share(t.validation), "a `validation` of at least 0 and below 1", t.validation),
            (t.k >= 1, "1 or more `k`", t.k as f64),
        ];
        match rules.into_iter().find(|rule| !rule.0) {
            Some((_, expected, found)) => {
                Err(Error::input(place, expected, found, "set it within this range"))
            }
            None => Ok(()),
        }
    }
}

/// What `over` says takes the place of what stands in `table`.
fn merge(table: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

impl Network {
    /// A residual block: linear, normalisation, activation, linear, normalisation, sum, activation.
    fn block(&self, units: usize, normalisation: Normalisation) -> Vec<Step> {
        let bias = normalisation != Normalisation::Batch;
        let (normal, leaky) = (Step::Normalise(normalisation), Step::leaky_relu(self.negative_slope));
        let linear = |conditions: bool| Step::Linear { units, bias, conditions };
        vec![Step::Keep, linear(true), normal, leaky, linear(false), normal, Step::Add, leaky]
    }

    /// The generator up to its layer that faces SNPs, for so many conditions.
    pub fn generator(&self, conditions: usize) -> Plan {
        let (batch, leaky) = (Normalisation::Batch, Step::leaky_relu(self.negative_slope));
        let first = Step::Linear { units: self.widths[0], bias: false, conditions: true };
        let mut steps = vec![first, Step::Normalise(batch), leaky];
        for pair in self.widths.windows(2) {
            if self.residual {
                steps.extend(self.block(pair[0], batch));
            }
            steps.extend([Step::linear(pair[1]), leaky]);
        }
        Plan { snps: None, inputs: self.latent, conditions: conditions * self.repeat, steps }
    }

    /// The critic behind its layer that faces SNPs.
    pub fn critic(&self, conditions: usize) -> Plan {
        let leaky = Step::leaky_relu(self.negative_slope);
        let mut steps = vec![Step::Offset, leaky];
        for pair in self.widths.windows(2).rev() {
            if self.residual {
                steps.extend(self.block(pair[1], Normalisation::None));
            }
            steps.extend([Step::linear(pair[0]), leaky]);
        }
        steps.push(Step::linear(1));
        Plan { snps: None, inputs: self.snp_layer(), conditions: conditions * self.repeat, steps }
    }

    /// Units of the layers that face SNPs.
    pub fn snp_layer(&self) -> usize {
        *self.widths.last().expect("there are widths")
    }

    /// Parameters of generator and critic for `m` SNPs.
    pub fn parameters(&self, m: usize, conditions: usize) -> Result<[usize; 2]> {
        let (c, snp_layer) = (conditions * self.repeat, self.snp_layer());
        let [generator, critic] =
            [self.generator(conditions), self.critic(conditions)].map(|p| p.parameters());
        Ok([generator? + CLASSES * m * (snp_layer + c + 1), critic? + CLASSES * m * snp_layer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_herds_get_as_many_epochs_as_give_enough_steps() {
        let small = Preset::Small.config(800);
        // A tenth is held back; ten batches of 64 an epoch, five steps of the generator.
        let t = small.settled(710).training;
        assert_eq!((t.epochs, t.evaluate_every, t.checkpoint_every), (STEPS / 5, STEPS / 250, STEPS / 250));
        assert_eq!(small.settled(7111).training.epochs, STEPS / 50);
        // Too few to hold some back.
        assert_eq!((small.training.share(190), small.training.share(200)), (0.0, 0.1));
        assert_eq!(small.training.neighbours_among(50), 5);
        let said = Training { epochs: 7, evaluate_every: 2, validation: 0.5, ..small.training };
        let t = Config { training: said, ..small }.settled(600).training;
        assert_eq!((t.epochs, t.evaluate_every, t.checkpoint_every), (7, 2, 2));
        assert_eq!(Preset::Chromosome.config(8000).settled(600).training.epochs, 1000);
    }

    #[test]
    fn the_published_networks_have_the_published_sizes() {
        let config = Preset::HolsteinGenome.config(50_161);
        let sizes = config.network.parameters(50_161, 1).unwrap().map(|p| p as f64 / 1e6);
        assert!((sizes[0] - 652.0).abs() < 1.0 && (sizes[1] - 684.0).abs() < 1.0, "{sizes:?}");
    }

    #[test]
    fn a_file_says_what_differs_from_its_preset() {
        let path = Path::new("wgan.toml");
        let text = "preset = \"holstein-genome\"\n[training]\nepochs = 7\n";
        let config = Config::of(Some((text, path)), None, 300).unwrap();
        assert_eq!((config.training.epochs, config.training.k), (7, 100));
        assert_eq!((config.network.latent, config.network.widths.len()), (256, 3));
        let small = Config::of(Some((text, path)), Some(Preset::Small), 300).unwrap();
        assert_eq!((small.training.epochs, small.network.latent), (7, 64));
        assert_eq!(Config::of(None, None, 6000).unwrap().network.widths, [3000, 6000]);
        let e = Config::of(Some(("[training]\nbacth = 3\n", path)), None, 300).unwrap_err();
        assert!(e.to_string().contains("did you mean `batch`?"), "{e}");
        let e = Config::of(Some(("[network]\nwidths = []\n", path)), None, 300).unwrap_err();
        assert!(e.to_string().contains("`widths`"), "{e}");
    }

    #[test]
    fn the_temperature_falls_to_its_last_value() {
        let training = Training { epochs: 11, ..Training::default() };
        for (epoch, temperature) in [(0, 1.0), (5, 0.55), (10, 0.1)] {
            assert!((training.temperature_at(epoch) - temperature).abs() < 1e-12);
        }
    }
}
