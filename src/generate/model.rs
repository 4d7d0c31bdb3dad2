//! Files of trained generators: HDF5 with the attributes `format`, `format_version`, `kind`, `created_by`,
//! `animals` (that it learned from) and `config` (TOML).
//!
//! `/variants/*` as in a store, `/genotype_frequency` (m, 3), with conditions `/conditions/{names,mean,sd,values}`
//! (c), (c), (c), (n, c), and what the kind needs in `/generator`.

use super::{Conditions, Generator, Herd, Kind, Recipe};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::genotype::store::{read_texts, read_variants, write_text_attr, write_texts, write_variants};
use crate::genotype::Variants;
use crate::nn::stack::{Plan, Stack};
use crate::nn::Ranks;
use crate::output::Draft;
use crate::packed::{Packed, PER_BYTE};
use hdf5::types::VarLenUnicode;
use hdf5::H5Type;
use ndarray::{Array2, ArrayView2};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the attribute `format` says.
pub const FORMAT: &str = "genialearn-generator";
/// The newest layout that this program reads, and the one that it writes.
pub const FORMAT_VERSION: u64 = 1;

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
            return ranks.world.agree(Err(not_a_generator(path, "one whose conditions differ")));
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
    target: PathBuf,
}

struct Open {
    draft: Draft,
    file: hdf5::File,
    failed: Option<hdf5::Error>,
}

impl Writer {
    fn begin(ranks: &Ranks, path: &Path, force: bool) -> Result<Writer> {
        let target = path.to_owned();
        if !ranks.world.is_root() {
            return Ok(Writer { open: None, target });
        }
        let draft = Draft::new(path, force)?;
        let file = hdf5::File::create(draft.path()).map_err(|e| unwritable(path, &e))?;
        Ok(Writer { open: Some(Open { draft, file, failed: None }), target })
    }

    fn put(&mut self, write: impl FnOnce(&hdf5::File) -> hdf5::Result<()>) {
        let Some(open) = &mut self.open else { return };
        if open.failed.is_none() {
            open.failed = write(&open.file).err();
        }
    }

