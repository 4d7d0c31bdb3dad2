//! Files of trained generators: HDF5 with the attributes `format`, `format_version`, `kind`, `created_by`,
//! `animals` (that it learned from) and `config` (TOML).
//!
//! `/variants/*` as in a store, `/genotype_frequency` (m, 3), with conditions `/conditions/{names,mean,sd,values}`
//! (c), (c), (c), (n, c), and what the kind needs in `/generator`.

use super::{Conditions, Generator, Herd, Kind, Recipe};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::genotype::store::{read_variants, write_variants};
use crate::genotype::Variants;
use crate::hdf::{self, Format, Group, GroupWriter, Number};
use crate::nn::stack::{Plan, Stack};
use crate::nn::{weights, Ranks};
use crate::packed::{Packed, PER_BYTE};
use ndarray::{Array2, ArrayView2};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The files of generators.
pub static FORMAT: Format = Format {
    name: "genialearn-generator",
    version: 3,
    what: "a model of a generator",
    advice: "make it again with `genialearn train`, such as `train wgan` or `train mosaic`",
};

/// What the files of all kinds hold.
pub struct Header {
    /// The kind of generator.
    pub kind: String,
    /// How it was configured, as TOML.
    pub config: String,
    /// Number of animals that it learned from.
    pub animals: usize,
    /// The SNPs.
    pub variants: Variants,
    /// Frequencies of the genotypes 0, 1 and 2 among these animals, (m, 3).
    pub frequencies: Array2<f64>,
    /// The conditions that it takes.
    pub conditions: Option<Conditions>,
}

/// A trained generator and what it learned from.
pub struct Model {
    /// What all kinds have.
    pub header: Header,
    /// The generator.
    pub generator: Box<dyn Generator>,
}

impl Header {
    /// Reads what all kinds have, on every rank. Collective.
    pub fn read(world: &World, path: &Path) -> Result<Header> {
        world.agree(Reader::open(path).and_then(|reader| reader.header()))
    }

    /// The kind, as this program knows it.
    pub fn known_kind(&self, path: &Path) -> Result<&'static Kind> {
        Kind::named(&self.kind).ok_or_else(|| {
            let expected = format!("a generator of kind {}", Kind::names());
            Error::input(path.display(), expected, &self.kind, "update genialearn, or train it again")
        })
    }
}

impl Model {
    /// A generator that has just been trained.
    pub fn new(kind: &Kind, recipe: &dyn Recipe, herd: &Herd, generator: Box<dyn Generator>) -> Model {
        let header = Header {
            kind: kind.name.to_owned(),
            config: recipe.text(),
            animals: herd.animals(),
            variants: herd.variants.clone(),
            frequencies: herd.frequencies.clone(),
            conditions: herd.conditions.clone(),
        };
        Model { header, generator }
    }

    /// Reads a model, each rank its own SNPs. Collective.
    pub fn read(ranks: &Ranks, device: &Arc<dyn Network>, path: &Path) -> Result<Model> {
        let read = || {
            let reader = Reader::open(path)?;
            let header = reader.header()?;
            let generator = (header.known_kind(path)?.read)(&reader, &header, ranks, device)?;
            Ok(Model { header, generator })
        };
        let model: Model = ranks.world.agree(read())?;
        let conditions = model.header.conditions.as_ref().map_or(0, |c| c.names.len());
        if conditions != model.generator.conditions() {
            return ranks.world.agree(Err(damaged(path, "conditions that differ")));
        }
        Ok(model)
    }

    /// Writes the model; the root writes. Collective.
    pub fn write(&self, ranks: &Ranks, path: &Path, force: bool) -> Result<()> {
        let mut writer = ranks.world.agree(Writer::begin(ranks, path, force))?;
        writer.header(&self.header);
        self.generator.write(ranks, &mut writer)?;
        ranks.world.agree(writer.finish())
    }
}

/// A model file in the making. Only the root has one; elsewhere nothing is written. What goes wrong is told at the
/// end.
pub struct Writer {
    open: Option<Open>,
}