    fn header(&mut self, header: &Header) {
        self.put(|file| {
            write_text_attr(file, "format", FORMAT)?;
            write_text_attr(file, "kind", &header.kind)?;
            write_text_attr(file, "config", &header.config)?;
            write_text_attr(file, "created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
            for (name, value) in [("format_version", FORMAT_VERSION), ("animals", header.animals as u64)] {
                file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
            }
            write_variants(file, &header.variants)?;
            file.new_dataset_builder().with_data(&header.frequencies).create("genotype_frequency")?;
            file.create_group("generator")?;
            let Some(conditions) = &header.conditions else { return Ok(()) };
            let group = file.create_group("conditions")?;
            write_texts(&group, "names", &conditions.names)?;
            group.new_dataset_builder().with_data(&conditions.mean).create("mean")?;
            group.new_dataset_builder().with_data(&conditions.sd).create("sd")?;
            group.new_dataset_builder().with_data(&conditions.values).create("values")?;
            Ok(())
        });
    }

    /// A matrix of the generator's own, `values` of shape (rows, columns), as the root has it; elsewhere `values` are
    /// ignored.
    pub fn matrix<T: H5Type>(&mut self, name: &str, (rows, columns): (usize, usize), values: &[T]) {
        self.put(|file| {
            let view = ArrayView2::from_shape((rows, columns), values).expect("whole rows");
            file.group("generator")?.new_dataset_builder().with_data(view).create(name)?;
            Ok(())
        });
    }

    /// A chain of steps that every rank has: `NAME.plan` (JSON), `NAME.parameters` and `NAME.running` (mean, variance).
    pub fn stack(&mut self, name: &str, stack: &Stack) -> Result<()> {
        if self.open.is_none() {
            return Ok(());
        }
        let mut parameters = vec![0f32; stack.parameters.len()];
        stack.device().read_singles(stack.parameters.whole(), &mut parameters)?;
        let running: Vec<f64> =
            stack.running.iter().flat_map(|r| r.mean.iter().chain(&r.variance)).copied().collect();
        let plan = serde_json::to_string(stack.plan()).expect("plain fields serialize");
        self.text(&format!("{name}.plan"), &plan);
        self.matrix(&format!("{name}.parameters"), (1, parameters.len()), &parameters);
        self.matrix(&format!("{name}.running"), (1, running.len()), &running);
        Ok(())
    }

    /// A text of the generator's own.
    pub fn text(&mut self, name: &str, text: &str) {
        self.put(|file| write_text_attr(&*file.group("generator")?, name, text));
    }

    fn finish(self) -> Result<()> {
        let Some(Open { draft, file, failed }) = self.open else { return Ok(()) };
        match failed.map_or_else(|| file.flush(), Err) {
            Err(e) => Err(unwritable(&self.target, &e)),
            Ok(()) => {
                drop(file);
                draft.commit()
            }
        }
    }
}

/// A model file open for reading. Every rank opens its own.
pub struct Reader {
    file: hdf5::File,
    path: PathBuf,
}

impl Reader {
    /// Opens a file and looks whether it holds a generator.
    pub fn open(path: &Path) -> Result<Reader> {
        std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
        if path.is_dir() {
            return Err(Error::reading(path, &std::io::ErrorKind::IsADirectory.into()));
        }
        let file =
            hdf5::File::open(path).map_err(|_| not_a_generator(path, "another file, or a truncated one"))?;
        let reader = Reader { file, path: path.to_owned() };
        let format = reader.file.attr("format").and_then(|a| a.read_scalar::<VarLenUnicode>());
        match format {
            Ok(format) if format.as_str() == FORMAT => {}
            Ok(format) => return Err(not_a_generator(path, format.as_str())),
            Err(_) => return Err(not_a_generator(path, "an HDF5 file of another program")),
        }
        let version: u64 = reader.whole(reader.file.attr("format_version").and_then(|a| a.read_scalar()))?;
        if version > FORMAT_VERSION {
            let expected = format!("a generator of format {FORMAT_VERSION} or older");
            return Err(Error::input(path.display(), expected, version, "update genialearn"));
        }
        Ok(reader)
    }

    /// What all kinds have.
    pub fn header(&self) -> Result<Header> {
        let text = |name: &str| -> hdf5::Result<String> {
            Ok(self.file.attr(name)?.read_scalar::<VarLenUnicode>()?.as_str().to_owned())
        };
        let header = || -> hdf5::Result<Header> {
            let animals: u64 = self.file.attr("animals")?.read_scalar()?;
            Ok(Header {
                kind: text("kind")?,
                config: text("config")?,
                animals: usize::try_from(animals).unwrap_or(usize::MAX),
                variants: read_variants(&self.file)?,
                frequencies: self.file.dataset("genotype_frequency")?.read_2d()?,
                conditions: if self.file.link_exists("conditions") { Some(self.conditions()?) } else { None },
            })
        };
        let header = self.whole(header())?;
        let (m, v) = (header.variants.len(), &header.variants);
        let lengths = [v.chromosome.len(), v.position.len(), v.counted_allele.len(), v.other_allele.len()];
        let conditions = header.conditions.as_ref().is_none_or(Conditions::is_whole);
        let same = lengths == [m; 4] && v.cm.len() == m && header.frequencies.dim() == (m, 3);
        if !(same && conditions) {
            return Err(self.damaged("parts whose lengths differ"));
        }
        Ok(header)
    }

    fn conditions(&self) -> hdf5::Result<Conditions> {
        let group = self.file.group("conditions")?;
        Ok(Conditions {
            names: read_texts(&group, "names")?,
            mean: group.dataset("mean")?.read_raw()?,
            sd: group.dataset("sd")?.read_raw()?,
            values: group.dataset("values")?.read_2d()?,
        })
    }