struct Open {
    file: hdf::Writer,
    generator: GroupWriter,
    failed: Option<Error>,
}

impl Writer {
    fn begin(ranks: &Ranks, path: &Path, force: bool) -> Result<Writer> {
        if !ranks.world.is_root() {
            return Ok(Writer { open: None });
        }
        let file = hdf::Writer::create(path, force, &FORMAT)?;
        let generator = file.root().group("generator")?;
        Ok(Writer { open: Some(Open { file, generator, failed: None }) })
    }

    fn put(&mut self, write: impl FnOnce(&Open) -> Result<()>) {
        let Some(open) = &mut self.open else { return };
        if open.failed.is_none() {
            open.failed = write(open).err();
        }
    }

    fn header(&mut self, header: &Header) {
        self.put(|open| {
            let file = open.file.root();
            file.text("kind", &header.kind)?;
            file.text("config", &header.config)?;
            file.number("animals", header.animals as u64)?;
            write_variants(file, &header.variants)?;
            file.matrix("genotype_frequency", header.frequencies.view())?;
            let Some(conditions) = &header.conditions else { return Ok(()) };
            let group = file.group("conditions")?;
            group.texts("names", &conditions.names)?;
            group.list("mean", &conditions.mean)?;
            group.list("sd", &conditions.sd)?;
            group.matrix("values", conditions.values.view())
        });
    }

    /// A matrix of the generator's own, `values` of shape (rows, columns), as the root has it; elsewhere `values` are
    /// ignored.
    pub fn matrix<T: Number>(&mut self, name: &str, (rows, columns): (usize, usize), values: &[T]) {
        self.put(|open| {
            let view = ArrayView2::from_shape((rows, columns), values).expect("whole rows");
            open.generator.matrix(name, view)
        });
    }

    /// A network that every rank has, in the group `NAME`: as [`weights`] has it, with the attribute `plan` (JSON).
    pub fn stack(&mut self, name: &str, stack: &Stack) -> Result<()> {
        if self.open.is_none() {
            return Ok(());
        }
        let mut parameters = vec![0f32; stack.parameters.len()];
        stack.device().read_singles(stack.parameters.whole(), &mut parameters)?;
        let running = stack.running.read(&**stack.device())?;
        let plan = serde_json::to_string(stack.plan()).expect("plain fields serialize");
        self.put(|open| {
            let group = open.generator.group(name)?;
            group.text("plan", &plan)?;
            weights::write(&group, stack.parts(), &parameters, &running)
        });
        Ok(())
    }

    /// A text of the generator's own.
    pub fn text(&mut self, name: &str, text: &str) {
        self.put(|open| open.generator.text(name, text));
    }

    fn finish(self) -> Result<()> {
        match self.open {
            None => Ok(()),
            Some(Open { failed: Some(error), .. }) => Err(error),
            Some(Open { file, generator, .. }) => {
                drop(generator);
                file.close()?.seal(0..0)
            }
        }
    }
}

/// A model file open for reading. Every rank opens its own.
pub struct Reader {
    file: hdf::Reader,
    generator: Group,
}

impl Reader {
    /// Opens a file and looks whether it holds a generator.
    pub fn open(path: &Path) -> Result<Reader> {
        let file = hdf::Reader::open(path, &FORMAT)?;
        let generator = file.root().group("generator")?;
        Ok(Reader { file, generator })
    }

    /// What all kinds have.
    pub fn header(&self) -> Result<Header> {
        let file = self.file.root();
        let animals = usize::try_from(file.number::<u64>("animals")?).unwrap_or(usize::MAX);
        let header = Header {
            kind: file.text("kind")?,
            config: file.text("config")?,
            animals,
            variants: read_variants(file, animals)?,
            frequencies: file.matrix("genotype_frequency")?,
            conditions: if file.has("conditions") { Some(self.conditions()?) } else { None },
        };
        let conditions = header.conditions.as_ref().is_none_or(Conditions::is_whole);
        if header.frequencies.dim() != (header.variants.len(), 3) || !conditions {
            return Err(self.damaged("parts whose lengths differ"));
        }
        if !header.frequencies.iter().all(|p| p.is_nan() || (0.0..=1.0).contains(p)) {
            return Err(self.damaged("genotype frequencies outside of 0 to 1"));
        }
        Ok(header)
    }

    fn conditions(&self) -> Result<Conditions> {
        let group = self.file.root().group("conditions")?;
        let conditions = Conditions {
            names: group.names("names")?,
            mean: group.list("mean")?,
            sd: group.list("sd")?,
            values: group.matrix("values")?,
        };
        let mut numbers = conditions.mean.iter().chain(&conditions.sd).chain(&conditions.values);
        match numbers.all(|v| v.is_finite()) {
            true => Ok(conditions),
            false => Err(self.damaged("conditions that are no numbers")),
        }
    }

    /// The shape of a matrix of the generator's own.
    pub fn shape(&self, name: &str) -> Result<[usize; 2]> {
        let shape = self.generator.shape(name)?;
        shape.try_into().map_err(|_| self.damaged(&format!("{name} that is no matrix")))
    }

    /// A matrix of the generator's own, which must have the shape (rows, columns), row by row.
    pub fn matrix<T: Number>(&self, name: &str, (rows, columns): (usize, usize)) -> Result<Vec<T>> {
        self.part(name, (rows, columns), 0..rows, 0..columns)
    }

    /// A part of it.
    pub fn part<T: Number>(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
        some: Range<usize>,
        of_row: Range<usize>,
    ) -> Result<Vec<T>> {
        if self.generator.shape(name)? != [rows, columns] {
            return Err(self.damaged(&format!("{name} of another shape than {rows} x {columns}")));
        }
        if some.is_empty() || of_row.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.generator.part(name, some, of_row)?.into_raw_vec_and_offset().0)
    }

    /// Calls that stand packed in a matrix of bytes, (animals, ceil(m/4)): those of some SNPs, from a multiple of
    /// four on.
    pub fn calls(&self, name: &str, (animals, m): (usize, usize), snps: Range<usize>) -> Result<Packed> {
        let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
        let data = self.part(name, (animals, m.div_ceil(PER_BYTE)), 0..animals, bytes)?;
        Ok(Packed::from_bytes(animals, snps.len(), data))
    }

    /// A network, as [`Writer::stack`] wrote it, with so many `inputs`, `conditions` and outputs.
    pub fn stack(
        &self,
        name: &str,
        device: &Arc<dyn Network>,
        (inputs, conditions, outputs): (usize, usize, usize),
    ) -> Result<Stack> {
        let group = self.generator.group(name)?;
        let plan: Plan = serde_json::from_str(&group.text("plan")?)
            .map_err(|_| self.damaged(&format!("a plan of {name} that is none")))?;
        if (plan.inputs, plan.conditions, plan.outputs()?) != (inputs, conditions, outputs) {
            return Err(self.damaged(&format!("a network {name} of another shape")));
        }
        // Read before the network is made: a damaged plan may ask for more than there is.
        let (parameters, running) = weights::read::<f32>(&group, &plan.parts()?, &plan.normalised()?)?;
        let mut stack = Stack::blank(device, &plan)?;
        device.write_singles(&parameters, stack.parameters.whole_mut())?;
        stack.running.write(&**device, &running)?;
        Ok(stack)
    }

    /// A text of the generator's own.
    pub fn text(&self, name: &str) -> Result<String> {
        self.generator.text(name)
    }

    /// An error about a file that is not what it should be.
    pub fn damaged(&self, found: &str) -> Error {
        self.file.root().damaged(found)
    }
}

fn damaged(path: &Path, found: &str) -> Error {
    Error::input(path.display(), FORMAT.what, format!("a damaged one ({found})"), FORMAT.advice)
}