    /// A matrix of the generator's own, which must have the shape (rows, columns), row by row.
    pub fn matrix<T: H5Type>(&self, name: &str, (rows, columns): (usize, usize)) -> Result<Vec<T>> {
        self.part(name, (rows, columns), 0..rows, 0..columns)
    }

    /// A part of it.
    pub fn part<T: H5Type>(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
        some: Range<usize>,
        of_row: Range<usize>,
    ) -> Result<Vec<T>> {
        let set = self.whole(self.file.dataset(&format!("generator/{name}")))?;
        if set.shape() != [rows, columns] {
            return Err(self.damaged(&format!("{name} of another shape than {rows} x {columns}")));
        }
        if some.is_empty() || of_row.is_empty() {
            return Ok(Vec::new());
        }
        let part: Array2<T> = self.whole(set.read_slice_2d((some, of_row)))?;
        Ok(part.into_raw_vec_and_offset().0)
    }

    /// Calls that stand packed in a matrix of bytes, (animals, ceil(m/4)): those of some SNPs, from a multiple of
    /// four on.
    pub fn calls(&self, name: &str, (animals, m): (usize, usize), snps: Range<usize>) -> Result<Packed> {
        let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
        let data = self.part(name, (animals, m.div_ceil(PER_BYTE)), 0..animals, bytes)?;
        Ok(Packed::from_bytes(animals, snps.len(), data))
    }

    /// A chain of steps, as [`Writer::stack`] wrote it, with so many `inputs`, `conditions` and outputs.
    pub fn stack(
        &self,
        name: &str,
        device: &Arc<dyn Network>,
        (inputs, conditions, outputs): (usize, usize, usize),
    ) -> Result<Stack> {
        let plan: Plan = serde_json::from_str(&self.text(&format!("{name}.plan"))?)
            .map_err(|_| self.damaged(&format!("a plan of {name} that is none")))?;
        if (plan.inputs, plan.conditions, plan.outputs()?) != (inputs, conditions, outputs) {
            return Err(self.damaged(&format!("a network {name} of another shape")));
        }
        // Read before the network is made: a damaged plan may ask for more than there is.
        let parameters: Vec<f32> = self.matrix(&format!("{name}.parameters"), (1, plan.parameters()?))?;
        let mut stack = Stack::new(device, &plan, 0, 0)?;
        device.write_singles(&parameters, stack.parameters.whole_mut())?;
        let length = stack.running.iter().map(|r| 2 * r.mean.len()).sum();
        let running: Vec<f64> = self.matrix(&format!("{name}.running"), (1, length))?;
        let mut rest = &running[..];
        for moments in &mut stack.running {
            for values in [&mut moments.mean, &mut moments.variance] {
                let (own, behind) = rest.split_at(values.len());
                values.copy_from_slice(own);
                rest = behind;
            }
        }
        Ok(stack)
    }

    /// A text of the generator's own.
    pub fn text(&self, name: &str) -> Result<String> {
        let text = || -> hdf5::Result<String> {
            let text = self.file.group("generator")?.attr(name)?.read_scalar::<VarLenUnicode>()?;
            Ok(text.as_str().to_owned())
        };
        self.whole(text())
    }

    /// An error about a file that is not what it should be.
    pub fn damaged(&self, found: &str) -> Error {
        Error::input(self.path.display(), "a whole generator", found, "train it again")
    }

    fn whole<T>(&self, read: hdf5::Result<T>) -> Result<T> {
        read.map_err(|e| self.damaged(&format!("a damaged one ({})", first_line(&e))))
    }
}

fn not_a_generator(path: &Path, found: &str) -> Error {
    let advice = "make one with `genialearn train`, such as `train wgan` or `train mosaic`";
    Error::input(path.display(), "a model of a generator", found, advice)
}

fn unwritable(path: &Path, err: &hdf5::Error) -> Error {
    Error::failed(
        path.display(),
        format!("cannot be written ({})", first_line(err)),
        "free some disk space or choose another --out; nothing was left behind",
    )
}

fn first_line(err: &hdf5::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}
